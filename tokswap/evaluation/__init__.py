"""Measuring a causal language model by bits per byte, whatever its tokenizer."""
