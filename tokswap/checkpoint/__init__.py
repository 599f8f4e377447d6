"""Checkpoints on disk: where the files come from, where the vocabulary's tensors lie, writing."""
