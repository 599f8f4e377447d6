"""The difference of two bodies against NumPy in float64, and what must come out exactly."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tokswap.checkpoint import difference
from tokswap.checkpoint.body import Body, check_addable, check_alike
from tokswap.checkpoint.difference import added, compare, distance
from tokswap.checkpoint.source import Checkpoint
from tokswap.errors import CheckpointError

SHAPE = (50, 7)


def body(folder: Path, name: str, **tensors: torch.Tensor) -> Body:
    (folder / name).mkdir()
    save_file(tensors, folder / name / "model.safetensors")
    return Body(Checkpoint.open(str(folder / name)), {key: key for key in tensors})


def random(seed: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)).to(dtype)


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


def put(fine: Body, original: Body, like: Body, strength: float) -> torch.Tensor:
    return torch.cat(list(added(fine, original, like, "w", strength))).reshape(SHAPE)


@pytest.fixture(params=[11, difference.NUMBERS_AT_ONCE], ids=["in blocks", "at once"])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(difference, "NUMBERS_AT_ONCE", request.param)
    return int(request.param)


@pytest.mark.parametrize(
    "types", [("bfloat16",) * 3, ("float32",) * 3, ("float16", "float32", "float32")], ids=str
)
def test_a_part_of_the_difference_is_added(types: tuple[str, ...], block: int, tmp_path: Path):
    tensors = [random(seed, getattr(torch, name)) for seed, name in enumerate(types)]
    bodies = [body(tmp_path, str(n), w=tensor) for n, tensor in enumerate(tensors)]
    fine, original, like = (tensor.double().numpy() for tensor in tensors)
    for strength in (0.3, 0.5, 0.7):
        made = put(*bodies, strength)
        assert made.dtype == tensors[0].dtype
        wanted = fine + strength * (like - original)
        rounding = torch.finfo(made.dtype).eps
        # The difference cancels, so what float32 rounds is next to the largest of the three.
        slack = 2.0**-22 * np.maximum(np.abs(like), np.abs(original))
        assert (np.abs(made.double().numpy() - wanted) <= rounding * np.abs(wanted) + slack).all()


def test_both_ends_are_exact(block: int, tmp_path: Path) -> None:
    start, end, other = random(0), random(1), random(2)
    # Numbers whose difference float32 cannot hold, so that adding it would not lead to the end.
    start[0], end[0] = 1.0, 2.0**-30
    original, like = body(tmp_path, "o", w=start), body(tmp_path, "l", w=end)
    assert bits(put(original, original, like, 1.0)) == bits(end)
    fine = body(tmp_path, "f", w=other)
    assert bits(put(fine, original, like, 0.0)) == bits(other)


def test_numbers_that_are_alike_in_both_leave_the_fine_tunes_as_they_are(tmp_path: Path) -> None:
    before = random(0)
    after = before.clone()
    after[:10] += 1
    own = random(1)
    own[20:30] = -0.0
    bodies = [body(tmp_path, n, w=t) for n, t in (("f", own), ("o", before), ("l", after))]
    made = put(*bodies, 0.5)
    assert bits(made[10:]) == bits(own[10:])
    assert not bool((made[:10] == own[:10]).any())


def test_what_differs_is_found_and_measured(block: int, tmp_path: Path) -> None:
    tensors = {name: random(n, torch.float32) for n, name in enumerate("abc")}
    moved = dict(tensors, a=tensors["a"].clone(), c=tensors["c"] * 1.5)
    moved["a"][49, 6] += 3
    found = compare(body(tmp_path, "o", **tensors), body(tmp_path, "l", **moved))
    assert found.compared == 3
    assert found.changed == ("a", "c")
    before, after = (np.stack([side[n].double() for n in "ac"]) for side in (tensors, moved))
    wanted = np.linalg.norm(after - before) / np.linalg.norm(before)
    assert found.relative == pytest.approx(wanted)
    same = compare(body(tmp_path, "o2", **tensors), body(tmp_path, "l2", **tensors))
    assert (same.changed, same.relative) == ((), 0.0)


def test_storage_in_another_type_is_no_difference(tmp_path: Path) -> None:
    wide = body(tmp_path, "wide", w=random(0, torch.float32))
    narrow = body(tmp_path, "narrow", w=random(0, torch.float32).bfloat16())
    assert not compare(wide, narrow).changed
    again = body(tmp_path, "again", w=random(0, torch.float32).bfloat16().float())
    assert not compare(narrow, again).changed
    assert compare(wide, again).changed  # these were rounded on the way


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    broken = random(0)
    broken[3, 3] = torch.nan
    plain, nan = body(tmp_path, "plain", w=random(0)), body(tmp_path, "nan", w=broken)
    for pair in ((plain, nan), (nan, plain)):
        with pytest.raises(CheckpointError, match="nan: w holds NaN or infinite numbers"):
            compare(*pair)
    with pytest.raises(CheckpointError, match="nan: w holds NaN"):
        put(nan, plain, body(tmp_path, "other", w=random(1)), 0.5)


def test_a_result_beyond_its_type_is_refused(tmp_path: Path) -> None:
    big = torch.full(SHAPE, 60000.0)
    fine, like = body(tmp_path, "f", w=big.half()), body(tmp_path, "l", w=big)
    zero = body(tmp_path, "o", w=torch.zeros(SHAPE))
    with pytest.raises(
        CheckpointError, match=r"w holds numbers beyond torch.float16 once the diff"
    ):
        put(fine, zero, like, 0.5)


def test_bodies_of_other_architectures_are_refused(tmp_path: Path) -> None:
    one = body(tmp_path, "one", a=random(0), b=random(1))
    check_alike(one, body(tmp_path, "two", a=random(2), b=random(3)))
    less = body(tmp_path, "less", a=random(0))
    for pair in ((one, less), (less, one)):
        with pytest.raises(CheckpointError, match=r"it lacks b \(1 of 2 tensors\)"):
            check_alike(*pair)
    with pytest.raises(CheckpointError, match=r"b is \(50, 7\) in the one and \(49, 7\) in the ot"):
        check_alike(one, body(tmp_path, "small", a=random(0), b=random(1)[1:].contiguous()))


def test_nothing_is_added_to_numbers_that_are_quantised(tmp_path: Path) -> None:
    packed = body(tmp_path, "packed", w=torch.ones(SHAPE, dtype=torch.int8), v=random(0))
    plain = body(tmp_path, "plain", w=random(0), v=random(1))
    check_addable(["v"], plain, packed)
    for bodies in ((plain, packed), (packed, plain)):
        with pytest.raises(
            CheckpointError, match=r"changed w, .* quantised, as '.*packed' has them"
        ):
            check_addable(["v", "w"], *bodies)


def test_distance_is_of_the_rows_that_both_have() -> None:
    table = random(0)
    assert distance(table, table) == 0
    assert distance(table[:20], table) == 0
    assert distance(table * 2, table) == pytest.approx(1)
    assert distance(random(1), table) == pytest.approx(1.4, abs=0.2)  # nothing in common
