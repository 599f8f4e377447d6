"""A comparison as one picture: bits per byte by method, and new tokens by how often they stand."""

import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokswap.progress import note
from tokswap.report.comparison import FLOOR, OWN

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from tokswap.comparison.compare import Compared
    from tokswap.comparison.figures import Result

SHARED, NEW, GREY = "#0072B2", "#E69F00", "#4D4D4D"
LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""The colours of Okabe and Ito, which colour-blind readers tell apart."""
MARKERS = "osD^vP"
DRAWN = len(LINES)
"""Methods whose tokens are drawn by frequency; more lines than these cannot be told apart."""
TALL = 6.5
"""Inches from which on the panel of frequencies does not grow any more."""
LONGEST = 48
"""Letters of a label that are drawn."""


def draw(compared: "Compared") -> bytes | None:
    """Draw a comparison.

    The left panel holds a bar for each method, the best above: its bits per byte, of which one
    part is the shared tokens' and the other the new ones'; a second one, where its rows were
    refitted, with these. The right one shows the bits per byte
    of new tokens by how often they stand in the text, of the best methods and the floor.

    Returns:
        The PNG; None where there is nothing to draw, or nothing to draw it with.
    """
    if not compared.results:
        return None
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        note("note: no chart is drawn without matplotlib; pip install 'tokswap[plot]'")
        return None
    results = compared.results
    by_frequency = any(result.figures["frequency"] for result in results)
    each = 0.28 if all(result.refit is None for result in results) else 0.4
    height = 2.2 + each * max(len(results), 8)
    panels = 2 if by_frequency else 1
    # A figure of its own, so that no state of pyplot is touched.
    figure = Figure(figsize=(7.0 * panels, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, panels, squeeze=False)[0]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # in a label
        _bars(axes[0], compared)
        if by_frequency:
            _frequency(axes[1], compared)
            if height > TALL:  # it need not grow with the methods
                axes[1].set_box_aspect(0.8)
                axes[1].set_anchor("N")
        text = ", ".join(compared.about["text"])
        title = f"{compared.asked.base_model} with the vocabulary of {compared.asked.donor}, {text}"
        figure.suptitle(_plain(_short(title, 110)), fontsize=11)
        written = io.BytesIO()
        figure.savefig(written, format="png", dpi=144, metadata={"Software": "tokswap"})
    return written.getvalue()


@dataclass(frozen=True)
class Bar:
    """A bar: where it stands, how thick it is, and what it shows."""

    place: float
    height: float
    figures: Mapping[str, Any]
    spread: float | None = None
    said: str = ""

    def part(self, group: str) -> float:
        """Give what the tokens of a group are of it."""
        return float(self.figures["groups"].get(group, {}).get("of_total", 0.0))

    @property
    def bits(self) -> float:
        """How long it is."""
        return float(self.figures["bits_per_byte"])


def placed(results: Sequence["Result"]) -> list[Bar]:
    """Give a bar for each method, and below it one with its rows refitted, where they were."""
    bars = []
    for place, result in enumerate(results):
        figures = {**result.figures, "bits_per_byte": result.bits_per_byte}
        if result.refit is None:
            bars.append(Bar(place, 0.8, figures, result.spread))
        else:
            bars.append(Bar(place - 0.2, 0.36, figures, result.spread))
            bars.append(Bar(place + 0.2, 0.36, result.refit["figures"], said=" refitted"))
    return bars


def _bars(axes: "Axes", compared: "Compared") -> None:
    results, bars = compared.results, placed(compared.results)
    places, heights = [bar.place for bar in bars], [bar.height for bar in bars]
    shared, new = ([bar.part(group) for bar in bars] for group in ("shared", "new"))
    own, floor = compared.own["bits_per_byte"], compared.floor["bits_per_byte"]
    axes.barh(places, shared, heights, color=SHARED, label="of shared tokens")
    axes.barh(places, new, heights, left=shared, color=NEW, label="of new tokens")
    widest = max(bar.bits for bar in bars)
    for bar in bars:
        if bar.spread is not None:
            axes.errorbar(bar.bits, bar.place, xerr=bar.spread, color=GREY, capsize=2)
        end = bar.bits + (bar.spread or 0.0)
        shown = f"{bar.bits:.3f}{bar.said}"
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}  # over the two lines
        where = end + 0.01 * widest
        axes.text(where, bar.place, shown, va="center", fontsize=8, color=GREY, bbox=box)
    axes.axvline(own, color="black", linestyle=":", label=f"{OWN}: {own:.3f}")
    axes.axvline(floor, color="black", linestyle="--", label=f"{FLOOR}: {floor:.3f}")
    axes.set_yticks(range(len(results)), [_plain(_short(each.label, LONGEST)) for each in results])
    axes.set_ylim(len(results) - 0.4, -0.6)  # the best above
    axes.set_xlim(0, 1.1 * max(widest, own, floor))
    axes.set_xlabel("bits per byte (the less, the better)")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=8, frameon=False)
    _bare(axes)


def _frequency(axes: "Axes", compared: "Compared") -> None:
    some = _some([result for result in compared.results if result.figures["frequency"]])
    for result, colour, marker in zip(some, LINES, MARKERS, strict=False):
        _line(axes, result.figures["frequency"], result, colour, marker)
    _line(axes, compared.floor.get("frequency") or [], None, "black", "")
    axes.set_xscale("log", base=2)
    bins = sorted({(b["from"], b["to"]) for result in some for b in result.figures["frequency"]})
    axes.set_xticks([_middle(*b) for b in bins], [_range(*b) for b in bins], rotation=45)
    axes.minorticks_off()
    axes.set_xlabel("how often a new token stands in the text")
    axes.set_ylabel("bits per byte of these tokens")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=8, frameon=False)
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    _bare(axes)


def _some(results: Sequence["Result"]) -> list["Result"]:
    """Choose whose tokens are drawn: the best of each method, then others, the best first."""
    firsts = {result.method: result for result in reversed(results)}
    chosen = [result for result in results if firsts[result.method] is result]
    chosen += [result for result in results if firsts[result.method] is not result]
    return sorted(chosen[:DRAWN], key=results.index)


def _line(
    axes: "Axes",
    bins: Sequence[Mapping[str, Any]],
    result: "Result | None",
    colour: str,
    marker: str,
) -> None:
    known = [part for part in bins if part["bits_per_byte"] is not None]
    if known:
        axes.plot(
            [_middle(part["from"], part["to"]) for part in known],
            [part["bits_per_byte"] for part in known],
            color=colour,
            marker=marker or None,
            linestyle="-" if result else "--",
            markersize=4,
            linewidth=1.4,
            label=_plain(_short(result.label, LONGEST)) if result else FLOOR,
        )


def _middle(low: int, high: int) -> float:
    return float((low * (high + 1)) ** 0.5)


def _range(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}–{high}"


def _bare(axes: "Axes") -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _plain(text: str) -> str:
    """Keep matplotlib from reading a formula between two dollar signs."""
    return text.replace("$", r"\$")
