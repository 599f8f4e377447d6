"""Whether a chat template suits a tokenizer: what it writes must be read as it is meant."""

from collections.abc import Mapping, Sequence

from tokswap.checkpoint.chat_template import DEFAULT, read_templates
from tokswap.checkpoint.processor import named_tokens
from tokswap.checkpoint.source import Checkpoint
from tokswap.checkpoint.turns import Turns, cut_marks, read_turns
from tokswap.vocabulary.tokens import Vocabulary


def spoiled(
    called: str, turns: Mapping[str, Turns], vocabulary: Vocabulary, others: Sequence[str] = ()
) -> tuple[list[str], list[str]]:
    """Say what of chat templates spoils every chat.

    Args:
        called: What to call the templates.
        turns: What they write, by their names.
        vocabulary: The vocabulary that will read it.
        others: Further strings that are meant as one token.

    Returns:
        The faults, and the marks that the tokenizer cuts into pieces.
    """
    main = turns.get(DEFAULT) or next(iter(turns.values()))
    faults = []
    if main.fault:
        faults.append(f"{called} cannot be used with the donor's tokenizer ({main.fault})")
    cut = cut_marks("\n".join(turn.written for turn in turns.values()), vocabulary, others)
    if cut:
        faults.append(
            f"{called} writes {listed(cut)}, which the donor's tokenizer cuts into pieces"
        )
    return faults, cut


def own_chat_fault(base: Checkpoint, donor: Checkpoint) -> str | None:
    """Tell why a base's own chat template does not suit a donor's tokenizer, if it does not."""
    templates = read_templates(base.files)
    if not templates:
        return None
    vocabulary, tokens = donor.vocabulary, named_tokens(donor)
    turns = {name: read_turns(text, vocabulary, tokens) for name, text in templates.items()}
    called, others = f"the chat template of {base.name}", sorted(base.vocabulary.special_ids)
    return "; ".join(spoiled(called, turns, vocabulary, others)[0]) or None


def listed(names: Sequence[str]) -> str:
    """Name the first four of some marks."""
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more
