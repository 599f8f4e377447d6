"""Taking a module out of the quantisation that a config tells of."""

from typing import Any

import pytest

from tokswap.checkpoint.quantised.settings import (
    leave_out,
    leave_out_beside,
    method_of,
    quantisation,
)

HEAD = ["lm_head"]


def patched(settings: dict[str, Any]) -> dict[str, Any]:
    config = {"vocab_size": 8, "quantization_config": settings}
    before = str(config)
    after = leave_out(config, HEAD)
    assert str(config) == before  # a copy was changed
    assert after["vocab_size"] == 8
    found: dict[str, Any] = after["quantization_config"]
    return found


@pytest.mark.parametrize(
    ("settings", "key", "wanted"),
    [
        ({"quant_method": "fp8"}, "modules_to_not_convert", HEAD),
        ({"quant_method": "fp8", "modules_to_not_convert": None}, "modules_to_not_convert", HEAD),
        ({"quant_method": "fp8", "ignored_layers": ["gate"]}, "ignored_layers", ["gate", *HEAD]),
        ({"quant_method": "awq", "modules_to_not_convert": HEAD}, "modules_to_not_convert", HEAD),
        ({"quant_method": "compressed-tensors", "ignore": ["re:.*gate"]}, "ignore",
         ["re:.*gate", *HEAD]),
        ({"load_in_8bit": True}, "llm_int8_skip_modules", HEAD),
        ({"quant_method": "modelopt", "exclude_modules": []}, "exclude_modules", HEAD),
        ({"quant_algo": "FP8", "ignore": []}, "ignore", HEAD),
        ({"quant_method": "gptq"}, "lm_head", False),
        ({"quant_method": "gptq", "lm_head": True}, "lm_head", False),
    ],
)  # fmt: skip
def test_the_module_is_named_where_the_method_looks(
    settings: dict[str, Any], key: str, wanted: Any
) -> None:
    assert patched(settings) == settings | {key: wanted}


def test_settings_are_found_in_nested_configs_too() -> None:
    config = {"text_config": {"quantization_config": {"quant_method": "awq"}}}
    assert quantisation(config) == {"quant_method": "awq"}
    after = leave_out(config, ["language_model.lm_head"])
    skipped = after["text_config"]["quantization_config"]["modules_to_not_convert"]
    assert skipped == ["language_model.lm_head"]
    assert quantisation({"text_config": {}}) is None


def test_nothing_changes_where_nothing_was_made_plain() -> None:
    config = {"quantization_config": {"quant_method": "gptq", "lm_head": True}}
    assert leave_out(config, []) == config


def test_a_file_beside_says_it_under_its_own_keys() -> None:
    said = {"producer": {"name": "modelopt"}, "quantization": {"exclude_modules": ["proj_out"]}}
    assert leave_out_beside(said, "modelopt", HEAD) == said | {
        "quantization": {"exclude_modules": ["proj_out", *HEAD]}
    }
    assert leave_out_beside({"w_bit": 4}, "awq", HEAD) == {"w_bit": 4}


@pytest.mark.parametrize(
    ("settings", "method"),
    [
        ({"load_in_4bit": True}, "bitsandbytes"),
        ({"quant_method": "BitsAndBytes"}, "bitsandbytes"),
        ({"quant_method": "compressed_tensors"}, "compressed-tensors"),
        ({"quant_method": "hqq"}, "hqq"),
        ({}, "unknown"),
    ],
)
def test_methods_by_their_names(settings: dict[str, Any], method: str) -> None:
    assert method_of(settings) == method
