"""The figures of a comparison: what is kept of one run, and what several seeds come to."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokswap.evaluation.loaded import CutScore
    from tokswap.vocabulary.align import Alignment

DIGITS = 7
"""Significant digits that are kept."""


@dataclass(frozen=True)
class Failure:
    """A method that did not come to an end.

    Attributes:
        label: What it is called.
        method: The name of the method.
        seed: Its seed.
        error: Why, in one line.
        traceback: Where in the program, if it is no error that the program knows.
    """

    label: str
    method: str
    seed: int
    error: str
    traceback: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        said = {"label": self.label, "method": self.method, "seed": self.seed}
        said["error"] = self.error
        return said | ({"traceback": self.traceback} if self.traceback else {})


@dataclass(frozen=True)
class Result:
    """What a method came to, over its seeds.

    Attributes:
        label: What it is called.
        method: The name of the method.
        figures: What was measured: the mean of all seeds. See :func:`figures_of`.
        seconds: Of making the plan; the mean.
        evaluation_seconds: Of measuring it; the mean.
        peak_memory: Bytes at the peak of making the plan, the most of all seeds, or None where the
            system does not tell.
        seeds: Its seeds; none where the rows do not depend on them.
        each: Bits per byte of each seed.
        settings: How the rows are filled, as in a recipe, with all defaults.
        earlier: Whether an earlier run measured it.
        refit: The same figures with the rows refitted, under ``figures``, its ``seconds``, and
            ``about`` it; the mean. None where that was not asked for.
    """

    label: str
    method: str
    figures: Mapping[str, Any]
    seconds: float
    evaluation_seconds: float
    peak_memory: int | None
    seeds: tuple[int, ...]
    each: tuple[float, ...]
    settings: Mapping[str, Any]
    earlier: bool
    refit: Mapping[str, Any] | None = None

    @property
    def refitted(self) -> float | None:
        """Bits per byte with the rows refitted."""
        return float(self.refit["figures"]["bits_per_byte"]) if self.refit else None

    @property
    def bits_per_byte(self) -> float:
        """The mean of all seeds."""
        return float(self.figures["bits_per_byte"])

    @property
    def spread(self) -> float | None:
        """The standard deviation over the seeds; None of one alone."""
        return statistics.stdev(self.each) if len(self.each) > 1 else None

    def group(self, name: str) -> float | None:
        """Bits per byte of the shared or the new tokens, or None where there are none."""
        return group_bits(self.figures, name)

    def to_dict(self, floor: Mapping[str, Any]) -> dict[str, Any]:
        """JSON-ready form.

        Args:
            floor: Figures of the segmentation floor, to tell what is over it.
        """
        said: dict[str, Any] = {"method": self.method, "label": self.label}
        said["bits_per_byte"] = self.bits_per_byte
        if self.spread is not None:
            said["spread"] = rounded(self.spread)
        said["over_floor"] = rounded(self.bits_per_byte - floor["bits_per_byte"])
        said |= {"seconds": self.seconds, "evaluation_seconds": self.evaluation_seconds}
        said["peak_memory"] = self.peak_memory
        if self.refit is not None:
            over = rounded(self.refit["figures"]["bits_per_byte"] - floor["bits_per_byte"])
            said["refit"] = {"over_floor": over, **self.refit}
        if self.seeds:
            pairs = zip(self.seeds, self.each, strict=True)
            said["seeds"] = [{"seed": seed, "bits_per_byte": bits} for seed, bits in pairs]
        said |= {key: value for key, value in self.figures.items() if key != "bits_per_byte"}
        return said | {"settings": dict(self.settings), "from_an_earlier_run": self.earlier}


def figures_of(cut: "CutScore", alignment: "Alignment") -> dict[str, Any]:
    """Say what was measured so that it can be kept.

    Args:
        cut: The score of a text as one vocabulary cuts it.
        alignment: The donor's vocabulary against the base's.

    Returns:
        ``bits_per_byte``, ``nats``, ``tokens`` and ``bytes`` of the text; under ``groups`` the same
        of shared and new tokens, with ``of_total``, the part of the whole text's bits per byte that
        is theirs; under ``frequency`` those of the new tokens by how often they stand in the text;
        under ``kinds`` what each kind of the text's bytes costs.
    """
    score = cut.score
    said: dict[str, Any] = {
        name: getattr(score, name) for name in ("bits_per_byte", "nats", "tokens", "bytes")
    }
    said["groups"] = {
        name: {
            "tokens": part.tokens,
            "bytes": part.bytes,
            "bits_per_byte": part.bits_per_byte,
            "of_total": part.nats / math.log(2) / score.bytes,
        }
        for name, part in score.groups.items()
    }
    said["kinds"] = cut.kinds
    said["frequency"] = []
    if score.groups:
        missing = [int(number) for number in alignment.missing]
        spelling = alignment.donor.spelling
        counts, nats = cut.counts.tolist(), cut.nats.tolist()
        lengths = [len(spelling[number] or b"") for number in missing]
        said["frequency"] = by_frequency(
            [counts[number] for number in missing], [nats[number] for number in missing], lengths
        )
    return dict(rounded_all(said))


def by_frequency(
    counts: Sequence[int], nats: Sequence[float], lengths: Sequence[int]
) -> list[dict[str, Any]]:
    """Sum up tokens by how often they stand in a text: once, 2–3 times, 4–7 times, and so on.

    Args:
        counts: How often each token was scored.
        nats: What it cost, all times together.
        lengths: Its bytes.

    Returns:
        The bins that hold a token, by ``from`` and ``to``: ``different`` tokens, the ``tokens`` of
        the text that they are, their ``bytes``, and ``bits_per_byte``.
    """
    bins: dict[int, list[float]] = {}
    for count, cost, length in zip(counts, nats, lengths, strict=True):
        if count > 0:
            sums = bins.setdefault(count.bit_length() - 1, [0, 0, 0, 0.0])
            for place, more in enumerate((1, count, count * length, cost)):
                sums[place] += more
    return [
        {
            "from": 1 << power,
            "to": (2 << power) - 1,
            "different": int(different),
            "tokens": int(tokens),
            "bytes": int(size),
            "bits_per_byte": cost / math.log(2) / size if size else None,
        }
        for power, (different, tokens, size, cost) in sorted(bins.items())
    ]


def group_bits(figures: Mapping[str, Any], name: str) -> float | None:
    """Bits per byte of a group of tokens, or None where there are none or they are not told."""
    bits = (figures["groups"].get(name) or {}).get("bits_per_byte")
    return None if bits is None else float(bits)


def sum_up(kept: Sequence[Mapping[str, Any]], *, draws: bool) -> Result:
    """Sum up what was kept of a method's runs.

    Args:
        kept: Of each seed.
        draws: Whether its rows depend on the seed.
    """
    first = kept[0]
    peaks = [run["peak_memory"] for run in kept if run["peak_memory"] is not None]
    return Result(
        label=first["label"],
        method=first["method"],
        figures=rounded_all(_mean([run["figures"] for run in kept])),
        seconds=round(statistics.fmean(run["seconds"] for run in kept), 3),
        evaluation_seconds=round(statistics.fmean(run["evaluation_seconds"] for run in kept), 3),
        peak_memory=max(peaks, default=None),
        seeds=tuple(run["seed"] for run in kept) if draws else (),
        each=tuple(float(run["figures"]["bits_per_byte"]) for run in kept),
        settings=first["settings"],
        earlier=all(run["earlier"] for run in kept),
        refit=rounded_all(_mean([run["refit"] for run in kept])) if "refit" in first else None,
    )


def _mean(said: Sequence[Any]) -> Any:
    """The mean of figures of one shape; what is no figure is the first one's."""
    first = said[0]
    if isinstance(first, Mapping):
        return {key: _mean([other[key] for other in said]) for key in first}
    if isinstance(first, list):
        return [_mean(part) for part in zip(*said, strict=True)]
    if isinstance(first, float):
        return statistics.fmean(said)
    return first


def rounded(value: float) -> float:
    """Round to the digits that are kept."""
    return float(f"{value:.{DIGITS}g}")


def rounded_all(said: Any) -> Any:
    """Round all figures to the digits that are kept."""
    if isinstance(said, Mapping):
        return {key: rounded_all(part) for key, part in said.items()}
    if isinstance(said, list):
        return [rounded_all(part) for part in said]
    return rounded(said) if isinstance(said, float) else said
