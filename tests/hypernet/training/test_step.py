"""A step: the gradient that it moves the weights by is that of the loss as it is written down."""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tests.hypernet.training.conftest import TEXT, small_recipe
from tokswap.errors import TrainingError
from tokswap.hypernet.network import Hypernet
from tokswap.hypernet.training.frozen import FrozenBase
from tokswap.hypernet.training.losses import chunk_divergences
from tokswap.hypernet.training.optimizer import make_optimizer
from tokswap.hypernet.training.prepared import Identity, Prepared, Preparer
from tokswap.hypernet.training.processes import Processes
from tokswap.hypernet.training.recipe import TrainRecipe
from tokswap.hypernet.training.setup import begin
from tokswap.hypernet.training.source_text import Spans
from tokswap.hypernet.training.step import Stepper

Frozen = Callable[[str], FrozenBase]


def made(base: FrozenBase, recipe: TrainRecipe) -> tuple[Stepper, Preparer]:
    begun = begin(recipe, base)
    optimizer = make_optimizer(begun.network, 0.0)
    alone = Processes.join("cpu", "float32", shard=False)
    preparer = Preparer(recipe, base, begun.forms, [Spans([TEXT], [0])])
    return Stepper(recipe, begun.network, base, optimizer, alone), preparer


def gradients(network: Hypernet) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}


def by_hand(base: FrozenBase, network: Hypernet, step: Prepared, recipe: TrainRecipe) -> Tensor:
    """The loss of a step, all at once and with autograd alone."""
    said = recipe.loss
    predicted = network(step.forms, base.source)
    special = torch.tensor(base.special, dtype=torch.int64)
    own = step.own.clamp(min=0)
    kept = (step.own >= 0) & step.copied
    tables = []
    rows = [predicted.inputs, predicted.outputs, predicted.bias]
    for table, own_table in zip([r for r in rows if r is not None], base.tables, strict=True):
        stays = kept[:, None] if table.dim() == 2 else kept
        tables.append(torch.cat([torch.where(stays, own_table[own], table), own_table[special]]))
    named = dict(zip(base.names, tables, strict=True))
    logits = base.logits(
        step.ids, named["input"], named.get("output"), named.get("bias"), step.there
    )
    loss = said.text * cross_entropy(logits[step.wanted], step.targets[step.wanted])
    distances, width = [], base.width
    for made_rows, stored in zip(tables, base.tables, strict=False):
        if made_rows.dim() == 2:
            there = step.own >= 0
            found = predicted.inputs if not distances else predicted.outputs
            assert found is not None
            apart = (found[there] - stored[own][there]).square().sum(1).mean()
            distances.append(apart / stored.norm(dim=1).mean())
            assert stored.shape[1] == width
    loss = loss + said.auxiliary * sum(distances) / len(distances)
    if step.chunked is not None:
        with torch.no_grad():
            plain = base.model(input_ids=step.chunked.ids[:, :-1]).logits
        parts = []
        for row in range(len(step.ids)):
            for chunk in range(0 if base.before else 1, int(step.chunked.counts[row])):
                mine = step.chunked.chunks[row] == chunk
                theirs = step.chunked.given[row] == chunk
                parts.append(
                    chunk_divergences(
                        cross_entropy(logits[row][mine], step.targets[row][mine], reduction="sum"),
                        cross_entropy(
                            plain[row][theirs], step.chunked.ids[row, 1:][theirs], reduction="sum"
                        ),
                        said.temperature,
                    )
                )
        loss = loss + said.chunks * torch.stack(parts).mean()
    return loss


@pytest.mark.parametrize("micro", [None, 2])
@pytest.mark.parametrize("copied", [0.0, 1.0])
@pytest.mark.parametrize("kind", ["untied", "bare", "head bias", "gaps from pad"])
def test_the_gradient_is_that_of_the_loss(
    kind: str, copied: float, micro: int | None, frozen: Frozen
) -> None:
    base = frozen(kind)
    recipe = small_recipe(
        identity_steps=0,
        micro_texts=micro,
        tokenizers={"copied": copied, "stride": 1},
        loss={"chunks": 0.7 if base.mask is None else 0.0, "text": 1.3, "auxiliary": 0.6},
        optimizer={"clip": 0.0},
    )
    stepper, preparer = made(base, recipe)
    step = preparer.step(0)
    assert isinstance(step, Prepared)
    loss = by_hand(base, stepper.network, step, recipe)
    loss.backward()
    wanted = gradients(stepper.network)
    taken = stepper.take(step)
    found = gradients(stepper.network)
    assert taken.loss == pytest.approx(loss.item(), rel=1e-4)
    length = math.sqrt(sum(float(grad.square().sum()) for grad in wanted.values()))
    assert taken.gradient == pytest.approx(length, rel=1e-3)
    assert length > 0.01
    for name, grad in wanted.items():
        assert torch.allclose(found[name], grad, rtol=1e-3, atol=1e-4 * length), name
    assert taken.bits_per_byte == pytest.approx(
        taken.parts["text"] * int(step.wanted.sum()) / step.bytes / math.log(2)
    )


def test_the_bases_own_rows_are_learned(frozen: Frozen) -> None:
    base = frozen("untied")
    recipe = small_recipe(
        identity_steps=40, steps=40, optimizer={"identity_rate": 0.003, "clip": 0.0}
    )
    stepper, preparer = made(base, recipe)
    step = preparer.step(0)
    assert isinstance(step, Identity)
    inputs, outputs = base.own(step.ids)
    assert outputs is not None
    predicted = stepper.network(step.ids[:, None], base.source)
    assert predicted.outputs is not None
    wanted = (predicted.inputs - inputs).square().sum(1) + (
        predicted.outputs - outputs
    ).square().sum(1)
    losses = [stepper.take(preparer.step(number)).loss for number in range(40)]
    assert losses[0] == pytest.approx(wanted.mean().item() / 2, rel=1e-4)
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_what_is_not_finite_moves_nothing(
    where: str, frozen: Frozen, monkeypatch: pytest.MonkeyPatch
) -> None:
    stepper, preparer = made(frozen("tied"), small_recipe(identity_steps=0))
    step: Any = preparer.step(0)
    before = {name: p.clone() for name, p in stepper.network.named_parameters()}
    if where == "loss":
        logits = FrozenBase.logits
        monkeypatch.setattr(FrozenBase, "logits", lambda *said: logits(*said) * math.nan)
    else:
        monkeypatch.setattr(Stepper, "_gradient", lambda _: math.inf)
    with pytest.raises(TrainingError, match=f"the {where} of step 0 is not finite"):
        stepper.take(step)
    assert all(torch.equal(p, before[name]) for name, p in stepper.network.named_parameters())
    assert not stepper.optimizer.state


@pytest.mark.parametrize("shard", [False, True])
@pytest.mark.parametrize("micro", [None, 1, 2, 5])
@pytest.mark.parametrize(("count", "world"), [(7, 1), (7, 3), (2, 4), (8, 4)])
def test_texts_are_dealt_out_once(
    count: int, world: int, micro: int | None, shard: bool, frozen: Frozen
) -> None:
    """Each text counts once, and no process is left without any: the others would wait for it."""
    stepper, _ = made(frozen("tied"), small_recipe(micro_texts=micro))
    counted: list[int] = []
    times = set()
    for rank in range(world):
        seen = SimpleNamespace(num_processes=world, process_index=rank)
        stepper.processes = Processes(seen, shard, "cpu")
        parts = list(stepper._micro(count))
        assert parts
        times.add(len(parts))
        counted += [n for rows, share in parts if share for n in range(count)[rows]]
        assert all(len(range(count)[rows]) <= (micro or count) for rows, _ in parts)
        assert all(len(range(count)[rows]) for rows, _ in parts)
    assert counted == list(range(count))
    assert not shard or len(times) == 1


def test_one_process_computes_where_it_is_asked_to() -> None:
    assert Processes.join("cpu", "float32", shard=False).device == torch.device("cpu")
    alone = SimpleNamespace(num_processes=1, process_index=0, device=torch.device("cuda:0"))
    assert Processes(alone, False, "cuda:1").device == torch.device("cuda:1")
    second = SimpleNamespace(num_processes=2, process_index=1, device=torch.device("cuda:1"))
    assert Processes(second, False, "cuda").device == torch.device("cuda:1")
