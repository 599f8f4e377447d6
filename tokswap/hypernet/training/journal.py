"""What a training tells: a line now and then, a file of all losses, and logs for TensorBoard."""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokswap.hypernet.training.step import Taken
from tokswap.progress import duration, note

LOSSES = "losses.jsonl"
LOGS = "logs"


class Journal:
    """Tells how a training goes.

    Args:
        out: The training's folder.
        first: The step that it begins with; what was told of later ones is forgotten.
        steps: Steps in all.
        every: Steps between two lines.
    """

    def __init__(self, out: Path, first: int, steps: int, every: int) -> None:
        from tensorboardX import SummaryWriter

        self._steps, self._every = steps, every
        path = out / LOSSES
        _forget(path, first)
        self._file = path.open("a", encoding="utf-8")
        # There a figure stands at the number of steps that were taken, the last of them with it.
        self._writer: Any = SummaryWriter(
            str(out / LOGS), purge_step=first + 1, filename_suffix=f".{first}"
        )
        self._since = self._start = 0.0
        self._first = first
        self._tokens = 0
        self._waited = 0.0
        self._bits: list[float] = []
        self._losses: list[float] = []

    def start(self) -> None:
        """Begin to take the time."""
        self._since = self._start = time.monotonic()

    def tell(self, taken: Taken, waited: float) -> None:
        """Tell of a step.

        Args:
            taken: What it has shown.
            waited: Seconds, since the beginning, that were spent waiting for steps to be prepared.
        """
        said = {
            "step": taken.step,
            "loss": taken.loss,
            **taken.parts,
            "gradient": taken.gradient,
            "rate": taken.rate,
        }
        said |= {} if taken.bits_per_byte is None else {"bits_per_byte": taken.bits_per_byte}
        self._write(said)
        for name, value in said.items():
            if name != "step":
                self._writer.add_scalar(f"train/{name}", value, taken.step + 1)
        self._tokens += taken.tokens
        self._losses.append(taken.loss)
        self._bits += [] if taken.bits_per_byte is None else [taken.bits_per_byte]
        done = taken.step + 1
        if done % self._every == 0 or done == self._steps:
            self._line(taken, done, waited)

    def _line(self, taken: Taken, done: int, waited: float) -> None:
        """Write a line of progress: means since the last one."""
        now = time.monotonic()
        past = max(now - self._since, 1e-9)
        losses = f"loss {_mean(self._losses):.4f}"
        if self._bits:
            losses += f" ({_mean(self._bits):.3f} bits/byte)"
        parts = [f"{name} {value:.4f}" for name, value in taken.parts.items() if name != "text"]
        idle = (waited - self._waited) / past
        left = (now - self._start) / (done - self._first) * (self._steps - done)
        what = "tokens" if self._bits else "rows"
        speed = self._tokens / past
        note(
            f"step {done:,} of {self._steps:,}: {losses}, {', '.join(parts)}; "
            f"{speed:,.0f} {what}/s, {idle:.0%} waiting for tokenizers, "
            f"about {duration(left)} left"
        )
        self._writer.add_scalar("speed/per_second", speed, done)
        self._writer.add_scalar("speed/waiting", idle, done)
        self._since, self._waited, self._tokens = now, waited, 0
        self._losses, self._bits = [], []

    def held_out(self, step: int, figures: Mapping[str, float], tokenizer: str) -> None:
        """Tell what a measurement has shown.

        Args:
            step: Steps that were taken.
            figures: Bits per byte, by ``all``, ``shared`` and ``new`` tokens.
            tokenizer: The one that it was measured with.
        """
        self._write({"step": step, "held_out": dict(figures)})
        for name, value in figures.items():
            self._writer.add_scalar(f"held_out/{name}", value, step)
        new = figures.get("new", math.nan)
        note(
            f"step {step:,}: {figures['all']:.4f} bits/byte held out, {new:.4f} of new tokens, "
            f"with the vocabulary of {tokenizer}"
        )

    def close(self) -> None:
        """End the files."""
        self._file.close()
        self._writer.close()

    def _write(self, said: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(said) + "\n")
        self._file.flush()


def _mean(values: list[float]) -> float:
    return sum(values) / max(len(values), 1)


def _forget(path: Path, first: int) -> None:
    """Take lines out of the file of losses that will be written anew."""
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = []
    for line in lines:
        try:
            said = json.loads(line)
            step = int(said["step"])
        except (ValueError, KeyError, TypeError):  # it was being written when a kill came
            continue
        if step < first or ("held_out" in said and step == first):
            kept.append(line.rstrip("\n") + "\n")
    path.write_text("".join(kept), encoding="utf-8")
