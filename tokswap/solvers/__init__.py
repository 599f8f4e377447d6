"""Solvers: what is computed on tensors alone, with no word of tokens, files or settings."""
