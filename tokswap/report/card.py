"""The model card of an output folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tokswap.methods import METHODS
from tokswap.pair import Pair

CARD = "README.md"


def write_card(path: Path, record: Mapping[str, Any], pair: Pair) -> None:
    """Write the README.md of an output folder.

    Args:
        path: The file to write.
        record: What tokswap.json holds.
        pair: The base and the donor.
    """
    base, donor = pair.base.location, pair.donor.location
    recipe, counts = record["recipe"], record["counts"]
    method = METHODS[recipe["method"]]
    front: dict[str, Any] = {"library_name": "transformers", "tags": ["tokswap", "tokenizer"]}
    if base.kind == "hub":
        front["base_model"] = base.target
    settings = yaml.safe_dump({k: v for k, v in recipe.items() if v is not None}, sort_keys=False)
    text = f"""---
{yaml.safe_dump(front, sort_keys=False).strip()}
---

# {base.short} with the vocabulary of {donor.short}

The body of `{base.name}` with the tokenizer of `{donor.name}`, made without training by tokswap
{record["versions"]["tokswap"]}: method `{recipe["method"]}` ({method.summary}; {method.paper}).
{_plan(record.get("plan"))}
| rows of the new vocabulary | {counts["donor_size"]:,} |
|---|---:|
| shared, copied from the base | {counts["shared"]:,} |
| missing, filled by the method | {counts["missing"]:,} |
| special tokens with a counterpart | {counts["special"]:,} |
| special tokens without one | {counts["special_unmatched"]:,} |
| said by the user | {counts["overridden"]:,} |
| ids without a token | {counts["unused"]:,} |
{_figures(record.get("figures"))}
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")
model = AutoModelForCausalLM.from_pretrained("path/to/this/folder")
```

The recipe:

```yaml
{settings.strip()}
```

The licences of both models apply. `tokswap.json` holds the full record, `tokswap.plan` says where
each row comes from (`tokswap inspect --plan . --token TEXT`).
"""
    path.write_text(text, encoding="utf-8")


def _plan(plan: Mapping[str, Any] | None) -> str:
    """Say where a plan comes from that was applied and not made here."""
    if not plan:
        return ""
    return (
        f"\nIts rows are those of a plan that was made for `{plan['base']['name']}` (SHA-256 "
        f"`{plan['sha256'][:12]}…`), applied to this base.\n"
    )


def _figures(figures: Mapping[str, Any] | None) -> str:
    if not figures:
        return ""
    lines = ["", "| | bits per byte | token perplexity | tokens per byte |", "|---|---:|---:|---:|"]
    for name, score in figures.items():
        lines.append(
            f"| {name} | {score['bits_per_byte']:.4f} | {score['token_perplexity']:.2f} "
            f"| {score['tokens_per_byte']:.4f} |"
        )
    first = next(iter(figures.values()))
    texts = ", ".join(text["name"] for text in first["texts"])
    lines += ["", f"On {texts}; window {first['window']}, stride {first['stride']} tokens."]
    return "\n".join(lines) + "\n"
