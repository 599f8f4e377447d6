"""Cosines, errors and their quartiles, against numpy and by hand."""

import numpy as np
import torch

from tokswap.solvers.likeness import FIGURES, likeness, quartiles


def rows(count: int, width: int, seed: int) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def test_figures_are_those_of_numpy_in_any_number_of_rows() -> None:
    found, true, mean = rows(1500, 7, 0), rows(1500, 7, 1), rows(1, 7, 2)[0]
    figures = likeness(found, true, mean)
    assert figures.shape == (1500, len(FIGURES))

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))

    for place in (0, 1023, 1024, 1499):
        a, b, c = (tensor.double().numpy() for tensor in (found[place], true[place], mean))
        error = np.linalg.norm(b - a) / np.linalg.norm(b)
        expected = [cosine(a, b), cosine(a - c, b - c), error]
        np.testing.assert_allclose(figures[place], expected, rtol=1e-12)


def test_rows_by_hand() -> None:
    mean = torch.tensor([1.0, 0.0])
    true = torch.tensor([[1.0, 1.0]]).expand(4, 2)
    found = torch.tensor([[1.0, 1.0], [2.0, 2.0], [1.0, 0.0], [1.0, -1.0]])
    expected = [[1, 1, 0], [1, 2 / 5**0.5, 1], [0.5**0.5, 0, 0.5**0.5], [0, -1, 2**0.5]]
    torch.testing.assert_close(likeness(found, true, mean), torch.tensor(expected).double())


def test_a_row_of_zeros_has_no_likeness() -> None:
    figures = likeness(torch.zeros(1, 3), torch.ones(1, 3), torch.zeros(3))
    assert figures.tolist() == [[0, 0, 1]]
    assert likeness(torch.zeros(0, 3), torch.ones(0, 3), torch.zeros(3)).shape == (0, 3)


def test_quartiles_are_those_of_numpy() -> None:
    values = rows(101, 1, 3)[:, 0].double()
    said = quartiles(values)
    expected = [values.numpy().mean(), *np.percentile(values.numpy(), [25, 50, 75])]
    np.testing.assert_allclose(list(said.values()), expected)
    assert list(said) == ["mean", "lower", "median", "upper"]
    assert set(quartiles(torch.tensor([2.5])).values()) == {2.5}
