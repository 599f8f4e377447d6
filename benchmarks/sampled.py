"""Runs the command line of tokswap and samples what its main thread does.

    python benchmarks/sampled.py PROFILE.json transplant --base ... --donor ...

A thread looks every 10 ms where the main thread stands and gives the time since its last look to
that place. That costs next to nothing and slows no loop down, as counting each call would.
"""

import json
import runpy
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from types import FrameType

EVERY = 0.01


class Sampler(threading.Thread):
    """Counts seconds by the place where the main thread stands, alone and with all around it."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.main = threading.main_thread().ident or 0
        self.over = threading.Event()
        self.own: defaultdict[str, float] = defaultdict(float)
        self.within: defaultdict[str, float] = defaultdict(float)

    def run(self) -> None:
        """Look until the end."""
        last = time.perf_counter()
        while not self.over.wait(EVERY):
            frame = sys._current_frames().get(self.main)
            now = time.perf_counter()
            self.note(frame, now - last)
            last = now

    def note(self, frame: FrameType | None, seconds: float) -> None:
        """Give time to the innermost place within tokswap, and to all functions around it."""
        seen: list[str] = []
        line = 0
        while frame is not None:
            if place := place_of(frame):
                line = line or frame.f_lineno
                seen.append(place)
            frame = frame.f_back
        if seen:
            self.own[f"{seen[0]}:{line}"] += seconds
        else:
            self.own["Python starting, imports from outside tokswap"] += seconds
        for place in set(seen):
            self.within[place] += seconds


def place_of(frame: FrameType) -> str | None:
    """Name a function of tokswap; None for one of a library."""
    _, found, path = frame.f_code.co_filename.rpartition("/tokswap/")
    return f"{path} {frame.f_code.co_qualname}" if found else None


def main() -> None:
    """Run, then write the profile."""
    target = Path(sys.argv[1])
    sys.argv = ["tokswap", *sys.argv[2:]]
    sampler = Sampler()
    sampler.start()
    try:
        runpy.run_module("tokswap", run_name="__main__", alter_sys=False)
    finally:
        sampler.over.set()
        sampler.join()
        said = {
            name: sorted(spent.items(), key=lambda entry: -entry[1])
            for name, spent in (("own", sampler.own), ("within", sampler.within))
        }
        target.write_text(json.dumps(said), encoding="utf-8")


if __name__ == "__main__":
    main()
