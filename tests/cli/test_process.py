"""What only a process of its own can show: imports, the installed script, pipes."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

from tokswap.cli import app

HEAVY = ("torch", "transformers", "tokenizers", "datasets", "safetensors")
COMMANDS = [str(command.name) for command in app.registered_commands]
LOADED = """
import sys
from tokswap.cli import main

for arguments in {arguments}:
    sys.argv = ["tokswap", *arguments]
    try:
        main()
    except SystemExit as stop:
        assert not stop.code, (arguments, stop.code)
    found = [name for name in {heavy} if name in sys.modules]
    assert not found, (arguments, found)
"""


def process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=os.environ | environment,
        check=False,
    )


def test_help_and_lists_import_nothing_slow() -> None:
    arguments = [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)]
    ran = process("-c", LOADED.format(arguments=arguments, heavy=HEAVY))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.count("Usage: ") == 1 + len(COMMANDS)


def test_lists_do_not_import_torch() -> None:
    arguments = [["methods"], ["models"], ["methods", "--json"]]
    ran = process("-c", LOADED.format(arguments=arguments, heavy=("torch", "transformers")))
    assert (ran.returncode, ran.stderr) == (0, "")


def test_the_module_and_the_script_run_the_same(tmp_path: Path) -> None:
    module = process("-m", "tokswap", "run", "nowhere.yaml")
    script = subprocess.run(
        [Path(sysconfig.get_path("scripts")) / "tokswap", "run", "nowhere.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    for ran in (module, script):
        assert (ran.returncode, ran.stdout) == (1, "")
        assert ran.stderr.startswith("error: the recipe nowhere.yaml cannot be read")
        assert ran.stderr.count("\n") == 1


def test_a_reader_that_leaves_early_gets_no_traceback() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "tokswap", "methods", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as ran:
        assert ran.stdout is not None
        assert ran.stderr is not None
        ran.stdout.close()
        assert ran.stderr.read() == ""
    assert ran.returncode == 1
