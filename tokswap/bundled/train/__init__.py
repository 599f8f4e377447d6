"""Trains the two bundled models from scratch on the standard library of the running Python."""
