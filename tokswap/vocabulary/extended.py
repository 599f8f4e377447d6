"""Whether a tokenizer that was extended does what it should, tried by the real library."""

from collections.abc import Iterator

from tokswap.errors import RecipeError, VocabularyError
from tokswap.vocabulary.extend import Extension
from tokswap.vocabulary.identity import goes_on
from tokswap.vocabulary.pieces import cut
from tokswap.vocabulary.tokens import Vocabulary


def check_extended(old: Vocabulary, new: Vocabulary, extension: Extension) -> None:
    """Check that old tokens stay, new ones are reached, and texts with them come back.

    Args:
        old: The tokenizer before.
        new: The tokenizer after, as it was read from its files again.
        extension: What was added.

    Raises:
        RecipeError: If text around added tokens does not come back, as in tokenizers that begin
            every stretch between them with a space.
        VocabularyError: If something else is not as it should be.
    """
    if not goes_on(old, new):
        raise VocabularyError(
            f"{old.name} cannot be extended, for its tokens would not stay what they are; please "
            "report this"
        )
    if extension.how == "added":
        texts = list(extension.tokens)
        found = [e.ids for e in new.backend.encode_batch(texts, add_special_tokens=False)]
    else:
        found = cut(new, [token.encode() for token in extension.tokens])
    for (token, number), ids in zip(extension.tokens.items(), found, strict=True):
        if ids != [number]:
            shown = " ".join(new.show(n) for n in ids)
            raise VocabularyError(
                f"{token!r} is not reached in {old.name}, which cuts it as {shown}; leave it out"
            )
    for text, back in _lost(old, new, extension):
        raise RecipeError(
            f"{text!r} would come back from {old.name} as {back!r} with the new tokens among its "
            "own; " + ("use `--as merges`" if extension.how == "added" else "leave them out")
        )


def _lost(old: Vocabulary, new: Vocabulary, extension: Extension) -> Iterator[tuple[str, str]]:
    """Find texts that come back from the old tokens and not from the new ones, and as what."""
    forms = ["x {} x", "{} x"]
    # WordPiece writes an added token apart from the word it stands in, like every other one.
    if extension.how == "merges" or old.alphabet != "wordpiece":
        forms += ["x{}x", "{0}{0}"]
    texts = [form.format(token) for token in extension.tokens for form in forms]
    before, after = (_back(vocabulary, texts) for vocabulary in (old, new))
    for text, was, now in zip(texts, before, after, strict=True):
        if was == text != now:
            yield text, now


def _back(vocabulary: Vocabulary, texts: list[str]) -> list[str]:
    backend = vocabulary.backend
    encoded = backend.encode_batch(texts, add_special_tokens=False)
    return [
        str(text)
        for text in backend.decode_batch(
            [encoding.ids for encoding in encoded], skip_special_tokens=False
        )
    ]
