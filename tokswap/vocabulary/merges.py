"""Merges that make new tokens reachable in BPE, with as few tokens on the way as may be.

BPE joins two pieces at a time, by the merge of the highest rank that applies. New merges come
behind all old ones, so a text is first cut as it was, and only then do pieces join that make a new
token. A token of which the tokenizer makes two pieces needs a merge and nothing else. One of more
pieces needs tokens on the way, which will stand in other texts too: an intermediate token is new, a
bridge is a token that was there and that no merge has made of these pieces.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tokswap.errors import VocabularyError

Pair = tuple[str, str]

BRIDGE = 1e-3
"""What a bridge costs beside an intermediate token's 1: it is taken where it spares one."""

SHORT = 0.05
"""What an intermediate token of one character would cost more than a very long one.

Of those that do as well, the longest stands in the fewest other texts: for 300 words of a text the
intermediate tokens fired a fifth less often there than where the first that did was taken.
"""


@dataclass(frozen=True)
class NewMerges:
    """What is added to a BPE model.

    Attributes:
        pairs: The merges, the highest rank first.
        intermediates: Tokens that are needed on the way, in the order in which they were found.
        bridges: Tokens of the model that are made on the way, and of other pieces than before.
    """

    pairs: tuple[Pair, ...]
    intermediates: tuple[str, ...]
    bridges: tuple[str, ...]


def join(pieces: Sequence[str], ranks: Mapping[Pair, int]) -> list[str]:
    """Apply merges to pieces until none applies: the one of the lowest rank first, from the left.

    Reference:
        Sennrich et al. (2016), https://arxiv.org/abs/1508.07909.
    """
    found = list(pieces)
    while len(found) > 1:
        places = (
            (rank, place)
            for place, pair in enumerate(pairwise(found))
            if (rank := ranks.get(pair)) is not None
        )
        best = min(places, default=None)
        if best is None:
            break
        place = best[1]
        found[place : place + 2] = [found[place] + found[place + 1]]
    return found


def new_merges(
    targets: Sequence[str],
    *,
    tokens: Collection[str],
    merges: Sequence[Pair],
    forbidden: Collection[str] = (),
    alone: bool = False,
) -> NewMerges:
    """Find merges that make each target the one token that its own text becomes.

    Every pair of tokens that make a target gets a merge, for it costs nothing. Where that is not
    enough, tokens on the way are chosen target by target, the shortest first, so that what is
    needed by several counts less for each.

    Args:
        targets: New tokens as the model writes them.
        tokens: The model's tokens.
        merges: Its merges, the highest rank first.
        forbidden: Tokens that no merge may make, such as special ones.
        alone: Whether the model takes a word from its tokens before it merges; then a target needs
            no tokens on the way where it is a word of its own.

    Raises:
        VocabularyError: If a target can be made only by way of forbidden tokens.
    """
    work = _Work(targets, tokens, merges, forbidden)
    if not alone:
        work.add_letters()
    work.add_splits()
    if not alone:
        work.build()
        work.add_splits()
    return NewMerges(tuple(work.pairs), tuple(work.intermediates), tuple(work.bridges))


class _Work:
    """The state of the search: what is known, and how each target is cut by now."""

    def __init__(
        self,
        targets: Sequence[str],
        tokens: Collection[str],
        merges: Sequence[Pair],
        forbidden: Collection[str],
    ) -> None:
        self.targets = sorted(targets, key=lambda target: (len(target), target))
        self.old, self.forbidden = frozenset(tokens), frozenset(forbidden)
        self.ranks = {pair: rank for rank, pair in enumerate(merges)}
        self.pairs: list[Pair] = []
        self.intermediates: dict[str, None] = {}
        self.bridges: dict[str, None] = {}
        self.known = {*tokens, *targets} - self.forbidden
        self.wanted = frozenset(targets)

    def add(self, left: str, right: str) -> None:
        """Add a merge, and what it makes."""
        made = left + right
        self.ranks[left, right] = len(self.ranks)
        self.pairs.append((left, right))
        if made in self.wanted:
            return
        if made in self.old:
            self.bridges[made] = None
        else:
            self.intermediates[made] = None
            self.known.add(made)

    def add_letters(self) -> None:
        """Make tokens of the characters that the model spells by bytes, or not at all.

        Bytes cannot be merged, for what is made of them would be no text.
        """
        letters = {c for target in self.targets for c in target} - self.old - self.wanted
        self.intermediates |= dict.fromkeys(sorted(letters))
        self.known |= letters

    def add_splits(self) -> None:
        """Add a merge of every two tokens that make a target."""
        for target in self.targets:
            for place in range(1, len(target)):
                left, right = target[:place], target[place:]
                both = left in self.known and right in self.known
                if both and (left, right) not in self.ranks:
                    self.add(left, right)

    def build(self) -> None:
        """Add merges until each target is cut into one piece."""
        cuts = {target: join(target, self.ranks) for target in self.targets}
        pending = {target: cut for target, cut in cuts.items() if len(cut) > 1}
        needed = Counter(span for cut in pending.values() for span in set(_spans(cut)))
        holding: defaultdict[Pair, set[str]] = defaultdict(set)
        for target, cut in pending.items():
            for pair in pairwise(cut):
                holding[pair].add(target)
        for target in self.targets:
            while len(pending.get(target, ())) > 1:
                pair = self.first_join(pending[target], needed)
                self.add(*pair)
                for other in holding.pop(pair, ()):
                    cut = pending[other] = join(pending[other], self.ranks)
                    for following in pairwise(cut):
                        holding[following].add(other)

    def first_join(self, cut: Sequence[str], needed: Mapping[str, int]) -> Pair:
        """Choose which two pieces of a cut to join first: the first join of the cheapest tree.

        Args:
            cut: The pieces, two or more.
            needed: In how many cuts each joined span stands.

        Raises:
            VocabularyError: If every tree has a forbidden token in it.
        """
        cost: dict[tuple[int, int], float] = {}
        split: dict[tuple[int, int], int] = {}
        for start in range(len(cut)):
            cost[start, start + 1] = 0.0
        for length in range(2, len(cut) + 1):
            for start in range(len(cut) - length + 1):
                end = start + length
                places = range(start + 1, end)
                halves = [cost[start, place] + cost[place, end] for place in places]
                best = min(range(len(halves)), key=halves.__getitem__)
                split[start, end] = places[best]
                cost[start, end] = halves[best] + self._price("".join(cut[start:end]), needed)
        start, end = 0, len(cut)
        if cost[start, end] == float("inf"):
            raise VocabularyError(
                f"the token {''.join(cut)!r} can only be made by way of one that is special; "
                "leave it out"
            )
        while end - start > 2:
            place = split[start, end]
            start, end = (start, place) if place - start > 1 else (place, end)
        return cut[start], cut[start + 1]

    def _price(self, made: str, needed: Mapping[str, int]) -> float:
        """What it costs to make a token: nothing if it is wanted, little if it is there already."""
        if made in self.forbidden:
            return float("inf")
        if made in self.wanted or made in self.intermediates:
            return 0.0
        if made in self.old:
            return BRIDGE
        return 1.0 / max(needed.get(made, 0), 1) + SHORT / len(made)


def _spans(cut: Sequence[str]) -> Iterator[str]:
    """Join every run of two pieces or more that is not the whole cut."""
    for start in range(len(cut)):
        for end in range(start + 2, len(cut) + (start > 0)):
            yield "".join(cut[start:end])
