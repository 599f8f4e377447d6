"""What stands behind free tokens, against a model whose logits are planted."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from tokswap.errors import EvaluationError
from tokswap.evaluation.windows import Window
from tokswap.refit.behind import losses_behind, standard_error

STAYS = torch.tensor([True] * 6 + [False] * 2)  # 6 and 7 are new
KINDS = {6: "word"}  # and of 7 the text to fit tells nothing


class Places(nn.Module):
    """Gives each row that stays the place in the window as its logit for the token 0."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Embedding(8, 2)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.rows

    def forward(self, input_ids: Tensor) -> SimpleNamespace:
        logits = torch.zeros(*input_ids.shape, 8)
        logits[..., 0] = torch.arange(input_ids.shape[1]).float()
        logits[..., 6:] = 30.0  # it must not matter
        return SimpleNamespace(logits=logits)


def nats(place: int, target: int) -> float:
    return math.log(math.exp(place) + 5) - (place if target == 0 else 0)


def test_of_each_window_only_what_stands_behind_a_free_token_counts() -> None:
    windows = [
        Window([1, 6, 0, 7, 2], [6, 0, 7, 2, 0]),  # behind 6: 0 at 1, not 7, 2 at 3, 0 at 4
        Window([7, 0, 0, 0, 1], [0, 0, 0, 1, 1]),  # 7 is new, but not free
        Window([6, 1, 1, 0, 6], [0, 3]),  # the last two alone are asked for
    ]
    found, kinds = losses_behind(Places(), windows, KINDS.get, STAYS, "m")
    wanted = [nats(1, 0), nats(3, 2), nats(4, 0), nats(3, 0), nats(4, 3)]
    assert found.tolist() == pytest.approx(wanted, rel=1e-5)
    assert kinds == ["word"] * 5


def test_no_window_and_no_free_token_give_nothing() -> None:
    for windows in ([], [Window([1, 2], [2, 3])]):
        found, kinds = losses_behind(Places(), windows, KINDS.get, STAYS, "m")
        assert (found.tolist(), kinds) == ([], [])


def test_windows_that_are_read_are_told() -> None:
    told: list[int] = []
    windows = [Window([6, 1, 1], [1, 1, 1])] * 5
    losses_behind(Places(), windows, KINDS.get, STAYS, "m", told.append)
    assert sum(told) == 5


def test_a_model_that_cannot_run_is_named() -> None:
    class Broken(Places):
        def forward(self, input_ids: Tensor) -> SimpleNamespace:
            raise RuntimeError(input_ids.shape)

    with pytest.raises(EvaluationError, match="mine"):
        losses_behind(Broken(), [Window([6, 1], [1, 1])], KINDS.get, STAYS, "mine")


def test_the_standard_error_is_that_of_a_mean() -> None:
    values = torch.randn(2, 10_000, generator=torch.Generator().manual_seed(1)).double() * 3
    assert standard_error(values).tolist() == pytest.approx([0.03, 0.03], rel=0.05)
    assert float(standard_error(values[:, :1])[0]) == 0.0
