"""Which stored tensors make one weight, read from their names."""

import re
from collections.abc import Iterable

Parts = dict[str, str]
"""Stored names by what each holds: ``weight``, ``weight_scale``, ``qweight`` …"""

PLAIN = "weight"

_MODULE_PARTS = (
    "qweight|qzeros|scales|g_idx|SCB|weight_format"
    "|scale|qscale_weight|weight_scale_inv|weight_scale|weight_scale_2|weight_global_scale"
    "|weight_zero_point|weight_g_idx|weight_packed|weight_shape"
    "|activation_scale|input_scale|input_scale_ub|input_zero_point|input_global_scale"
    r"|weight\.(?:absmax|quant_map|nested_absmax|nested_quant_map|quant_state\.bitsandbytes__\w+)"
)
_NAME = re.compile(rf"(?P<module>.+)\.(?P<part>{_MODULE_PARTS})")
_FUSED = re.compile(r"(?P<weight>.+_proj)_(?P<part>blocks|scales|scale_inv|scale)")
"""Experts in one tensor have no module of their own: ``gate_up_proj_blocks`` (MXFP4)."""


def plain_name(stored: str) -> str:
    """Name the plain weight that a stored tensor is a part of; other names stand for themselves."""
    if found := _NAME.fullmatch(stored):
        return f"{found['module']}.{PLAIN}"
    if found := _FUSED.fullmatch(stored):
        return found["weight"]
    return stored


def group_parts(stored: Iterable[str]) -> dict[str, Parts]:
    """Collect the parts of each weight that is stored with more than its numbers.

    Args:
        stored: Names of all stored tensors.

    Returns:
        By the name of the plain weight, the stored name of each part; ``weight`` among them where
        the numbers are stored under the plain name.
    """
    names = list(stored)
    groups: dict[str, Parts] = {}
    for name in names:
        if found := _NAME.fullmatch(name):
            plain = f"{found['module']}.{PLAIN}"
            groups.setdefault(plain, {})[found["part"]] = name
    for name in names:
        if name in groups:
            groups[name][PLAIN] = name
    return groups
