"""Sparse rows against the same sums on dense matrices, and copies compared bit for bit."""

import pytest
import torch
from torch import Tensor

from tokswap.solvers.sparse import SparseRows

BITS = {torch.bfloat16: torch.int16, torch.float16: torch.int16, torch.float32: torch.int32}
BITS[torch.float64] = torch.int64


def bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().view(BITS[tensor.dtype])


def dense(rows: SparseRows) -> Tensor:
    matrix = torch.zeros(len(rows), rows.columns, dtype=torch.float64)
    for i in range(len(rows)):
        for column, weight in rows.row(i):
            matrix[i, column] = weight
    return matrix


def random_rows(count: int, columns: int, *, seed: int = 0) -> SparseRows:
    """Rows of 0 to 6 entries with repeated columns, and some plain copies among them."""
    g = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, 7, (count,), generator=g).tolist()
    ids = [torch.randint(0, columns, (n,), generator=g).tolist() for n in lengths]
    weights = [torch.randn(n, generator=g).tolist() for n in lengths]
    return SparseRows.from_lists(ids, [[1.0] if len(w) == 1 else w for w in weights], columns)


def table(rows: int, width: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(9)).to(dtype)


def test_from_lists_sorts_sums_and_drops_zeros() -> None:
    rows = SparseRows.from_lists(
        [[3, 1, 3], [], [2, 2], [0], [4, 4, 4]],
        [[0.5, 2, 0.25], [], [1, -1], [0.0], [1 / 3] * 3],
        5,
    )
    assert [rows.row(i) for i in range(5)] == [[(1, 2.0), (3, 0.75)], [], [], [], [(4, 1.0)]]
    assert rows.indptr.tolist() == [0, 2, 2, 2, 2, 3]
    assert (len(rows), rows.columns) == (5, 5)
    assert rows.weights.dtype == torch.float32


def test_columns_in_order_are_summed_and_dropped_alike() -> None:
    rows = SparseRows.from_lists([[0, 1, 1], [2, 3]], [[1, 0.5, 0.25], [0.0, 2]], 4)
    assert [rows.row(i) for i in range(2)] == [[(0, 1.0), (1, 0.75)], [(3, 2.0)]]
    once = SparseRows.from_lists([[0, 1], [2, 3]], [[1, 0.5], [0.0, 2]], 4)
    assert [once.row(i) for i in range(2)] == [[(0, 1.0), (1, 0.5)], [(3, 2.0)]]


def test_from_padded_skips_unused_slots() -> None:
    indices = torch.tensor([[2, -1, 0], [-1, -1, -1]])
    weights = torch.tensor([[2.0, torch.nan, 1.0], [0.0, 0.0, 0.0]])
    rows = SparseRows.from_padded(indices, weights, 3)
    assert [rows.row(0), rows.row(1)] == [[(0, 1.0), (2, 2.0)], []]


def test_no_rows_and_no_columns() -> None:
    empty = SparseRows.from_lists([], [], 4)
    assert empty.apply(table(4, 3)).shape == (0, 3)
    blank = SparseRows.from_lists([[], []], [[], []], 0)
    assert blank.apply(table(0, 3)).tolist() == [[0.0] * 3] * 2
    assert empty.combine(empty, 1, 2).indptr.tolist() == [0]


@pytest.mark.parametrize("dtype", list(BITS))
@pytest.mark.parametrize("columns_at_once", [1, 5, 512])
def test_apply_is_the_dense_product(dtype: torch.dtype, columns_at_once: int) -> None:
    rows, values = random_rows(40, 15), table(15, 33, dtype)
    result = rows.apply(values, columns_at_once=columns_at_once)
    assert result.dtype == dtype
    expected = (dense(rows) @ values.double()).to(dtype)
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5}.get(dtype, torch.finfo(dtype).eps)
    torch.testing.assert_close(result, expected, rtol=tolerance, atol=tolerance)


def test_half_types_are_summed_in_float32_and_rounded_once() -> None:
    values = torch.tensor([[256.0], [1.0], [1.0]]).bfloat16()  # bfloat16 holds 256 and 258
    rows = SparseRows.from_lists([[0, 1, 2]], [[1.0, 1.0, 1.0]], 3)
    assert rows.apply(values).item() == 258


@pytest.mark.parametrize("dtype", list(BITS))
def test_copies_are_exact_bit_for_bit(dtype: torch.dtype) -> None:
    # Random bits: NaN payloads, infinities, subnormal numbers and -0.0 among them.
    g = torch.Generator().manual_seed(1)
    size = 50 * 70 * dtype.itemsize
    values = torch.randint(0, 256, (size,), generator=g, dtype=torch.uint8).view(dtype)
    values = values.view(50, 70)
    values[:, 0] = -0.0
    identity = SparseRows.selection(torch.arange(50), 50).apply(values, columns_at_once=9)
    assert torch.equal(bits(identity), bits(values))
    order = torch.randperm(50, generator=g)
    # A mixed row and an empty one between the copies change nothing.
    rows = SparseRows.concatenate(
        [
            SparseRows.selection(order[:20], 50),
            SparseRows.from_lists([[1, 2], [], [3]], [[0.5, 0.5], [], [0.5]], 50),
            SparseRows.selection(order[20:], 50),
        ]
    )
    result = rows.apply(values, columns_at_once=9)
    assert torch.equal(bits(result[:20]), bits(values[order[:20]]))
    assert torch.equal(bits(result[23:]), bits(values[order[20:]]))


def test_empty_rows_are_zeros_whatever_the_table_holds() -> None:
    values = torch.full((3, 4), torch.nan)
    result = SparseRows.selection(torch.tensor([-1, 2, -1]), 3).apply(values)
    assert result[[0, 2]].tolist() == [[0.0] * 4] * 2
    assert result[1].isnan().all()


@pytest.mark.parametrize("dtype", list(BITS))
def test_the_result_depends_neither_on_blocks_nor_on_other_rows(dtype: torch.dtype) -> None:
    # Bit for bit: on a CPU the kernel adds a row's entries in order, each column by itself.
    rows, values = random_rows(30, 21), table(21, 131, dtype)
    whole = rows.apply(values, columns_at_once=131)
    for width in (1, 3, 7, 8, 16, 17, 64, 130, 500):
        assert torch.equal(bits(rows.apply(values, columns_at_once=width)), bits(whole)), width
    for i in range(30):
        columns, weights = [c for c, _ in rows.row(i)], [w for _, w in rows.row(i)]
        alone = SparseRows.from_lists([columns], [weights], 21).apply(values)
        assert torch.equal(bits(alone[0]), bits(whole[i])), i


@pytest.mark.parametrize("dtype", list(BITS))
def test_blocks_of_rows_give_the_rows_of_the_whole(dtype: torch.dtype) -> None:
    rows, values = random_rows(30, 21), table(21, 13, dtype)
    whole = rows.apply(values)
    for size in (1, 4, 7, 29, 30):
        starts = range(0, 30, size)
        parts = [rows.between(n, min(n + size, 30)).apply(values) for n in starts]
        assert torch.equal(bits(torch.cat(parts)), bits(whole)), size
    assert len(rows.between(5, 5)) == 0


def test_combine_is_the_dense_sum() -> None:
    one, two = random_rows(25, 9), random_rows(25, 9, seed=1)
    total = one.combine(two, 0.25, -1.5)
    torch.testing.assert_close(
        dense(total), 0.25 * dense(one) - 1.5 * dense(two), rtol=1e-6, atol=0
    )
    assert len(one.combine(one, 1, -1).indices) == 0
    half = one.combine(one, 0.5, 0.5)  # the same matrix: copies stay copies
    assert torch.equal(half.weights, one.weights)


def test_map_columns_renames_and_sums() -> None:
    rows = SparseRows.from_lists([[0, 1, 2], [2]], [[0.5, 0.25, 2.0], [1.0]], 3)
    mapped = rows.map_columns(torch.tensor([7, 7, 1]), 9)
    assert [mapped.row(0), mapped.row(1)] == [[(1, 2.0), (7, 0.75)], [(1, 1.0)]]
    assert mapped.columns == 9


def test_scatter_places_rows() -> None:
    rows = SparseRows.from_lists([[0], [1, 2], []], [[1.0], [0.5, 0.5], []], 3)
    placed = rows.scatter(torch.tensor([4, 0, 2]), 6)
    assert [placed.row(i) for i in range(6)] == [rows.row(1), [], [], [], rows.row(0), []]


def test_concatenate_keeps_order() -> None:
    parts = [random_rows(5, 9), random_rows(0, 9), random_rows(7, 9, seed=2)]
    joined = SparseRows.concatenate(parts)
    assert torch.equal(dense(joined), torch.cat([dense(part) for part in parts]))


def test_the_table_is_unchanged() -> None:
    values = table(15, 8)
    random_rows(20, 15).apply(values)
    assert torch.equal(values, table(15, 8))


def csr(indptr: list[int], indices: list[int], weights: list[float]) -> SparseRows:
    return SparseRows(torch.tensor(indptr), torch.tensor(indices), torch.tensor(weights), 3)


LONG = torch.tensor([0, 1])
ROWS = SparseRows.from_lists([[0], [1, 2]], [[1.0], [0.5, 0.5]], 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: csr([0, 1, 1], [0, 1], [1.0, 1.0]), r"\[0, 1\] for 2 indices"),
        (lambda: csr([0, 2, 1, 2], [0, 1], [1.0, 1.0]), "ascend from 0"),
        (lambda: csr([0, 2], [0, 1], [1.0]), "1 weights for 2 indices"),
        (lambda: csr([0, 1], [3], [1.0]), "indices run from 3 to 3 for 3 columns"),
        (lambda: csr([0, 1], [-1], [1.0]), "indices run from -1"),
        (lambda: csr([0, 1], [0], [float("inf")]), "weights hold NaN"),
        (lambda: csr([0, 1], [0], [0.0]), "zero weights"),
        (lambda: csr([0, 2], [1, 0], [1.0, 1.0]), "do not ascend"),
        (lambda: csr([0, 2], [1, 1], [1.0, 1.0]), "do not ascend"),
        (lambda: SparseRows(LONG, LONG[:1], LONG[:1], 3), r"weights has .* give one dimension"),
        (lambda: SparseRows(LONG[None], LONG[:1], torch.ones(1), 3), "indptr has shape"),
        (lambda: SparseRows.from_lists([[0]], [[1.0, 2.0]], 3), "do not fit row by row"),
        (lambda: SparseRows.from_lists([[3], []], [[1.0], []], 3), "indices run from 3"),
        (lambda: SparseRows.from_lists([[0]], [[1e300]], 3), "beyond float32"),
        (lambda: SparseRows.from_padded(torch.ones(2, 2), torch.ones(2, 3), 3), "do not fit"),
        (lambda: SparseRows.from_padded(torch.tensor([[-2]]), torch.ones(1, 1), 3), "from -2"),
        (lambda: SparseRows.from_padded(torch.ones(1, 1), torch.ones(1, 1), 3), "torch.float32"),
        (lambda: SparseRows.selection(torch.tensor([3]), 3), "run from 3"),
        (lambda: SparseRows.concatenate([]), r"parts have \[\] columns"),
        (lambda: SparseRows.concatenate([ROWS, random_rows(1, 4)]), r"parts have \[3, 4\]"),
        (lambda: ROWS.row(2), "row 2 of 2 rows"),
        (lambda: ROWS.row(-1), "row -1 of 2 rows"),
        (lambda: ROWS.between(1, 3), "rows 1 to 3 of 2"),
        (lambda: ROWS.between(2, 1), "rows 2 to 1 of 2"),
        (lambda: ROWS.map_columns(LONG, 9), r"\(2,\) for 3 columns"),
        (lambda: ROWS.map_columns(torch.tensor([0, 1, 9]), 9), "from 0 to 9 for 9 columns"),
        (lambda: ROWS.scatter(torch.tensor([1, 1]), 3), "miss or repeat"),
        (lambda: ROWS.scatter(torch.tensor([1]), 3), "miss or repeat"),
        (lambda: ROWS.scatter(torch.tensor([1, 3]), 3), "from 1 to 3 for 3 rows"),
        (lambda: ROWS.combine(random_rows(2, 4), 1, 1), "2 x 3 and 2 x 4"),
        (lambda: ROWS.combine(ROWS, float("nan"), 1), "factors a=nan"),
        (lambda: ROWS.apply(torch.ones(2, 4)), r"\(2, 4\) and dtype torch.float32 for 3 columns"),
        (lambda: ROWS.apply(torch.ones(3, 4, dtype=torch.int8)), "torch.int8"),
        (lambda: ROWS.apply(torch.ones(3, 4), columns_at_once=0), "columns_at_once=0"),
    ],
)
def test_wrong_arguments_are_refused(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_below_the_table_are_the_tables_last_rows(dtype):
    generator = torch.Generator().manual_seed(3)
    table = torch.randn(9, 5, generator=generator).to(dtype)
    rows = SparseRows.from_lists(
        [[8], [0], [], [1, 7, 8], [6]], [[1.0], [1.0], [], [0.5, 0.25, -2.0], [1.0]], 9
    )
    whole = rows.apply(table)
    for split in range(10):
        assert torch.equal(rows.apply(table[:split], below=table[split:]), whole)
    with pytest.raises(ValueError, match="8 rows"):
        rows.apply(table[:4], below=table[5:])


def test_rows_are_taken_in_any_order() -> None:
    rows = random_rows(9, 7)
    ids = torch.tensor([8, 0, 3, 3])
    assert torch.equal(dense(rows.take(ids)), dense(rows)[ids])
    assert len(rows.take(ids[:0])) == 0
    with pytest.raises(ValueError, match="ids run from 0 to 9 for 9 rows"):
        rows.take(torch.tensor([0, 9]))
