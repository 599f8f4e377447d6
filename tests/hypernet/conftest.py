"""Tokenizers of every alphabet, as the vocabulary's own tests have them."""

from tests.vocabulary.conftest import make, real, small  # noqa: F401 - fixtures
