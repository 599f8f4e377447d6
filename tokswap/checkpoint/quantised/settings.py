"""What a config says about quantisation, and how a module is taken out of it."""

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tokswap.vocabulary.special import levels

KEYS = ("quantization_config", "compression_config")

SKIPPED = {
    "fp8": ("modules_to_not_convert", "ignored_layers"),
    "mxfp8": ("modules_to_not_convert", "ignored_layers"),
    "fbgemm_fp8": ("modules_to_not_convert",),
    "awq": ("modules_to_not_convert",),
    "bitsandbytes": ("llm_int8_skip_modules",),
    "compressed-tensors": ("ignore",),
    "modelopt": ("ignore", "exclude_modules"),
    "gptq": (),
}
"""The methods whose weights can be made plain, and under which keys each names the modules that it
leaves out; the first is written where none is there. GPTQ has a flag for the head instead."""

BESIDE = ("quantize_config.json", "quant_config.json", "hf_quant_config.json")
"""Files that repeat these settings beside config.json."""


def quantisation(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Find the settings of the quantisation in a parsed config.json; None where it has none."""
    for level in levels(config):
        for key in KEYS:
            if isinstance(level.get(key), Mapping):
                found: Mapping[str, Any] = level[key]
                return found
    return None


def method_of(settings: Mapping[str, Any]) -> str:
    """Name the method of quantisation."""
    if settings.get("load_in_4bit") or settings.get("load_in_8bit"):
        return "bitsandbytes"
    method = str(settings.get("quant_method") or "unknown").lower()
    if method == "modelopt" or (method == "unknown" and "quant_algo" in settings):
        return "modelopt"
    return {"compressed_tensors": "compressed-tensors", "sparseml": "compressed-tensors"}.get(
        method, method
    )


def leave_out(config: Mapping[str, Any], modules: Sequence[str]) -> dict[str, Any]:
    """Say in a config that some modules are not quantised.

    Args:
        config: The parsed config.json.
        modules: Their names.

    Returns:
        A copy of the config, in which the list of modules that the method leaves out has them.
    """
    patched = copy.deepcopy(dict(config))
    if not modules:
        return patched
    for level in levels(patched):
        for key in KEYS:
            if isinstance(level.get(key), dict):
                _leave_out(level[key], method_of(level[key]), modules)
    return patched


def leave_out_beside(
    said: Mapping[str, Any], method: str, modules: Sequence[str]
) -> dict[str, Any]:
    """Say the same in a file that repeats the settings; what it does not repeat is not added.

    Args:
        said: The parsed file, one of :data:`BESIDE`.
        method: The method that config.json names.
        modules: Names of the modules that are no longer quantised.
    """
    patched = copy.deepcopy(dict(said))
    if method == "gptq":
        _leave_out(patched, method, modules)
        return patched
    for level in levels(patched):
        assert isinstance(level, dict)  # noqa: S101 - a deep copy of JSON holds nothing else
        if set(SKIPPED[method]) & level.keys():
            _leave_out(level, method, modules)
    return patched


def _leave_out(settings: dict[str, Any], method: str, modules: Sequence[str]) -> None:
    if method == "gptq":
        settings["lm_head"] = False
        if isinstance(settings.get("dynamic"), dict):
            # The first rule that matches decides; "-:" takes a module out.
            out: dict[str, Any] = {f"-:^{re.escape(module)}$": {} for module in modules}
            kept = {rule: v for rule, v in settings["dynamic"].items() if rule not in modules}
            settings["dynamic"] = {**out, **kept}
        return
    keys = SKIPPED[method]
    key = next((key for key in keys if isinstance(settings.get(key), list)), keys[0])
    said = settings.get(key) or []
    settings[key] = [*said, *(module for module in modules if module not in said)]
    if isinstance(settings.get("modules_to_convert"), list):
        settings["modules_to_convert"] = [
            name
            for name in settings["modules_to_convert"]
            if not any(module.endswith(name) for module in modules)
        ]
