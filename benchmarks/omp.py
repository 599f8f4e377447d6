"""Orthogonal matching pursuit: time and error beside mergekit's and scikit-learn's, in one run.

Everything is solved on the same structured random tables (`structured.py`), one after the other.

    python benchmarks/omp.py [--peer ENVIRONMENT/bin/python] [--atoms 32768] [--targets 4096]
        [--width 1024] [--k 64] [--threads 2] [--device cpu] [--json FILE]
        [--peer-batch 512]

ENVIRONMENT is a virtual environment with mergekit; without it, mergekit is left out. The relative
error of a target y is |y - fit| / |y|, averaged over the targets. What the pursuit does before the
first target (unit vectors, products of pairs) counts.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from sklearn.linear_model import orthogonal_mp_gram
from structured import structured
from torch import Tensor

from tokswap.solvers.omp import Pursuit

SAMPLE = 256
"""Targets on which the exact pursuit is run, which takes long."""
SMALL = {"rows": 4096 + 64, "atoms": 4096, "width": 512, "k": 32}
"""What scikit-learn can do."""


def main() -> None:
    """Measure and print."""
    said = arguments()
    if said.peer and said.device != "cpu":
        sys.exit("mergekit is run on the CPU here; leave out --peer or --device")
    torch.set_num_threads(said.threads)
    device = torch.device(said.device)
    versions = {n: importlib.metadata.version(n) for n in ("tokswap", "torch", "scikit-learn")}
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu()
    print(f"{versions}, Python {platform.python_version()}, {name}, {said.threads} threads")
    print(
        f"{said.targets:,} targets, {said.atoms:,} atoms, width {said.width:,}, k = {said.k}",
        flush=True,
    )
    table = structured(said.atoms + said.targets, said.width).to(device)
    atoms, targets = table[: said.atoms], table[said.atoms :]
    found: dict[str, Any] = {"settings": vars(said) | {"peer": str(said.peer)}, "machine": name}
    found["matmul_gflops"] = matmul_rate(targets, atoms)
    print(f"a float32 product of these tables: {found['matmul_gflops']:,.0f} GFLOP/s", flush=True)
    if said.peer:
        found["mergekit"] = peer(said, targets, atoms)
    found["fast"] = pursued(targets, atoms, said.k, mode="fast")
    some = targets[:SAMPLE]
    found["exact"] = pursued(some, atoms, said.k, mode="exact")
    compare(found, said, len(some))
    if device.type == "cpu":
        found["scikit-learn"] = small()
    if device.type == "cpu":
        found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"peak memory of this process, all of the above: {found['peak_mb']:,.0f} MB")
    if said.json:
        said.json.write_text(json.dumps(found, indent=1, default=str))


def pursued(targets: Tensor, atoms: Tensor, k: int, *, mode: Any) -> dict[str, Any]:
    """Solve with our own pursuit."""
    start = time.perf_counter()
    pursuit = Pursuit(atoms, k, mode=mode, expected=len(targets))
    solved = pursuit.solve(targets)
    if targets.device.type == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    each = errors(targets, atoms, *solved)
    return {
        "seconds": seconds,
        "error": float(each.mean()),
        "error_of_sample": float(each[:SAMPLE].mean()),
        "look": pursuit.look,
        "batch": pursuit.batch,
    }


def peer(said: argparse.Namespace, targets: Tensor, atoms: Tensor) -> dict[str, Any]:
    """Solve with mergekit, in a process of its own environment."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "tables.safetensors", Path(folder) / "found.safetensors"
        save_file({"targets": targets.cpu(), "atoms": atoms.cpu().contiguous()}, source)
        numbers = [str(number) for number in (said.k, said.peer_batch, said.threads)]
        script = str(Path(__file__).with_name("omp_peer.py"))
        command = [said.peer, script, source, target, *numbers]
        ran = subprocess.run(command, check=False, capture_output=True, text=True)
        if ran.returncode:
            sys.exit(ran.stderr)
        answer: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
        solved = load_file(target)
    each = errors(targets.cpu(), atoms.cpu(), solved["indices"], solved["weights"].float())
    answer["error"] = float(each.mean())
    return answer


def compare(found: dict[str, Any], said: argparse.Namespace, sample: int) -> None:
    """Print what came out, next to each other."""
    fast, exact = found["fast"], found["exact"]
    products = 2 * said.targets * said.atoms * said.width * said.k / 1e9
    if "mergekit" in found:
        other = found["mergekit"]
        found["times_faster"] = other["seconds"] / fast["seconds"]
        print(
            f"mergekit {other['mergekit']} (torch {other['torch']}), batch {said.peer_batch}: "
            f"{other['seconds']:.1f} s, error {other['error']:.4f}"
        )
    print(f"tokswap, fast ({fast['look']}): {fast['seconds']:.1f} s, error {fast['error']:.4f}")
    if "mergekit" in found:
        print(f"    {found['times_faster']:.2f} times faster than mergekit")
    found["effective_share"] = products / fast["seconds"] / found["matmul_gflops"]
    print(
        f"    the textbook's products alone, at the rate above, take "
        f"{products / found['matmul_gflops']:.1f} s: {found['effective_share']:.1f} times as long"
    )
    found["deviation"] = fast["error_of_sample"] / exact["error"] - 1
    print(
        f"tokswap, exact, {sample} targets: {exact['seconds']:.1f} s, error {exact['error']:.4f}; "
        f"fast on the same: {fast['error_of_sample']:.4f}, {found['deviation']:+.2%}",
        flush=True,
    )


def small() -> dict[str, Any]:
    """Solve a small problem in float64 with scikit-learn (Gram matrix included) and exactly."""
    table = structured(SMALL["rows"], SMALL["width"]).double()
    table = torch.nn.functional.normalize(table, dim=1)  # it asks for atoms of unit norm
    atoms, targets, k = table[: SMALL["atoms"]], table[SMALL["atoms"] :], SMALL["k"]

    def theirs() -> Tensor:
        gram, products = (atoms @ atoms.T).numpy(), (atoms @ targets.T).numpy()
        solved = orthogonal_mp_gram(gram, products, n_nonzero_coefs=k, copy_Gram=False)
        return torch.from_numpy(solved).T

    def ours() -> Tensor:
        indices, weights = Pursuit(atoms, k, mode="exact").solve(targets)
        return (
            torch.zeros(len(targets), len(atoms))
            .double()
            .scatter_add_(1, indices.clamp_min(0), weights)
        )

    (other, other_seconds), (own, own_seconds) = timed(theirs), timed(ours)
    apart = float((other - own).abs().max())
    print(
        f"scikit-learn's orthogonal_mp_gram, {len(targets)} targets, {len(atoms):,} atoms, width "
        f"{SMALL['width']}, k = {k}, float64: {other_seconds:.2f} s; tokswap, exact: "
        f"{own_seconds:.2f} s, {other_seconds / own_seconds:.1f} times faster; "
        f"weights differ by {apart:.1e} at most"
    )
    return {"seconds": other_seconds, "own_seconds": own_seconds, "apart": apart}


def timed(work: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """Run something twice, and time the second run."""
    work()
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def errors(targets: Tensor, atoms: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
    """Relative errors, (M,)."""
    parts = []
    for start in range(0, len(targets), 128):
        rows = slice(start, start + 128)
        chosen = atoms[indices[rows].clamp_min(0)]
        left = targets[rows] - torch.einsum("mk,mke->me", weights[rows], chosen)
        parts.append(left.norm(dim=1) / targets[rows].norm(dim=1))
    return torch.cat(parts)


def matmul_rate(targets: Tensor, atoms: Tensor) -> float:
    """Billions of operations a second of the product of all pairs; the best of three."""
    some, best = targets[:1024], float("inf")
    out = some.new_empty(len(some), len(atoms))
    for _ in range(4):
        start = time.perf_counter()
        torch.mm(some, atoms.T, out=out)
        if targets.device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * len(some) * len(atoms) * some.shape[1] / best / 1e9


def cpu() -> str:
    """Name the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peer", type=Path, help="python of an environment with mergekit")
    parser.add_argument("--peer-batch", type=int, default=512, help="mergekit's default")
    parser.add_argument("--atoms", type=int, default=32_768)
    parser.add_argument("--targets", type=int, default=4_096)
    parser.add_argument("--width", type=int, default=1_024)
    parser.add_argument("--k", type=int, default=64)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
