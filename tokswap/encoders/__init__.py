"""Auxiliary text encoders: a vector for the text of each token, computed once and kept.

    encoder = open_encoder()                    # all-MiniLM-L6-v2, from an installed package
    vectors = embed(encoder, [" dog", " cat"])  # (2, 384)

An encoder is a sentence-transformers model, which brings its own pooling, or any Hugging Face
encoder with a pooling said by the user. What lies in its folder is read, never run.
"""

from tokswap.encoders.embed import embed
from tokswap.encoders.encoder import DEFAULT_ENCODER, Encoder, open_encoder
from tokswap.encoders.store import vectors_folder

__all__ = ["DEFAULT_ENCODER", "Encoder", "embed", "open_encoder", "vectors_folder"]
