"""A transplant at real size: Llama-3.2-1B with the vocabulary of Mistral NeMo.

Builds a random checkpoint of Llama-3.2-1B's true shape with the tokenizer of Llama 3, and a donor
of one layer with the tokenizer of Mistral NeMo and related embeddings (`related_pair.py`). Runs the
real command on them in a process of its own; prints the wall time of each stage, the peak memory
and where the time goes.

    python benchmarks/real_size.py --tokenizers DIR [--method omp --set method.k=64]
        [--donor-width 5120] [--folder DIR] [--json FILE]

DIR holds the folders `llama3` and `mistral-nemo`, each with tokenizer.json and
tokenizer_config.json. With `--folder` the models are kept there, and used again.
"""

import argparse
import hashlib
import importlib.metadata
import json
import multiprocessing
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from processes import Measured, measured

HERE = Path(__file__).parent
SHOWN = 15
AROUND = ("__main__.py", "cli/", "pipeline.py", "stages.py")
"""Files whose functions only call the others: left out of the profile."""

NO_SOLVERS = ("solvers/sparse.py", "solvers/untrained.py", "<module>")
"""What is in the solvers' folder and no solver: their time counts as what lies around one."""


def build_pair(folder: Path, tokenizers: Path, donor_width: int) -> tuple[Path, Path]:
    """Build both models where they are not there yet; in a process of its own.

    A process counts what the one that started it held as its own, so torch stays out of this one.
    """
    base, donor = folder / "base", folder / f"donor-{donor_width}"
    spawned = multiprocessing.get_context("spawn").Process(
        target=_build, args=(base, donor, tokenizers, donor_width)
    )
    spawned.start()
    spawned.join()
    if spawned.exitcode:
        sys.exit("the models could not be built")
    return base, donor


def _build(base: Path, donor: Path, tokenizers: Path, donor_width: int) -> None:
    from related_pair import BASE, build, donor_config

    if not base.exists():
        build(base, tokenizers / "llama3", dict(BASE), seed=0)
    if not donor.exists():
        build(donor, tokenizers / "mistral-nemo", donor_config(donor_width), seed=100)


def run(
    said: argparse.Namespace, base: Path, donor: Path, work: Path
) -> tuple[Measured, dict[str, Any], dict[str, Any]]:
    """Run the command once.

    Returns:
        What it cost, what it printed, and its profile; empty where none was asked for.
    """
    profile, output = work / "profile.json", work / "output.json"
    start = [sys.executable, str(HERE / "sampled.py"), str(profile)]
    if not said.profile:
        start = [sys.executable, "-m", "tokswap"]
    command = [*start, "transplant", "--base", str(base), "--donor", str(donor)]
    command += ["--method", said.method, "--out", str(work / "out"), "--json", "--quiet"]
    command += [part for setting in said.set for part in ("--set", setting)]
    command += [] if said.eval else ["--no-eval"]
    command += [] if said.verify else ["--no-verify"]
    os.sync()  # what was built before is not written during the run
    cost = measured(command, output=output, every=0.02)
    told = json.loads(output.read_text())
    return cost, told, json.loads(profile.read_text()) if said.profile else {}


def stages(cost: Measured, told: dict[str, Any]) -> dict[str, float]:
    """Wall time of each stage; what is left of it is the start of Python and its imports."""
    found = dict(told["seconds"])
    found["start and end"] = round(cost.seconds - sum(found.values()), 3)
    return found


def apart(said: argparse.Namespace, found: dict[str, Any]) -> dict[str, float]:
    """Seconds of the solver itself (without a profile all of plan) and of checking the result."""
    seconds, own = found["seconds"], found["profile"].get("own")
    solving = seconds["plan"] if said.method == "omp" else 0.0
    if own is not None:
        places = [e for e in own if e[0].startswith("solvers/")]
        solving = sum(spent for place, spent in places if not any(n in place for n in NO_SOLVERS))
    parts = {"solver": solving}
    return parts | {name: seconds[name] for name in ("verify", "evaluate") if name in seconds}


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each file, to tell whether two versions write the same."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            found[str(path.relative_to(folder))] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def machine() -> dict[str, str]:
    """Versions, processor and commit."""
    libraries = ("tokswap", "torch", "transformers", "tokenizers", "numpy")
    said = {name: importlib.metadata.version(name) for name in libraries}
    said["python"] = platform.python_version()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    said["cpu"] = f"{os.cpu_count()} x {next(names, platform.processor())}"
    said["threads"] = os.environ.get("OMP_NUM_THREADS", "all")
    git = ["git", "-C", str(HERE), "describe", "--always", "--dirty"]
    done = subprocess.run(git, capture_output=True, text=True, check=False)
    said["commit"] = done.stdout.strip() or "unknown"
    return said


def show(found: dict[str, Any]) -> None:
    """Print what was measured as tables."""
    counts, cost = found["counts"], found["cost"]
    print(f"\n{counts['shared']:,} shared, {counts['missing']:,} missing, {found['method']}")
    print(f"\n{'stage':<16}{'seconds':>9}")
    for stage, seconds in found["seconds"].items():
        print(f"{stage:<16}{seconds:9.2f}")
    print(f"{'together':<16}{cost['seconds']:9.2f}   ({cost['cpu']:.2f} s of CPU time)")
    rest = cost["seconds"] - sum(found["apart"].values())
    parts = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in found["apart"].items())
    print(f"{'the rest':<16}{rest:9.2f}   (without {parts})")
    print(f"peak memory: {cost['anonymous']:.0f} MB, all processes, files that are mapped aside;")
    print(f"             {cost['peak']:.0f} MB in the largest process, these pages included")
    for title, key in (("in a function and what it calls", "within"), ("at a line itself", "own")):
        entries = [e for e in found["profile"].get(key, ()) if not e[0].startswith(AROUND)]
        if entries:
            print(f"\n{'seconds':>8}  {title}")
            for place, seconds in entries[:SHOWN]:
                print(f"{seconds:8.2f}  {place}")


def main() -> None:
    """Build, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tokenizers", type=Path, required=True)
    parser.add_argument("--folder", type=Path, help="keep the models here; a temporary folder")
    parser.add_argument("--donor-width", type=int, default=1_024, help="5120 is NeMo's")
    parser.add_argument("--method", default="omp", help="zero, mean or pieces: all but the solver")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--verify", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--eval", action=argparse.BooleanOptionalAction, default=False)
    parser.add_argument("--profile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--hashes", action="store_true", help="SHA-256 of each output file")
    parser.add_argument("--json", type=Path, help="write all of it to a file")
    said = parser.parse_args()
    versions = machine()
    print(", ".join(f"{name} {value}" for name, value in versions.items()))
    if said.folder:
        said.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=said.folder) as work:
        folder = said.folder or Path(work)
        base, donor = build_pair(folder, said.tokenizers, said.donor_width)
        cost, told, profile = run(said, base, donor, Path(work))
        found: dict[str, Any] = {
            "machine": versions,
            "method": " ".join([said.method, *said.set, f"donor width {said.donor_width}"]),
            "counts": told["counts"],
            "seconds": stages(cost, told),
            "cost": asdict(cost),
            "profile": profile,
        }
        found["apart"] = apart(said, found)
        if said.hashes:
            found["sha256"] = hashes(Path(work) / "out")
        shutil.rmtree(Path(work) / "out")
    show(found)
    for name, digest in found.get("sha256", {}).items():
        print(f"{digest}  {name}")
    if said.json:
        said.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
