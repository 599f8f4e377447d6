"""Rows for any bytes, when they are asked for: a vocabulary without an end."""
