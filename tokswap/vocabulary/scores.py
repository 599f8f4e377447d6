"""Scores that make new pieces reachable in Unigram, and leave other text as it was."""

from collections.abc import Mapping, Sequence

MARGIN = 1e-4
"""By how much a new piece is better than the best path through others: far more than rounding, far
less than what parts one path of old pieces from the next."""

UNKNOWN = 10.0
"""By how much a character without a piece is worse than the worst piece, in the tokenizers library
as in SentencePiece."""


def new_scores(
    targets: Sequence[str], scores: Mapping[str, float], *, worst: float
) -> dict[str, float]:
    """Find the score of each new piece: just above what its text costs in other pieces.

    So the best path changes only where it went through all of a new piece's text from end to end.
    No score is below the worst one there was, from which that of unknown text is reckoned: a long
    piece may come out better than it need be, which shows in texts that hold it.

    Args:
        targets: New pieces as the model writes them.
        scores: The model's pieces with their scores; those that text never becomes left out.
        worst: The worst score of all pieces.

    Returns:
        A score for each target.

    Reference:
        Kudo (2018), https://arxiv.org/abs/1804.10959.
    """
    known = dict(scores)
    longest = max(map(len, [*scores, *targets]), default=1)
    found = {}
    for target in sorted(targets, key=lambda target: (len(target), target)):
        best = best_score(target, known, longest=longest, unknown=worst - UNKNOWN)
        found[target] = known[target] = max(best + MARGIN, worst)
    return {target: found[target] for target in targets}


def best_score(text: str, scores: Mapping[str, float], *, longest: int, unknown: float) -> float:
    """Return the score of the best path through a text, by Viterbi's algorithm.

    Args:
        text: As the model reads it.
        scores: Pieces with their scores.
        longest: Characters of the longest piece.
        unknown: Score of a character that is no piece.
    """
    best = [0.0]
    for end in range(1, len(text) + 1):
        paths = [best[end - 1] + scores.get(text[end - 1], unknown)]
        paths += [
            best[start] + scores[text[start:end]]
            for start in range(max(0, end - longest), end - 1)
            if text[start:end] in scores
        ]
        best.append(max(paths))
    return best[-1]
