"""Vocabularies as bytes: what a token is, which tokens two models share, how the rest is spelt."""
