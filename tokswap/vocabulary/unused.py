"""Ids that no text ever becomes: padding, gaps, and tokens that are kept for later."""

import re

from tokswap.vocabulary.tokens import Vocabulary

RESERVED = re.compile(
    r"[<\[][|_]?(reserved|unused|dummy|extra|special|control|placeholder)"
    r"[a-z_]*?[_ ]?\d+[|_]?[>\]]",
    re.IGNORECASE,
)
"""How tokens are written that are kept for later: ``<|reserved_special_token_7|>``, ``<unused7>``,
``[control_7]``, ``<SPECIAL_7>``, ``<|extra_7|>``."""


def unused_ids(vocabulary: Vocabulary, rows: int) -> list[int]:
    """List the ids whose rows were most likely never trained.

    Args:
        vocabulary: The tokens.
        rows: Rows of the table.

    Returns:
        Ids without a token, padding behind the last token included, and reserved tokens that play
        no role; ascending, all below ``rows``.
    """
    roles = set(vocabulary.roles.values())
    return [
        number
        for number in range(rows)
        if number >= len(vocabulary)
        or vocabulary.spelling[number] is None
        or (number not in roles and RESERVED.fullmatch(vocabulary.strings[number]))
    ]
