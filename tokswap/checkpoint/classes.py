"""The class of transformers that a model is of: built without weights, loaded, and run."""

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

AUTO_CLASSES = (
    "AutoModelForCausalLM",
    "AutoModelForMaskedLM",
    "AutoModelForImageTextToText",
    "AutoModelForSeq2SeqLM",
    "AutoModelForMultimodalLM",
    "AutoModelForPreTraining",
    "AutoModel",
)
"""In which order transformers is asked for the class of a model."""


def build(config: Any, architectures: list[str] | None) -> Any:
    """Build the model of a config on the meta device.

    Args:
        config: The config.
        architectures: What config.json says; the first that the installed transformers has for
            this config is built, and without one what the Auto classes say.

    Raises:
        ValueError: If transformers has no model for this config.
    """
    import torch
    import transformers

    with torch.device("meta"):
        for name in architectures or ():
            found: Any = getattr(transformers, str(name), None)
            known = isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)
            wanted = getattr(found, "config_class", None) if known else None
            if wanted is not None and isinstance(config, wanted):
                return getattr(found, "_from_config")(copy.deepcopy(config))  # noqa: B009
        for auto in AUTO_CLASSES[:-2]:
            kind = getattr(transformers, auto)
            if type(config) in kind._model_mapping:
                return kind.from_config(copy.deepcopy(config), trust_remote_code=False)
    raise ValueError(f"it has no language model for {type(config).__name__}")


def gives(auto: str, config: Any, kind: type) -> bool:
    """Tell whether an Auto class gives a class for a config."""
    import transformers

    mapping = getattr(transformers, auto)._model_mapping
    return type(config) in mapping and mapping[type(config)] is kind


def load_model(folder: "os.PathLike[str]", class_name: str) -> Any:
    """Load a model by the first Auto class that gives this class, or by itself where none does."""
    return load_and_compare(folder, class_name)[0]


def load_and_compare(folder: "os.PathLike[str]", class_name: str) -> tuple[Any, set[str]]:
    """Load a model as :func:`load_model` does, and tell what it did not find.

    Returns:
        The model, and the names of its tensors that the folder lacks: transformers fills them with
        random numbers and merely warns.
    """
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    kind = getattr(transformers, class_name)
    auto = next((name for name in AUTO_CLASSES if gives(name, config, kind)), None)
    kind = getattr(transformers, auto) if auto else kind
    model, info = kind.from_pretrained(
        folder, dtype="auto", trust_remote_code=False, output_loading_info=True
    )
    return model, set(info["missing_keys"])


def run_model(model: Any, ids: "Tensor") -> "Tensor":
    """Run a model on token ids.

    Returns:
        Its logits, or its last hidden states where it has no head.
    """
    more = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    outputs = model(input_ids=ids, **more)
    found: Tensor = outputs.logits if "logits" in outputs else outputs[0]
    return found


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what transformers writes to stderr."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
