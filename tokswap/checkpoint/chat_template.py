"""Chat templates as files: the places where they lie, several by name among them.

transformers looks into chat_template.jinja and additional_chat_templates/NAME.jinja first; without
both, into tokenizer_config.json. Older processors have chat_template.json.
"""

import json
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tokswap.checkpoint.files import Files
from tokswap.errors import CheckpointError, RecipeError

FILE = "chat_template.jinja"
FOLDER = "additional_chat_templates"
JSON_FILES = ("tokenizer_config.json", "chat_template.json", "processor_config.json")
"""Where else a template may stand, under the key chat_template."""

DEFAULT = "default"
"""The name of the template that is used where none is asked for."""

NAME = re.compile(r"[\w-][\w.-]*")


def read_templates(files: Files) -> dict[str, str]:
    """Read a model's chat templates by their names; one without a name is the default.

    Raises:
        CheckpointError: If a file is not valid, or a name could lead out of the folder.
    """
    found = {DEFAULT: _text(files, FILE)} if FILE in files.names else {}
    for name in sorted(files.below(FOLDER)):
        if name.endswith(".jinja"):
            found[Path(name).stem] = _text(files, name)
    for name in JSON_FILES:
        if not found and name in files.names:
            found = _said(files, name)
    for name in found:
        if not NAME.fullmatch(name):
            raise CheckpointError(
                f"{files.location.name}: a chat template is named {name!r}, which is no name for a "
                "file; rename it"
            )
    return found


def _text(files: Files, name: str) -> str:
    try:
        return files.path(name).read_text(encoding="utf-8")
    except ValueError as error:
        raise CheckpointError(
            f"{files.location.name}: {name} is no UTF-8 text ({error}); mend it"
        ) from error


def _said(files: Files, name: str) -> dict[str, str]:
    try:
        said = json.loads(_text(files, name))
    except ValueError as error:
        raise CheckpointError(
            f"{files.location.name}: {name} is not valid JSON ({error}); mend it"
        ) from error
    template = said.get("chat_template") if isinstance(said, dict) else None
    if isinstance(template, str):
        return {DEFAULT: template}
    entries: Iterable[tuple[Any, Any]] = ()
    if isinstance(template, list):
        named = [entry for entry in template if isinstance(entry, dict)]
        entries = ((entry.get("name"), entry.get("template")) for entry in named)
    elif isinstance(template, dict):
        entries = template.items()
    return {key: text for key, text in entries if isinstance(key, str) and isinstance(text, str)}


def read_template_file(name: str) -> dict[str, str]:
    """Read a template that the user wrote.

    Raises:
        RecipeError: If the file cannot be read.
    """
    try:
        return {DEFAULT: Path(name).expanduser().read_text(encoding="utf-8")}
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise RecipeError(
            f"chat_template: {name} cannot be read ({reason}); give donor, base, none or the path "
            "of a .jinja file"
        ) from error


def copy_folder(files: Files, folder: Path) -> None:
    """Copy the templates that lie in a folder of their own, byte for byte."""
    for name in sorted(files.below(FOLDER)):
        if name.endswith(".jinja"):
            (folder / FOLDER).mkdir(exist_ok=True)
            shutil.copyfile(files.path(name), folder / name)


def place_templates(folder: Path, templates: Mapping[str, str]) -> dict[str, Any] | None:
    """Put templates where transformers looks first, and remove all others from a folder.

    Args:
        folder: A folder with a tokenizer's files.
        templates: Templates by name; none at all is a model that does not chat.

    Returns:
        What tokenizer_config.json must hold from now on; None where it may stay as it is.
    """
    for name in (FILE, "chat_template.json"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
    for name, text in templates.items():
        path = folder / FILE if name == DEFAULT else folder / FOLDER / f"{name}.jinja"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text.encode())
    settings = folder / "tokenizer_config.json"
    said = json.loads(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
    return said if said.pop("chat_template", None) is not None else None
