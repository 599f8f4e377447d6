"""A written model folder, loaded so that its figures can be trusted."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from tokswap.checkpoint.quantised.settings import quantisation
from tokswap.errors import EvaluationError

WINDOW = 1024  # tokens; longer contexts cost more than they tell about an embedding


def load_for_scoring(
    folder: Path, *, device: str = "cpu", dtype: str | None = None
) -> tuple[torch.nn.Module, Tokenizer]:
    """Load a causal language model and its tokenizer from a local folder.

    Nothing is fetched, no code from the folder is run, and weights come from safetensors only.

    Args:
        folder: Holds config.json, safetensors and tokenizer.json.
        device: Where the model goes, in the words of torch.
        dtype: Name of a torch dtype to compute in. Without it: float32 on the CPU, where half
            precision is slow and coarse; the stored dtype elsewhere, and for quantised models.

    Returns:
        The model, set to evaluation, and the tokenizer, which neither truncates nor pads.

    Raises:
        EvaluationError: If the folder does not load, lacks weights that the model needs or holds
            another kind of model, or the device is not there.
    """
    tokenizer = _tokenizer(folder)
    _refuse_other_kinds(folder)
    place = _device(device)
    quantised = _is_quantised(folder)
    # Kernels for quantised weights know the model's own type only, and put it where it stays.
    kind = "auto" if quantised and dtype is None else _dtype(dtype, place)
    where = {"device_map": {"": place}} if quantised and place.type != "cpu" else {}
    try:
        with quiet():
            from transformers import AutoModelForCausalLM

            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=kind,
                local_files_only=True,
                trust_remote_code=False,  # None would ask at the terminal
                use_safetensors=True,
                output_loading_info=True,
                **where,
            )
    except Exception as error:  # transformers has no common kind for a folder that does not load
        reason = str(error).strip() or type(error).__name__
        raise EvaluationError(
            f"{folder} does not load as a causal language model: {reason.splitlines()[0]}; "
            "give a folder with config.json, safetensors and tokenizer.json"
        ) from error
    model, info = loaded
    # transformers fills what is missing with random numbers and merely warns.
    if lacking := [*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])]:
        raise EvaluationError(
            f"{folder} lacks {len(lacking)} weights of its model, or has them in another shape, "
            f"among them {min(lacking)}; write or download the folder again"
        )
    # from_pretrained has set it to evaluation
    return model if where else model.to(place), tokenizer


def loading_obstacle(folder: Path) -> str | None:
    """Tell, before a weight is read, why a quantised model cannot be loaded here.

    Args:
        folder: Holds config.json.

    Returns:
        The reason, as transformers gives it; None for a plain model, or where it sees none.
    """
    from transformers import AutoConfig
    from transformers.quantizers import AutoHfQuantizer

    try:
        with quiet():
            config: Any = AutoConfig.from_pretrained(folder, trust_remote_code=False)
            both = (config, config.get_text_config(decoder=True))
            said = next((s for c in both if (s := getattr(c, "quantization_config", None))), None)
            if said is not None:
                AutoHfQuantizer.from_config(said, pre_quantized=True).validate_environment(
                    device_map=None, weights_only=True
                )
    except Exception as error:  # each kind of quantisation has errors of its own
        return " ".join(str(error).split())[:300] or type(error).__name__
    return None


def default_window(config: Any) -> tuple[int, int]:
    """Choose how much text a model sees at once.

    Args:
        config: The model's transformers configuration.

    Returns:
        Window and stride in tokens: what the model has positions for, at most 1024, and half.
    """
    window = min(position_limit(config) or WINDOW, WINDOW)
    return window, max(1, window // 2)


def position_limit(config: Any) -> int | None:
    """Tell for how many positions a model was made.

    Args:
        config: The model's transformers configuration; one for several modalities is asked for
            its text part.

    Returns:
        The number of positions, or None where the model knows no limit.
    """
    text = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    for name in ("max_position_embeddings", "n_positions", "max_seq_len"):
        value = getattr(text, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return None


def _refuse_other_kinds(folder: Path) -> None:
    """Refuse what predicts no next token.

    Raises:
        EvaluationError: If the folder holds such a model.
    """
    if kind := other_kind(_said(folder)):
        raise EvaluationError(
            f"{folder} holds a {kind}, which predicts no next token, so it has no bits per byte; "
            "give a causal language model"
        )


def other_kind(config: Mapping[str, Any]) -> str | None:
    """Tell whether a model is an encoder, an encoder-decoder or a classifier.

    transformers loads a part of these as a causal language model, whose figures mean nothing. What
    it does not know by name, or has no architecture, is let be.

    Args:
        config: The parsed config.json.

    Returns:
        The model's class, or None for one that predicts the next token.
    """
    import transformers
    from transformers.models.auto import modeling_auto

    named = config.get("architectures")
    name = named[0] if isinstance(named, list) and named else None
    if not isinstance(name, str) or not hasattr(transformers, name):
        return None

    def of(kind: str) -> dict[str, Any]:
        return dict(getattr(modeling_auto, f"MODEL_FOR_{kind}_MAPPING_NAMES"))

    def names(kind: str) -> set[str]:
        found = of(kind).values()
        return {n for entry in found for n in ([entry] if isinstance(entry, str) else entry)}

    if name in names("CAUSAL_LM"):
        return None
    other = (
        config.get("model_type") in {**of("MASKED_LM"), **of("SEQ_TO_SEQ_CAUSAL_LM")}
        or config.get("is_encoder_decoder")
        or any(name in names(f"{kind}_CLASSIFICATION") for kind in ("SEQUENCE", "TOKEN"))
    )
    return name if other else None


def _said(folder: Path) -> dict[str, Any]:
    try:
        said = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # which transformers tells in its own words
        return {}
    return said if isinstance(said, dict) else {}


def _is_quantised(folder: Path) -> bool:
    return quantisation(_said(folder)) is not None


def _tokenizer(folder: Path) -> Tokenizer:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise EvaluationError(
            f"{folder} has no tokenizer.json; give a model folder that holds one, as every "
            "transplanted model does"
        )
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises Exception itself
        raise EvaluationError(
            f"{path} cannot be read as a tokenizer: {error}; write or download it again"
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _device(name: str) -> torch.device:
    try:
        # Before the weights are read: nothing else tells whether the device is there.
        return torch.empty(1, device=name).device
    except (RuntimeError, AssertionError) as error:  # the latter: torch built without CUDA
        reason = str(error).strip().splitlines()[0]
        raise EvaluationError(
            f"device {name!r} cannot be used: {reason}; use 'cpu' or a device of this machine"
        ) from error


def _dtype(name: str | None, device: torch.device) -> torch.dtype | str:
    if name is None:
        return torch.float32 if device.type == "cpu" else "auto"
    kind = getattr(torch, name, None)
    if not isinstance(kind, torch.dtype) or not kind.is_floating_point:
        raise EvaluationError(
            f"dtype {name!r} is no floating-point type of torch; use float32, bfloat16 or float16"
        )
    return kind


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the progress bars and warnings that transformers writes to stderr."""
    import transformers

    noise: Any = transformers.utils.logging
    logger = logging.getLogger("transformers")
    level, bars = logger.level, noise.is_progress_bar_enabled()
    logger.setLevel(logging.ERROR)
    noise.disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(level)
        if bars:
            noise.enable_progress_bar()
