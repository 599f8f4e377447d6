"""The model card of an output folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tokswap.checkpoint.classes import AUTO_CLASSES, gives
from tokswap.checkpoint.licences import LICENCE, licence_files, stated_licence
from tokswap.checkpoint.source import Checkpoint
from tokswap.methods import METHODS
from tokswap.pair import Pair
from tokswap.refit.report import lines
from tokswap.report.cut import cut_line
from tokswap.report.held_out import held_out_lines

CARD = "README.md"

NAMES = {"floor": "segmentation floor"}
"""What the card calls figures that the record calls by a shorter name."""


def write_card(path: Path, record: Mapping[str, Any], pair: Pair) -> None:
    """Write the README.md of an output folder.

    Args:
        path: The file to write.
        record: What tokswap.json holds.
        pair: The base and the donor.
    """
    base = pair.base.location
    recipe, counts = record["recipe"], record["counts"]
    front: dict[str, Any] = {"library_name": "transformers", "tags": ["tokswap", "tokenizer"]}
    if base.kind == "hub":
        front["base_model"] = base.target
    if (stated := stated_licence(pair.base)) and stated == stated_licence(pair.donor):
        front["license"] = stated
    settings = yaml.safe_dump({k: v for k, v in recipe.items() if v is not None}, sort_keys=False)
    title, what = _what(record, pair)
    text = f"""---
{yaml.safe_dump(front, sort_keys=False).strip()}
---

# {title}

{what}, made without training by tokswap
{record["versions"]["tokswap"]}: {_like(record) if recipe.get("like") else _methods(recipe)}.
{_plan(record.get("plan"))}
| rows of the new vocabulary | {counts["donor_size"]:,} |
|---|---:|
| shared, copied from the base | {counts["shared"]:,} |
| missing, filled by the method | {counts["missing"]:,} |
| special tokens with a counterpart | {counts["special"]:,} |
| special tokens without one | {counts["special_unmatched"]:,} |
| said by the user | {counts["overridden"]:,} |
| ids without a token | {counts["unused"]:,} |
{_figures(record)}{_refit(record)}{_held_out(record)}{_notes(record.get("notes") or [])}
{_loading(record.get("tokenizer") or {}, model_loader(path.parent, pair))}
The recipe:

```yaml
{settings.strip()}
```

{_licences(path.parent, pair)}

`tokswap.json` holds the full record, `tokswap.plan` says where each row comes from (`tokswap
inspect --plan . --token TEXT`).
"""
    path.write_text(text, encoding="utf-8")


def _what(record: Mapping[str, Any], pair: Pair) -> tuple[str, str]:
    """Say what the model is: in the title, and in a sentence that goes on."""
    base, donor = pair.base.location, pair.donor.location
    if extended := record.get("extended"):
        count = len(extended["tokens"]) + len(extended["intermediates"])
        return (
            f"{base.short} with {count:,} more tokens",
            f"`{base.name}` with {count:,} tokens behind those of its own tokenizer (`extended` in "
            "`tokswap.json` lists them)",
        )
    return (
        f"{base.short} with the vocabulary of {donor.short}",
        f"The body of `{base.name}` with the tokenizer of `{donor.name}`",
    )


def _methods(recipe: Mapping[str, Any]) -> str:
    """Name every method that a recorded recipe asks for, with what it does and its paper."""
    asked = {"": recipe, **{f" for {kind}": part for kind, part in recipe["per_kind"].items()}}
    said = []
    for tokens, part in asked.items():
        names = part["method"]
        by_role = {"": names} if isinstance(names, str) else names
        for role, name in by_role.items():
            kind = METHODS[name]
            of_role = f" for {role} rows" * bool(role)
            said.append(f"method `{name}`{of_role}{tokens} ({kind.summary}; {kind.paper})")
    return ", ".join(said)


def _like(record: Mapping[str, Any]) -> str:
    """Say how a fine-tune was made like its transplanted base, and what was added to it."""
    like, body = record["like"], record["like"]["body"] or {}
    said = f"by the rows of `{like['name']}`, which was made of `{like['original']}`"
    trained = sum(bool(table["trained"]) for table in like["rows"].values())
    said += ", with what further training has changed in them" * bool(trained)
    if body.get("changed"):
        said += (
            f", and with {record['recipe']['strength']:g} of what it has changed in the body "
            f"({body['changed']} of {body['compared']} tensors)"
        )
    return said


def _notes(notes: Sequence[str]) -> str:
    """List what was told of this transplant."""
    return "\nWhat to know of it:\n\n" + "".join(f"- {line}\n" for line in notes) if notes else ""


def _held_out(record: Mapping[str, Any]) -> str:
    """Say how well rows carried over."""
    lines = held_out_lines(record.get("held_out"))
    return "".join(f"\n{line[0].upper()}{line[1:]}.\n" for line in lines)


def _refit(record: Mapping[str, Any]) -> str:
    """Say what the rows were refitted to."""
    said = record.get("refit")
    return "".join(f"\n{line[0].upper()}{line[1:]}.\n" for line in (lines(said) if said else []))


def _licences(folder: Path, pair: Pair) -> str:
    """Name the licences of both models, and the files here that hold them."""
    names = sorted(path.name for path in folder.iterdir() if LICENCE.fullmatch(path.name))
    of_base = licence_files(pair.base)
    lines = ["The licences of both models apply:", ""]
    sides: dict[str, tuple[Checkpoint, list[str]]] = {
        "base": (pair.base, [name for name in names if name in of_base]),
        "donor": (pair.donor, [name for name in names if name not in of_base]),
    }
    if pair.base.location == pair.donor.location:
        lines[0] = "The licence of the model applies:"
        del sides["donor"]
    for side, (model, files) in sides.items():
        stated = stated_licence(model) or "none stated"
        where = f"; see {', '.join(files)}" if files else ""
        lines.append(f"- {side} `{model.name}`: {stated}{where}")
    return "\n".join(lines)


def model_loader(folder: Path, pair: Pair) -> str | None:
    """Name what loads the model of an output folder: the first Auto class that gives its class.

    Returns:
        The name; that of the class itself where no Auto class gives it, None where nothing does.
    """
    if not pair.layout.model_class:
        return None
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    kind = getattr(transformers, pair.layout.model_class)
    found = (auto for auto in AUTO_CLASSES if gives(auto, config, kind))
    return next(found, pair.layout.model_class)


def _loading(tokenizer: Mapping[str, Any], model: str | None) -> str:
    """Show how to load the model and the tokenizer, and what was done so that it loads."""
    line = tokenizer.get("load", 'AutoTokenizer.from_pretrained("path/to/this/folder")')
    maker = line.replace("(", ".").partition(".")[0]
    lines = [
        "```python",
        f"from transformers import {', '.join(filter(None, (model, maker)))}",
        "",
        f"tokenizer = {line}",
        *([f'model = {model}.from_pretrained("path/to/this/folder")'] if model else []),
        "```",
        "",
    ]
    if fault := tokenizer.get("fault"):
        lines += [f"AutoTokenizer does not do here: {fault}.", ""]
    if changes := tokenizer.get("changed"):
        lines += [f"`tokenizer_config.json` is the donor's but for: {', '.join(changes)}.", ""]
    return "\n".join(lines)


def _plan(plan: Mapping[str, Any] | None) -> str:
    """Say where a plan comes from that was applied and not made here."""
    if not plan:
        return ""
    return (
        f"\nIts rows are those of a plan that was made for `{plan['base']['name']}` (SHA-256 "
        f"`{plan['sha256'][:12]}…`), applied to this base.\n"
    )


def _figures(record: Mapping[str, Any]) -> str:
    """Show what was measured, and what of the loss is the changed cut's."""
    figures = record.get("figures")
    if not figures:
        return ""
    lines = ["", "| | bits per byte | token perplexity | tokens per byte |", "|---|---:|---:|---:|"]
    for name, score in figures.items():
        lines.append(
            f"| {NAMES.get(name, name)} | {score['bits_per_byte']:.4f} "
            f"| {score['token_perplexity']:.2f} | {score['tokens_per_byte']:.4f} |"
        )
    first = next(iter(figures.values()))
    texts = ", ".join(text["name"] for text in first["texts"])
    lines += ["", f"On {texts}; window {first['window']}, stride {first['stride']} tokens."]
    if cut := record.get("cut"):
        body = (record.get("like") or {}).get("body") or {}
        said = cut_line(cut, cut["rows"], trained=bool(body.get("changed")))
        lines += ["", f"{said[0].upper()}{said[1:]}."]
    return "\n".join(lines) + "\n"
