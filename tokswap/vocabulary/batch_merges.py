"""Dynamic tokens: the most frequent neighbours in a batch of texts become one token, for it alone.

The algorithm is that of byte-pair encoding, with a batch for a corpus (Feher, Vulić and Minixhofer,
ACL 2025, arXiv 2411.18553). Pairs are counted once; a merge changes the counts of its neighbours
only, so that it takes what its occurrences take.
"""

from collections.abc import Sequence
from heapq import heapify, heappop, heappush

from tokswap.vocabulary.boundary import Holds
from tokswap.vocabulary.tokens import Vocabulary

Pair = tuple[int, int]


class BatchMerger:
    """Merges neighbours in a batch of sequences of token ids, one pair everywhere at a time.

    The pair that occurs most often is merged first; of equals the one with the lowest ids. In a
    run of one token, neighbours are counted as they stand and merged from the left. Tokens with the
    same bytes are one token: a pair whose bytes are a base token's becomes that token. Special
    tokens merge with nothing.

    Args:
        sequences: Token ids, of the base alone.
        vocabulary: The base's vocabulary.
        holds: Tells which bytes may be one token (:func:`~tokswap.vocabulary.boundary.holder`).
        first: The id of the first dynamic token: the number of rows that the base has.

    Attributes:
        tokens: The dynamic tokens' bytes; ``tokens[i]`` has the id ``first + i``.
        totals: Tokens in all sequences, before the first merge and after each.
    """

    def __init__(
        self, sequences: Sequence[Sequence[int]], vocabulary: Vocabulary, holds: Holds, first: int
    ) -> None:
        self.tokens: list[bytes] = []
        self._vocabulary, self._holds, self._first = vocabulary, holds, first
        self._ids: dict[bytes, int] = {}
        self._allowed: dict[Pair, bool] = {}
        # All sequences stand behind each other; a place is linked to those beside it in its own.
        self._token = [number for sequence in sequences for number in sequence]
        self._before: list[int] = []
        self._behind: list[int] = []
        self._starts: list[int] = []
        for sequence in sequences:
            start, end = len(self._before), len(self._before) + len(sequence)
            self._starts.append(start if sequence else -1)
            self._before += [-1, *range(start, end - 1)][: len(sequence)]
            self._behind += [*range(start + 1, end), -1][: len(sequence)]
        self.totals = [len(self._token)]
        self._counts: dict[Pair, int] = {}
        self._places: dict[Pair, list[int]] = {}
        changed: set[Pair] = set()
        for place in range(len(self._token)):
            self._add(place, changed)
        self._heap = [(-self._counts[pair], pair) for pair in changed]
        heapify(self._heap)

    @property
    def merges(self) -> int:
        """How many merges have been made."""
        return len(self.totals) - 1

    def merge(self, merges: int) -> bool:
        """Merge on until so many merges have been made in all.

        Returns:
            Whether there were so many; else no two neighbours are left that may be merged.
        """
        while self.merges < merges:
            pair = self._most_frequent()
            if pair is None:
                return False
            self._merge(pair)
        return True

    def sequences(self) -> list[list[int]]:
        """Write the sequences as they are now."""
        found = []
        for start in self._starts:
            sequence, place = [], start
            while place >= 0:
                sequence.append(self._token[place])
                place = self._behind[place]
            found.append(sequence)
        return found

    def spelling(self, number: int) -> bytes:
        """Return the bytes of a token, a dynamic one or the base's; none for a special token."""
        if number >= self._first:
            return self.tokens[number - self._first]
        vocabulary = self._vocabulary
        known = number < len(vocabulary) and number not in vocabulary.special
        return (vocabulary.spelling[number] or b"") if known else b""

    def _most_frequent(self) -> Pair | None:
        # A count that changes is pushed anew: what does not agree with the counts is out of date.
        while self._heap:
            count, pair = heappop(self._heap)
            if self._counts.get(pair, 0) == -count:
                return pair
        return None

    def _merge(self, pair: Pair) -> None:
        number = self._number(self.spelling(pair[0]) + self.spelling(pair[1]))
        changed: set[Pair] = set()
        merged = 0
        for place in sorted(set(self._places.pop(pair))):
            other = self._behind[place]
            if self._token[place] != pair[0] or other < 0 or self._token[other] != pair[1]:
                continue  # merged otherwise meanwhile
            before, behind = self._before[place], self._behind[other]
            for left in (before, place, other):
                self._drop(left, changed)
            self._token[place], self._token[other] = number, -1
            self._behind[place] = behind
            if behind >= 0:
                self._before[behind] = place
            for left in (before, place):
                self._add(left, changed)
            merged += 1
        self.totals.append(self.totals[-1] - merged)
        for found in changed:
            if count := self._counts.get(found):
                heappush(self._heap, (-count, found))

    def _add(self, left: int, changed: set[Pair]) -> None:
        pair = self._pair(left)
        if pair is not None:
            self._counts[pair] = self._counts.get(pair, 0) + 1
            self._places.setdefault(pair, []).append(left)
            changed.add(pair)

    def _drop(self, left: int, changed: set[Pair]) -> None:
        pair = self._pair(left)
        if pair is not None:
            self._counts[pair] -= 1
            changed.add(pair)

    def _pair(self, left: int) -> Pair | None:
        """Return the neighbours that begin at a place, if they may be merged."""
        right = self._behind[left] if left >= 0 else -1
        if right < 0:
            return None
        pair = self._token[left], self._token[right]
        allowed = self._allowed.get(pair)
        if allowed is None:
            both = [self.spelling(number) for number in pair]
            allowed = self._allowed[pair] = all(both) and self._holds(b"".join(both))
        return pair if allowed else None

    def _number(self, data: bytes) -> int:
        """Return the id of a token's bytes, a new one where there is none."""
        own = self._vocabulary.ids.get(data, self._first)
        if own < self._first:
            return own
        if data not in self._ids:
            self._ids[data] = self._first + len(self.tokens)
            self.tokens.append(data)
        return self._ids[data]
