"""Run mergekit's `batch_omp` on given tables; in mergekit's environment, started by `omp.py`."""

import json
import sys
import time
from importlib.metadata import version

import torch
from mergekit.tokensurgeon.omp import batch_omp
from safetensors.torch import load_file, save_file


def main() -> None:
    """Load, solve in batches as mergekit's command does, write what was found, tell the time."""
    source, target, k, batch, threads = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
    torch.set_num_threads(threads)
    tables = load_file(source)
    targets, atoms = tables["targets"], tables["atoms"]
    batch_omp(targets[:8], atoms, 2)  # what a first call costs is not counted
    start = time.perf_counter()
    parts = [batch_omp(some, atoms, k) for some in targets.split(batch)]
    seconds = time.perf_counter() - start
    indices = torch.cat([part[0] for part in parts]).contiguous()
    weights = torch.cat([part[1] for part in parts]).contiguous()
    save_file({"indices": indices, "weights": weights}, target)
    print(
        json.dumps(
            {"seconds": seconds, "mergekit": version("mergekit"), "torch": torch.__version__}
        )
    )


if __name__ == "__main__":
    main()
