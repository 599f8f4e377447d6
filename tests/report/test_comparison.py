"""The table, the CSV and the chart of a comparison, from figures that are made up."""

import csv
import io
import struct
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tokswap import progress
from tokswap.cli import show
from tokswap.comparison.compare import Compared
from tokswap.comparison.figures import Failure, Result
from tokswap.comparison.recipe import make_comparison
from tokswap.report.comparison import COLUMNS, as_csv, notes, table
from tokswap.report.comparison_plot import draw, placed


def figures(bits: float, *, new: bool = True) -> dict[str, Any]:
    part = {"tokens": 30, "bytes": 90, "bits_per_byte": bits, "of_total": bits / 2}
    none = {"tokens": 0, "bytes": 0, "bits_per_byte": None, "of_total": 0.0}
    bins = [
        {"from": 1 << n, "to": (2 << n) - 1, "different": 5, "tokens": 9, "bytes": 30}
        | {"bits_per_byte": bits - 0.1 * n if n != 1 else None}
        for n in range(5)
    ]
    return {
        "bits_per_byte": bits,
        "nats": bits * 70.0,
        "tokens": 100,
        "bytes": 200,
        "groups": {"shared": part, "new": part if new else none},
        "frequency": bins if new else [],
        "kinds": {
            "letters": {"bytes": 180, "of_total": 1.5},
            "digits": {"bytes": 20, "of_total": bits - 1.5},
        },
    }


def result(label: str, *each: float, new: bool = True, peak: int | None = 12_345_678) -> Result:
    mean = sum(each) / len(each)
    seeds = tuple(range(len(each))) if len(each) > 1 else ()
    settings = {"method": "omp"}
    said = (label, label.partition(" ")[0], figures(mean, new=new), 1.26, 2.0, peak)
    return Result(*said, seeds, each, settings, earlier=False)


def compared(*results: Result, failures: tuple[Failure, ...] = (), new: bool = True) -> Compared:
    floor = figures(2.5, new=new)
    return Compared(
        asked=make_comparison({"base_model": "tiny-llama", "donor": "tiny-mistral"}),
        folder=Path("out"),
        own={**figures(2.0), "groups": {}, "frequency": []},
        floor=floor,
        results=results,
        failures=failures,
        about={"text": ["a.txt"], "window": 64, "stride": 32, "device": "cpu", "version": "1"},
    )


FAILED = Failure("pieces, of 'a\"", "pieces", 0, 'one "line", with commas')


def test_the_table_has_the_references_above() -> None:
    found = compared(result("omp k=8", 3.0), result("zero", 4.0, new=False, peak=None))
    head, rows = table(found)
    assert head == ["method", "bits/byte", "over floor", "shared", "new", "seconds", "peak MB"]
    assert rows == [
        ["the base on its own cut", "2.0000", "-0.5000", "–", "–", "", ""],
        ["the segmentation floor", "2.5000", "+0.0000", "2.5000", "2.5000", "", ""],
        ["omp k=8", "3.0000", "+0.5000", "3.0000", "3.0000", "1.3", "12"],
        ["zero", "4.0000", "+1.5000", "4.0000", "–", "1.3", "–"],
    ]


def test_the_spread_has_a_column_where_there_is_one() -> None:
    head, rows = table(compared(result("omp", 3.0), result("normal", 3.0, 5.0)))
    assert head[1:3] == ["bits/byte", "±"]
    assert [row[2] for row in rows] == ["", "", "", "1.4142"]
    assert {len(row) for row in rows} == {len(head)}


def test_below_it_stands_what_it_means() -> None:
    lines = notes(compared(result("omp", 3.0), failures=(FAILED,)))
    assert lines == [
        "200 bytes of a.txt; window 64, stride 32 tokens; 100 tokens as the base cuts it, 100 as "
        "the donor does, 30 of them new",
        "the cut alone costs +0.5000 bits/byte (digits +0.5000); what is over the floor is the "
        "rows'",
        'failed: pieces, of \'a": one "line", with commas',
    ]
    assert notes(compared(failures=(FAILED,)))[-1] == lines[-1]


def test_the_csv_has_no_more_digits_than_were_kept() -> None:
    found = replace(compared(), own={**figures(3.091178), "groups": {}}, floor=figures(3.330941))
    (own, floor) = csv.DictReader(io.StringIO(as_csv(found)))
    assert (own["over_floor"], floor["over_floor"]) == ("-0.239763", "0.0")


def test_no_figure_is_broken_in_eighty_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "omp k=64/8 center=false ridge=0.001 variant=published outliers=2.5"
    found = compared(result(long, 3.0, 4.0), result("transplant-vocab", 3.25, peak=12_345_678_901))
    monkeypatch.setenv("TERM", "dumb")  # which has eighty columns
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    show.print_table(*table(found))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    (row,) = (line for line in lines if "transplant-vocab" in line)
    assert row.split()[1:] == ["3.2500", "+0.7500", "3.2500", "3.2500", "1.3", "12,346"]
    folded = [line[:20].strip() for line in lines]
    assert {"omp k=64/8", "ridge=0.001", "outliers=2.5"} <= set(folded)


def test_the_csv_can_be_read_back() -> None:
    some = (result("omp, k=8", 3.0), result("normal", 3.0, 5.0), result("zero", 4.0, peak=None))
    rows = list(csv.DictReader(io.StringIO(as_csv(compared(*some, failures=(FAILED,))))))
    assert tuple(rows[0]) == COLUMNS
    assert [row["kind"] for row in rows] == ["own", "floor", *["method"] * 3, "failed"]
    assert [row["label"] for row in rows[2:]] == ["omp, k=8", "normal", "zero", FAILED.label]
    assert [float(row["bits_per_byte"]) for row in rows[:5]] == [2.0, 2.5, 3.0, 4.0, 4.0]
    assert [row["over_floor"] for row in rows[:5]] == ["-0.5", "0.0", "0.5", "1.5", "1.5"]
    assert (rows[3]["seeds"], float(rows[3]["spread"])) == ("0 1", pytest.approx(2**0.5))
    assert rows[5]["error"] == FAILED.error
    assert rows[5]["bits_per_byte"] == rows[0]["new"] == rows[4]["peak_memory"] == ""


def size(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert png.endswith(b"IEND\xaeB`\x82")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def test_the_chart_is_a_png_that_grows_with_the_methods() -> None:
    """Warnings are errors here: of letters that no font has, or of a layout that cannot be."""
    many = [
        result(f"method {n} with=a-long-label setting=$x^$ {n} 漢字", 3.0 + n) for n in range(25)
    ]
    some = [result("omp", 3.0), result("normal", 3.2, 3.9), result("zero", 4.0)]
    few, tall = (draw(compared(*results)) for results in (some, many))
    assert few is not None
    assert tall is not None
    assert size(few)[0] == size(tall)[0]
    assert size(few)[1] < size(tall)[1]
    assert draw(compared(*some)) == few


def test_refitted_rows_stand_below_the_methods_own() -> None:
    one, other = result("omp", 3.0), result("zero", 4.0, 4.2)
    assert [(bar.place, bar.bits, bar.said) for bar in placed([one, other])] == [
        (0, 3.0, ""),
        (1, 4.1, ""),
    ]
    refitted = replace(one, refit={"figures": figures(2.75), "seconds": 3.0, "about": {}})
    above, below, alone = placed([refitted, other])
    assert (above.bits, below.bits, below.said) == (3.0, 2.75, " refitted")
    assert above.place + above.height / 2 <= below.place - below.height / 2
    assert below.place + below.height / 2 < alone.place - alone.height / 2
    assert below.part("new") == 2.75 / 2
    assert alone.spread == other.spread
    without, drawn = (draw(compared(each, other)) for each in (one, refitted))
    assert drawn is not None
    assert without is not None
    assert size(drawn)[1] > size(without)[1]


def test_without_new_tokens_there_is_one_panel() -> None:
    wide = draw(compared(result("omp", 3.0)))
    narrow = draw(compared(result("omp", 3.0, new=False), new=False))
    assert wide is not None
    assert narrow is not None
    assert size(narrow)[0] == size(wide)[0] // 2


def test_without_results_or_matplotlib_there_is_no_chart(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert draw(compared(failures=(FAILED,))) is None
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    progress.show()
    try:
        assert draw(compared(result("omp", 3.0))) is None
    finally:
        progress.show(False)
    said = capsys.readouterr().err
    assert said == "note: no chart is drawn without matplotlib; pip install 'tokswap[plot]'\n"
