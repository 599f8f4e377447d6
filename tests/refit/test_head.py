"""What is found behind a head makes the model's own logits of its states."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.families import Family
from tests.refit.made import Bench
from tokswap.errors import RefitError
from tokswap.refit.head import HeadForm, caught, find_form, head_of
from tokswap.solvers.softmax_rows import Head

INPUTS = torch.arange(40).reshape(2, 20) + 5


def made(name: str, class_name: str, size: float = 0.3, **config: float) -> nn.Module:
    model: nn.Module = Family(name, class_name).build()
    torch.manual_seed(1)
    for parameter in model.parameters():  # rows so small that no logit gets near a cap tell nothing
        nn.init.normal_(parameter, std=size)
    for key, value in config.items():
        setattr(model.config, key, value)
        if hasattr(model, key):
            setattr(model, key, value)
    return model


@torch.no_grad()
def logits_by(form: HeadForm, model: nn.Module) -> tuple[Tensor, Tensor]:
    """The logits as a solver would make them of the states, and the model's own."""
    head: Any = head_of(model, "m")
    with caught(head) as found:
        logits: Tensor = model(input_ids=INPUTS).logits
    bias = None if form.bias is None else form.bias * form.scale
    states = found["states"].flatten(0, 1) * form.scale
    return Head(bias, form.cap).logits(states, head.weight), logits.flatten(0, 1)


FORMS: dict[str, tuple[Callable[[], nn.Module], float, float | None, bool]] = {
    "scaled": (lambda: made("cohere", "CohereForCausalLM", logit_scale=0.25), 0.25, None, False),
    "divided": (
        lambda: made("granite", "GraniteForCausalLM", logits_scaling=4.0), 0.25, None, False
    ),
    "capped": (
        lambda: made("gemma2", "Gemma2ForCausalLM", final_logit_softcapping=2.0), 1.0, 2.0, False
    ),
    "not capped": (
        lambda: made("gemma2", "Gemma2ForCausalLM", final_logit_softcapping=None),  # type: ignore[arg-type]
        1.0, None, False,
    ),
    "with a bias": (lambda: made("phi", "PhiForCausalLM"), 1.0, None, True),
    "with a bias, too": (lambda: made("gptj", "GPTJForCausalLM"), 1.0, None, True),
}  # fmt: skip


@pytest.mark.parametrize("kind", FORMS)
def test_the_form_gives_the_models_own_logits(kind: str) -> None:
    make, scale, cap, bias = FORMS[kind]
    model = make()
    form = find_form(model, INPUTS, "m")
    assert form.scale == pytest.approx(scale, rel=1e-4)
    assert form.cap == cap
    assert (form.bias is not None) is bias
    again, own = logits_by(form, model)
    assert torch.allclose(again, own, rtol=1e-3, atol=1e-3 * float(own.abs().max()))


@pytest.mark.parametrize("name", ["tied", "untied"])
def test_plain_heads_are_plain(request: pytest.FixtureRequest, name: str) -> None:
    bench: Bench = request.getfixturevalue(name)
    form = find_form(bench.swapped.base, INPUTS, "m")
    assert (form.scale, form.cap, form.bias) == (1.0, None, None)


@pytest.fixture
def strange(untied: Bench) -> Iterator[Callable[[nn.Module, Callable[..., Any]], None]]:
    """Let a hook of a module change what it gives, until the test ends."""
    hooks = []

    def change(module: nn.Module, hook: Callable[..., Any]) -> None:
        hooks.append(module.register_forward_hook(hook))

    yield change
    for hook in hooks:
        hook.remove()


def noisy(_module: nn.Module, _read: Any, made: Any) -> Any:
    made["logits"] = made.logits + torch.randn(made.logits.shape)
    return made


@pytest.mark.parametrize(
    ("at_head", "hook", "said"),
    [
        (False, noisy, "^odd changes its logits behind the head in a way that .* leave it out$"),
        (
            True,
            lambda _module, _read, made: made.square(),
            r"^the head of odd \(Linear\) is no product of rows and states; leave the refit out$",
        ),
    ],
    ids=["behind", "in it"],
)
def test_what_is_not_known_is_refused_by_name(
    untied: Bench, strange: Any, at_head: bool, hook: Any, said: str
) -> None:
    model = untied.swapped.base
    strange(head_of(model, "odd") if at_head else model, hook)
    with pytest.raises(RefitError, match=said):
        find_form(model, INPUTS, "odd")


def test_a_model_without_known_rows_is_refused(
    untied: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = untied.swapped.base
    monkeypatch.setattr(model, "get_output_embeddings", lambda: None)
    with pytest.raises(RefitError, match=r"^odd has no output rows that transformers knows of"):
        find_form(model, INPUTS, "odd")
    monkeypatch.setattr(model, "get_output_embeddings", lambda: nn.Linear(3, 4))
    with pytest.raises(RefitError, match=r"^odd does not use its output rows as transformers"):
        find_form(model, INPUTS, "odd")
