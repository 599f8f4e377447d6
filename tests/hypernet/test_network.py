"""The network against transformers' RobertaModel with the same weights."""

import math

import pytest
import torch
from torch import Tensor

from tests.hypernet.made import KINDS, LENGTH, reference, settings, weights
from tokswap.hypernet.config import read_config
from tokswap.hypernet.network import Hypernet
from tokswap.hypernet.stored import fill

ROWS, PAD = 50, 2


def forms() -> Tensor:
    """Whole and short ones, one piece alone, ids of the network's own rows; all with a piece."""
    generator = torch.Generator().manual_seed(1)
    found = torch.randint(3, ROWS + 9, (24, LENGTH), generator=generator)
    lengths = torch.randint(1, LENGTH + 1, (24,), generator=generator)
    found[torch.arange(LENGTH) >= lengths[:, None]] = PAD
    found[0, 1:] = PAD
    found[1] = torch.arange(ROWS, ROWS + LENGTH)
    found[2] = torch.tensor([ROWS + 8, 3, ROWS, PAD, PAD])
    return found


@pytest.fixture(params=KINDS)
def made(request: pytest.FixtureRequest) -> tuple[dict, dict, Hypernet, Tensor, int | None]:
    said = settings(request.param)
    tensors = weights(said)
    network = Hypernet(read_config(said, "made"))
    fill(network, tensors, "made")
    read = said["n_embd"] * (1 + said["separate_out_embeddings"])
    source = torch.randn(ROWS + 3, read, generator=torch.Generator().manual_seed(2))
    return said, tensors, network.eval(), source, 1 if said["hn_embed_lang_id"] else None


def test_predicts_what_the_library_predicts(made) -> None:
    said, tensors, network, source, language = made
    wanted = reference(said, tensors, forms(), source, language)
    with torch.no_grad():
        found = network(forms(), source, language)
    for name in ("inputs", "outputs", "bias"):
        ours, theirs = getattr(found, name), wanted[name]
        assert (ours is None) == (theirs is None), name
        if ours is not None:
            scale = theirs.std()
            torch.testing.assert_close(ours / scale, theirs / scale, rtol=0, atol=1e-5)


def test_what_is_behind_the_pieces_does_not_count(made) -> None:
    """Short tokens get the same rows whether they stand beside long ones or not."""
    _, _, network, source, language = made
    short = forms()[(forms() != PAD).sum(dim=1) <= 2]
    with torch.no_grad():
        alone = network(short[:, :2], source, language)
        among = network(torch.cat([short, forms()]), source, language)
    torch.testing.assert_close(alone.inputs, among.inputs[: len(short)], rtol=1e-5, atol=1e-5)


def test_a_token_without_pieces_has_a_row(made) -> None:
    _, _, network, source, language = made
    with torch.no_grad():
        found = network(torch.full((2, LENGTH), PAD), source, language)
    assert bool(found.inputs.isfinite().all())


@pytest.mark.parametrize(
    ("kind", "language"), [("tied", 0), ("language", None), ("language", -1), ("language", 3)]
)
def test_a_language_that_is_none_is_refused(kind: str, language: int | None) -> None:
    network = Hypernet(read_config(settings(kind), "made"))
    with pytest.raises(ValueError, match="none of"):
        network(forms(), torch.zeros(ROWS, 12), language)


def test_languages_differ() -> None:
    said = settings("language")
    network = Hypernet(read_config(said, "made"))
    fill(network, weights(said), "made")
    with torch.no_grad():
        one, two = (network(forms(), torch.ones(ROWS, 12), number).inputs for number in (0, 2))
    assert not torch.allclose(one, two, atol=1e-3)


def test_begins_as_it_is_published() -> None:
    """LeCun's rule for the projections, RoBERTa's 0.02 for the encoder; rescalers do nothing."""
    network = Hypernet(read_config(settings(), "made"), generator=torch.Generator().manual_seed(0))
    state = network.state_dict()
    assert state["input_projection.1.dense1.weight"].std() == pytest.approx(
        1 / math.sqrt(32), rel=0.1
    )
    assert state["model.encoder.layer.0.intermediate.dense.weight"].std() == pytest.approx(
        0.02, rel=0.1
    )
    assert not bool(state["scaler.b"].any())
    again = Hypernet(read_config(settings(), "made"), generator=torch.Generator().manual_seed(0))
    assert all(torch.equal(state[name], tensor) for name, tensor in again.state_dict().items())


def test_every_position_learns() -> None:
    """The published torch code never trains the row of the second piece."""
    network = Hypernet(read_config(settings(), "made"))
    network(forms(), torch.randn(ROWS, 24)).inputs.sum().backward()
    grad = network.model.embeddings.position_embeddings.weight.grad
    assert grad is not None
    assert bool((grad[:LENGTH].abs().sum(dim=1) > 0).all())
