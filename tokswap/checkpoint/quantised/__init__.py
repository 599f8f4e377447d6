"""Checkpoints with quantised weights: what they say, which tensors make one weight, its numbers.

Only vocabulary tensors are ever turned into plain ones; a quantised body is carried as it is.
"""
