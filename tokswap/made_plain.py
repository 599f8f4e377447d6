"""What a base stores quantised and the output plain, and the settings that say so."""

from typing import Any

from tokswap.checkpoint.quantised.settings import BESIDE, leave_out, leave_out_beside, method_of
from tokswap.pair import Pair

HEAD = "lm_head"


def made_plain(pair: Pair) -> list[str]:
    """Name the modules that are quantised in the base and plain in the output."""
    weights = [name for name in pair.layout.names if pair.base.parts(name)]
    modules = [weight.rpartition(".")[0] for weight in weights]
    # Engines that build the model under other names know the head by its last one.
    heads = [HEAD for module in modules if module.endswith(f".{HEAD}")]
    return list(dict.fromkeys([*modules, *heads]))


def settings_of_plain(config: dict[str, Any], pair: Pair) -> dict[str, Any]:
    """Say in a config.json that these modules are not quantised."""
    return leave_out(config, made_plain(pair))


def settings_beside(pair: Pair) -> dict[str, dict[str, Any]]:
    """Say it in the files that repeat the settings; by name, those that change."""
    settings, modules = pair.base.quantisation, made_plain(pair)
    if settings is None or not modules:
        return {}
    method = method_of(settings)
    return {
        name: leave_out_beside(pair.base.read_json(name), method, modules)
        for name in BESIDE
        if name in pair.base.files.names
    }
