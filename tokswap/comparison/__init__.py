"""Comparing methods on one pair: what is asked for, what is kept, and the work itself."""
