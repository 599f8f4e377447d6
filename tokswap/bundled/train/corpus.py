"""Text that every Python installation carries: the sources and the documentation of its library."""

import ast
import hashlib
import inspect
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Test suites are missing from many distributions' packages, installed packages differ from machine
# to machine, and the tables of `encodings` are numbers rather than text.
SKIPPED_FOLDERS = frozenset(
    {"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test", "encodings"}
)
# `_sysconfigdata_*` records how this very interpreter was built, paths of the machine included.
SKIPPED_PREFIXES = ("_sysconfigdata", "config-")
TOPICS = "pydoc_data/topics.py"
MIN_BYTES = 200  # an empty `__init__.py` teaches nothing
HELD_OUT_ONE_IN = 40
HELD_OUT_REMAINDER = 6  # 17 files of 3.11, a quarter of a megabyte, none of them a fifth of it
# Most of the documentation is in one file, which has to be trained on; and the two old packages
# hold near copies of files elsewhere (newer versions lack both), which would flatter the figure.
NEVER_HELD_OUT = (TOPICS, "distutils/", "lib2to3/")


@dataclass(frozen=True)
class Document:
    """One file of the standard library.

    Attributes:
        path: Its path below the library's folder, with forward slashes.
        text: Its text, line ends normalised to a newline.
    """

    path: str
    text: str


@dataclass(frozen=True)
class Corpus:
    """The library split by whole files.

    Attributes:
        train: What the tokenizers and the models are trained on.
        held_out: What neither has seen.
    """

    train: tuple[Document, ...]
    held_out: tuple[Document, ...]


def read_corpus(root: Path | None = None) -> Corpus:
    """Read the standard library and split it by file.

    Args:
        root: The library's folder; that of the running interpreter by default.

    Returns:
        Both parts, each in the order of the paths.
    """
    train: list[Document] = []
    held_out: list[Document] = []
    for path, name in _files(root):
        text = _text(path, name)
        if text is not None:
            (held_out if is_held_out(name) else train).append(Document(name, text))
    return Corpus(tuple(train), tuple(held_out))


def training_prose(root: Path | None = None) -> Iterator[str]:
    """Yield ``prose(read_corpus(root).train)`` in half the time: each file is parsed once.

    Args:
        root: The library's folder; that of the running interpreter by default.

    Yields:
        The text of one docstring, or all topics at once.
    """
    for path, name in _files(root):
        if is_held_out(name):
            continue
        parsed = _parsed(path)
        if parsed is None:
            continue
        text, tree = parsed
        if name == TOPICS:
            yield _topics(tree)
        elif len(text) >= MIN_BYTES:
            yield from _prose(tree)


def is_held_out(name: str) -> bool:
    """Whether a file is kept for the measurement.

    The path decides, not the content, so that the split is the same for every Python version.

    Args:
        name: The file's path below the library's folder.

    Returns:
        Whether the file is held out.
    """
    if name.startswith(NEVER_HELD_OUT):
        return False
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:4], "big") % HELD_OUT_ONE_IN == HELD_OUT_REMAINDER


def prose(documents: tuple[Document, ...]) -> Iterator[str]:
    """Yield the documentation's topics and the docstrings.

    Args:
        documents: Files of the library.

    Yields:
        The text of one docstring, or all topics at once.
    """
    for document in documents:
        if document.path == TOPICS:
            yield document.text
        else:
            yield from _prose(ast.parse(document.text))


def code(documents: tuple[Document, ...]) -> Iterator[str]:
    """Yield the sources without what `prose` yields.

    Args:
        documents: Files of the library.

    Yields:
        The text of one file without the lines of its docstrings.
    """
    for document in documents:
        if document.path != TOPICS:
            dropped: set[int] = set()
            for node in _docstrings(ast.parse(document.text)):
                dropped.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
            lines = enumerate(document.text.splitlines(keepends=True), start=1)
            yield "".join(line for number, line in lines if number not in dropped)


def _files(root: Path | None) -> Iterator[tuple[Path, str]]:
    """Yield the files that are wanted, and their paths below the library's folder."""
    folder = root or Path(sysconfig.get_path("stdlib"))
    for path in sorted(folder.rglob("*.py"), key=lambda found: found.relative_to(folder).parts):
        name = path.relative_to(folder).as_posix()
        if _wanted(name):
            yield path, name


def _prose(tree: ast.Module) -> Iterator[str]:
    return (inspect.cleandoc(str(node.value)) for node in _docstrings(tree))


def _docstrings(tree: ast.Module) -> Iterator[ast.Constant]:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and node.body
            and isinstance(first := node.body[0], ast.Expr)
            and isinstance(constant := first.value, ast.Constant)
            and isinstance(constant.value, str)
        ):
            yield constant


def _wanted(name: str) -> bool:
    parts = name.split("/")
    return not (
        SKIPPED_FOLDERS.intersection(parts[:-1])
        or any(part.startswith(SKIPPED_PREFIXES) for part in parts)
    )


def _text(path: Path, name: str) -> str | None:
    parsed = _parsed(path)
    if parsed is None:
        return None
    text, tree = parsed
    if name == TOPICS:
        return _topics(tree)
    return text if len(text) >= MIN_BYTES else None


def _parsed(path: Path) -> tuple[str, ast.Module] | None:
    try:
        text = path.read_text(encoding="utf-8")
        return text, ast.parse(text)
    except (UnicodeDecodeError, SyntaxError):  # templates and files in older encodings
        return None


def _topics(tree: ast.Module) -> str:
    # One dictionary of escaped strings: the strings are the text.
    values = (node.value for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign))
    topics = next(ast.literal_eval(value) for value in values if isinstance(value, ast.Dict))
    return "\n\n".join(topics[key] for key in sorted(topics))
