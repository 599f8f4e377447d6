"""The search for TokenAdapt's neighbours at real size, beside scikit-learn's, on random vectors.

    OMP_NUM_THREADS=2 python benchmarks/tokenadapt.py [--missing 50000] [--base 128000]
        [--width 384] [--k 3] [--peer 50000]

Each of both runs in a process of its own, so that its peak memory is its own. ``--peer`` is how
many of the missing tokens scikit-learn's ``NearestNeighbors`` (brute force, by cosine) gets. Both
get the same vectors, and what they find is compared.
"""

import argparse
import multiprocessing
import os
import platform
import resource
import time
from typing import Any

import numpy as np
import torch


def vectors(rows: int, width: int, seed: int) -> torch.Tensor:
    """Random vectors."""
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def ours(said: argparse.Namespace, count: int) -> np.ndarray:
    """Find the neighbours of tokens and weigh them."""
    from tokswap.solvers.neighbours import nearest
    from tokswap.solvers.similar import neighbour_weights

    missing, base = vectors(said.missing, said.width, 0)[:count], vectors(said.base, said.width, 1)
    with Clock() as clock:
        found, far = nearest(missing, base, said.k)
        neighbour_weights(1 - far, temperature=0.3, threshold=0.0)
    return clock.tell("tokswap", count, found.numpy())


def peer(said: argparse.Namespace, count: int) -> np.ndarray:
    """Find the neighbours of tokens by scikit-learn."""
    import sklearn
    from sklearn.neighbors import NearestNeighbors

    missing, base = vectors(said.missing, said.width, 0)[:count], vectors(said.base, said.width, 1)
    with Clock() as clock:
        search = NearestNeighbors(n_neighbors=said.k, algorithm="brute", metric="cosine")
        found = search.fit(base.numpy()).kneighbors(missing.numpy(), return_distance=False)
    return clock.tell(f"scikit-learn {sklearn.__version__}", count, found)


class Clock:
    """Takes the time, and the memory beyond what the process held before."""

    def __enter__(self) -> "Clock":
        self.held = _peak()
        self.start, self.work = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds, self.spent = time.perf_counter() - self.start, time.process_time() - self.work

    def tell(self, name: str, count: int, found: np.ndarray) -> np.ndarray:
        """Print a line."""
        print(
            f"{name}: {count:,} tokens in {self.seconds:.1f} s ({self.spent:.1f} s of processors), "
            f"peak memory {_peak() / 2**20:,.0f} MiB, {(_peak() - self.held) / 2**20:,.0f} MiB of "
            f"it beside the vectors",
            flush=True,
        )
        return found


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def main() -> None:
    """Run both and compare what they find."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, default in (("missing", 50_000), ("base", 128_000), ("width", 384), ("k", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--peer", type=int, help="tokens that scikit-learn gets; all")
    said = parser.parse_args()
    print(
        f"{said.missing:,} x {said.base:,} x {said.width}, k = {said.k}; torch {torch.__version__},"
        f" Python {platform.python_version()}, {torch.get_num_threads()} threads, load before: "
        f"{os.getloadavg()[0]:.1f}"
    )
    spawn = multiprocessing.get_context("spawn")
    asked: list[tuple[Any, int]] = [(ours, said.missing), (peer, said.peer or said.missing)]
    found = []
    for work, count in asked:
        with spawn.Pool(1) as pool:
            found.append(pool.apply(work, (said, count)))
    theirs = found[1]
    same = (np.sort(found[0][: len(theirs)], axis=1) == np.sort(theirs, axis=1)).all(axis=1)
    print(f"the same neighbours for {same.mean():.2%} of {len(theirs):,} tokens")


if __name__ == "__main__":
    main()
