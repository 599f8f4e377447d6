"""Which part of the program may import which, read from the imports themselves."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import tokswap

PACKAGE = Path(tokswap.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported, wherever it stands; `from a import b` gives a and a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are banned"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def at_once(tree: ast.Module) -> ast.Module:
    """What runs when the module is imported: neither functions nor `if TYPE_CHECKING`."""

    class Strip(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            return None

        def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
            return None

        def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
            if ast.unparse(node.test).endswith("TYPE_CHECKING"):
                return [self.visit(other) for other in node.orelse]
            return self.generic_visit(node)

    return Strip().visit(ast.parse(ast.unparse(tree)))


PATHS = {module_name(path): path for path in FILES}


@cache
def tree_of(name: str) -> ast.Module:
    return ast.parse(PATHS[name].read_text(encoding="utf-8"))


@cache
def imported(name: str) -> frozenset[str]:
    return frozenset(imports(tree_of(name)))


@cache
def at_once_imported(name: str) -> frozenset[str]:
    return frozenset(imports(at_once(tree_of(name))))


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def modules(*packages: str) -> list[str]:
    found = [name for name in PATHS if within(name, *(f"tokswap.{part}" for part in packages))]
    assert len(found) >= len(packages), f"there is no {packages}"
    return found


def offences(names: list[str], *banned: str, but: str = "-", table=imported) -> list[str]:
    return [
        f"{name} imports {found}"
        for name in names
        for found in sorted(table(name))
        if within(found, *banned) and not within(found, but)
    ]


def test_the_imports_are_found() -> None:
    assert "tokswap.solvers.omp" in imported("tokswap.methods.omp")  # in a function
    assert "tokswap.solvers.omp" not in at_once_imported("tokswap.methods.omp")
    assert "tokswap.solvers.sparse" in imported("tokswap.methods.base")  # for types only
    assert "tokswap.solvers.sparse" not in at_once_imported("tokswap.methods.base")
    assert "tokswap.methods.pieces" in at_once_imported("tokswap.methods.geometry")


def test_solvers_know_tensors_only() -> None:
    assert not offences(modules("solvers"), "tokswap", but="tokswap.solvers")
    assert not offences(
        modules("solvers"), "pydantic", "yaml", "transformers", "tokenizers", "json"
    )


LATER = [
    f"tokswap.{part}"
    for part in ("plan", "planning", "pipeline", "carry_out", "inspection", "report")
]


def test_methods_know_nothing_of_the_plan() -> None:
    assert not offences(modules("methods"), *LATER, "tokswap.cli", "tokswap.recipe", "tokswap.pair")


SOLVING = ("blocks", "kept_blocks", "memory", "ranks")


def test_blocks_know_nothing_of_what_is_solved() -> None:
    banned = [name for name in PATHS if not within(name, "tokswap.errors", "tokswap.progress")]
    own = [f"tokswap.{part}" for part in SOLVING]
    banned = [name for name in banned if name not in {"tokswap", *own}]
    assert not offences(modules(*SOLVING), *banned)


def test_the_plan_knows_nothing_of_the_pipeline() -> None:
    above = ("pipeline", "carry_out", "cli", "checkpoint", "report")
    banned = [f"tokswap.{part}" for part in above]
    assert not offences(modules("plan", "planning"), *banned)


def test_vocabulary_and_checkpoint_know_nothing_of_methods() -> None:
    lower = modules("vocabulary", "checkpoint", "names", "errors", "progress")
    assert not offences(lower, *LATER, "tokswap.methods", "tokswap.solvers", "tokswap.cli")


def test_nothing_imports_the_command_line() -> None:
    others = [name for name in PATHS if not within(name, "tokswap.cli", "tokswap.__main__")]
    assert not offences(others, "tokswap.cli")


@pytest.mark.parametrize("package", ["vocabulary", "methods", "cli", "names", "recipe", *SOLVING])
def test_torch_is_imported_only_where_it_is_used(package: str) -> None:
    assert not offences(
        modules(package), "torch", "transformers", "safetensors", table=at_once_imported
    )


def test_only_the_command_line_prints_or_parses_flags() -> None:
    others = [n for n in PATHS if not within(n, "tokswap.cli", "tokswap.bundled")]
    assert not offences(others, "typer", "argparse")


def test_nothing_from_a_checkpoint_can_be_executed() -> None:
    assert not offences(list(PATHS), "pickle", "cloudpickle", "joblib", "dill", "marshal", "shelve")
    loads = [
        f"{name}: torch.load"
        for name in PATHS
        for node in ast.walk(tree_of(name))
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.load"
    ]
    assert not loads


def test_click_is_never_imported() -> None:
    assert not offences(list(PATHS), "click")


HEAVY = ("torch", "transformers", "pydantic", "tokenizers", "numpy", "datasets", "typer", "rich")


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = f"import sys, tokswap; print([m for m in {HEAVY} if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
