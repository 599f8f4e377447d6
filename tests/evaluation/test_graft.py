"""Two models around one body."""

import pytest
import torch
from torch import Tensor, nn

from tokswap.errors import EvaluationError
from tokswap.evaluation.graft import graft

GROWING = ("inner.embed.weight", "head.weight")


class Small(nn.Module):
    """An embedding, a body, and a head with what stands beside its table."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.inner = nn.ModuleDict({"embed": nn.Embedding(rows, 4), "layer": nn.Linear(4, 4)})
        self.head = nn.Linear(4, rows, bias=False)
        self.scale = nn.Parameter(torch.ones(4))
        self.register_buffer("shift", torch.arange(4.0), persistent=False)
        self.register_buffer("known", None)
        self.table = torch.arange(3.0)  # neither a parameter nor a buffer

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.inner["layer"](self.inner["embed"](ids)) * self.scale + self.shift
        found: Tensor = self.head(hidden) + self.table.sum()
        return found


def pair(rows: int) -> tuple[Small, Small]:
    torch.manual_seed(0)
    body = Small(9).eval()
    with torch.device("meta"):
        return body, Small(rows)


def test_all_but_the_tables_is_the_bodys() -> None:
    body, crown = pair(5)
    table = torch.randn(5, 4)
    made = graft(body, crown, {"inner.embed.weight": table, "head.weight": table}, GROWING)
    assert made is crown
    assert not made.training
    ids = torch.tensor([3, 1, 4])
    hidden = body.inner["layer"](table[ids]) * body.scale + body.shift
    assert torch.equal(made(ids), hidden @ table.T + 3)
    assert crown.inner["layer"] is body.inner["layer"]
    assert crown.scale is body.scale
    table.zero_()  # both names stand for the one table, also when it is written over
    assert torch.equal(made(ids), torch.full((3, 5), 3.0))
    assert body(torch.tensor([8])).shape == (1, 9)


def test_a_table_of_another_shape_is_refused() -> None:
    body, crown = pair(5)
    tables = {"inner.embed.weight": torch.zeros(6, 4), "head.weight": torch.zeros(5, 4)}
    with pytest.raises(EvaluationError, match=r"inner.embed.weight would have the shape \(6, 4\)"):
        graft(body, crown, tables, GROWING)


def test_what_is_stored_nowhere_is_refused() -> None:
    body, crown = pair(5)
    with pytest.raises(EvaluationError, match=r"Small has head.weight, which depends on the vocab"):
        graft(body, crown, {"inner.embed.weight": torch.zeros(5, 4)}, GROWING)
