"""A whole training on one screen: load, set up, step by step, keep, measure, store."""

import json
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tokswap.errors import OutputError, RecipeError, TrainingError
from tokswap.evaluation.measure import pick_device
from tokswap.hypernet.stored import save
from tokswap.hypernet.training.ahead import Ahead
from tokswap.hypernet.training.freezing import freeze
from tokswap.hypernet.training.journal import Journal
from tokswap.hypernet.training.kept import STATES, State, keep, last_state, plain, restore
from tokswap.hypernet.training.optimizer import make_optimizer, numbers_of, restore_numbers
from tokswap.hypernet.training.prepared import Identity, Prepared, Preparer
from tokswap.hypernet.training.processes import NOT_THERE, Processes, shard_both
from tokswap.hypernet.training.recipe import TrainRecipe, make_train_recipe
from tokswap.hypernet.training.setup import Begun, begin
from tokswap.hypernet.training.source_text import open_source
from tokswap.hypernet.training.step import Stepper, Taken
from tokswap.hypernet.training.watch import Watch
from tokswap.progress import note

RECORD = "training.json"


@dataclass(frozen=True, eq=False)
class Trained:
    """What came of a training.

    Attributes:
        folder: Holds the network in the published layout.
        steps: Steps that were taken in all.
        last: What the last step has shown; None where all had been taken before.
        held_out: Bits per byte on the held-out text, by steps taken, in this run.
        waited: Share of the time that was spent waiting for tokenizers to be sampled.
    """

    folder: Path
    steps: int
    last: Taken | None
    held_out: dict[int, dict[str, float]]
    waited: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        last = self.last
        return {
            "out": str(self.folder),
            "steps": self.steps,
            "loss": last.loss if last else None,
            "parts": last.parts if last else {},
            "bits_per_byte": last.bits_per_byte if last else None,
            "held_out": {str(step): figures for step, figures in self.held_out.items()},
            "waited": round(self.waited, 4),
        }


def train_hypernet(
    recipe: TrainRecipe | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    **settings: Any,
) -> Trained:
    """Train a hypernetwork for a base.

    Args:
        recipe: What to train, on what, and how long; or its fields as keywords:
            ``train_hypernet(base_model="tiny-llama", out="out/net", steps=500, ...)``.
        resume: Go on from the last state that was kept in the recipe's folder.
        overwrite: Begin anew where an earlier training lies.
        **settings: Fields of :class:`~tokswap.hypernet.training.recipe.TrainRecipe`, where no
            recipe is given.

    Returns:
        What came of it. Of several processes each returns the same figures; the first one writes.

    Raises:
        RecipeError: If the recipe is not valid.
        OutputError: If something lies in the folder already.
        TrainingError: If a loss is not finite, or the training cannot be resumed.
        TokswapError: If the base or a text cannot be had.
    """
    if recipe is not None and settings:
        raise RecipeError(f"both a recipe and {', '.join(settings)} were given; give one of them")
    recipe = recipe or make_train_recipe(settings)
    if lacking := [p for p in ("accelerate", "regex", "tensorboardX") if find_spec(p) is None]:
        raise TrainingError(NOT_THERE.format(package=lacking[0]))
    out = Path(recipe.out).expanduser()
    state = _check_out(out, recipe, resume=resume, overwrite=overwrite)
    sources = [
        open_source(said, [recipe.seed, 2, number])
        for number, said in enumerate(recipe.sources or [None])
    ]
    device = pick_device(recipe.device)
    processes = Processes.join(device, recipe.precision, shard=recipe.shard)
    if processes.first and state is None:
        _begin_folder(out, recipe)
    note(f"load {recipe.base_model}")
    base, tokenizer = freeze(
        recipe.base_model, device=str(processes.device), dtype=recipe.base_dtype
    )
    if base.mask is not None and (recipe.loss.chunks or recipe.held_out):
        raise TrainingError(
            f"{recipe.base_model} fills gaps and gives texts no likelihood; set loss.chunks to 0 "
            "and leave held_out out"
        )
    begun = begin(recipe, base)
    watch = None
    if recipe.held_out is not None:
        told = recipe.held_out.language
        languages = recipe.languages
        number = languages.index(told or languages[0]) if languages else None
        device = str(processes.device)
        watch = Watch(recipe.held_out, begun.forms, base, tokenizer, device=device, language=number)
    numbers = restore(state, begun.network) if state else {}
    if processes.shard:
        shard_both(begun.network, base.model, processes.device)
    optimizer = make_optimizer(begun.network, recipe.optimizer.weight_decay)
    restore_numbers(optimizer, begun.network, numbers)
    preparer = Preparer(recipe, base, begun.forms, sources)
    if state:
        preparer.restore(state.texts)
        note(f"go on behind step {state.step:,}")
    stepper = Stepper(recipe, begun.network, base, optimizer, processes)
    return _Run(recipe, out, begun, stepper, preparer, watch).run(state.step if state else 0)


def _check_out(out: Path, recipe: TrainRecipe, *, resume: bool, overwrite: bool) -> State | None:
    """Look at the folder before anything slow; return the state to go on from.

    Raises:
        OutputError: If something lies there.
        TrainingError: If what lies there is another training.
    """
    there = out.is_dir() and any(out.iterdir())
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file; choose another output")
    if there and not (out / RECORD).is_file():
        raise OutputError(f"{out} holds something that is no training; choose another output")
    if there and not resume and not overwrite:
        raise OutputError(
            f"{out} holds a training; go on with it by --resume, or begin anew by --overwrite"
        )
    if not (there and resume):
        return None
    state = last_state(out)
    if state is None:
        return None
    now = recipe.deciding()
    changed = [key for key, value in state.recipe.items() if now.get(key) != value]
    # A longer training goes on; its rate falls from there on as if it had been meant so.
    if differing := [key for key in changed if key != "steps"]:
        raise TrainingError(
            f"{out} was begun with another {' and '.join(differing)}; resume it with the recipe "
            "that it was begun with, or begin anew by --overwrite"
        )
    if state.step > recipe.steps:
        raise TrainingError(
            f"{out} has taken {state.step:,} steps, and {recipe.steps:,} are asked for; ask for "
            "more, or use what is there"
        )
    return state


def _begin_folder(out: Path, recipe: TrainRecipe) -> None:
    """Make the folder, without what an earlier training left there.

    Raises:
        OutputError: If it cannot be made.
    """
    try:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        said = {
            "recipe": recipe.model_dump(mode="json"),
            "versions": {name: version(name) for name in ("tokswap", "torch", "transformers")},
        }
        (out / RECORD).write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"{out} cannot be created ({error.strerror}); choose another output"
        ) from error


@dataclass(eq=False)
class _Run:
    """The steps of a training."""

    recipe: TrainRecipe
    out: Path
    begun: Begun
    stepper: Stepper
    preparer: Preparer
    watch: Watch | None

    def run(self, first: int) -> Trained:
        """Take the steps from one on, and store the network.

        Raises:
            TrainingError: If a loss is not finite.
            KeyboardInterrupt: If the user stops it; a state is kept first.
        """
        recipe, processes = self.recipe, self.stepper.processes
        journal = None
        if processes.first:
            journal = Journal(self.out, first, recipe.steps, recipe.report_every)
        found: dict[int, dict[str, float]] = {}
        taken, waited, done = None, 0.0, first
        kept = first
        texts = self.preparer.state()
        steps = Ahead(self.preparer.step, range(first, recipe.steps))
        try:
            if first == 0:
                self._measure(0, found, journal)
            if journal:
                journal.start()
            with steps, _stopping() as stop:
                for prepared in steps:
                    taken = self._take(prepared, kept)
                    done = taken.step + 1
                    texts = prepared.state if isinstance(prepared, Prepared) else texts
                    if journal:
                        journal.tell(taken, steps.waited)
                    stopped = processes.any(stop.is_set())
                    if stopped or done % recipe.keep_every == 0 or done == recipe.steps:
                        self._keep(done, texts)
                        kept = done
                    if stopped:
                        note(f"interrupted behind step {done:,}, which is kept; --resume goes on")
                        raise KeyboardInterrupt
                    every = recipe.held_out.every if recipe.held_out else 0
                    if every and (done % every == 0 or done == recipe.steps):
                        self._measure(done, found, journal)
            waited = steps.share
        finally:
            if journal:
                journal.close()
        self._store()
        return Trained(self.out, done, taken, found, waited)

    def _take(self, prepared: Identity | Prepared, kept: int) -> Taken:
        """Take a step; where it fails, tell from where to go on.

        Raises:
            TrainingError: If its loss is not finite.
        """
        try:
            return self.stepper.take(prepared)
        except TrainingError as error:
            there = (
                f"the state behind step {kept:,} is kept in {self.out / STATES}"
                if kept
                else "no state was kept so far"
            )
            raise TrainingError(
                f"{error}; {there}; lower optimizer.rate, or compute in float32, and begin anew "
                "or --resume"
            ) from error

    def _keep(self, done: int, texts: list[Any]) -> None:
        network = plain(self.begun.network)
        numbers = numbers_of(self.stepper.optimizer, self.begun.network)
        if self.stepper.processes.first:
            keep(
                self.out,
                done,
                network,
                numbers,
                layout=self.begun.layout,
                recipe=self.recipe.deciding(),
                texts=texts,
                most=self.recipe.keep,
            )
        self.stepper.processes.wait()

    def _measure(
        self, done: int, found: dict[int, dict[str, float]], journal: Journal | None
    ) -> None:
        """Measure the network: by the first process, or by all where they share weights."""
        processes = self.stepper.processes
        if self.watch is None:
            return
        if processes.first or processes.shard:
            found[done] = self.watch.measure(self.begun.network)
            if journal and self.recipe.held_out:
                journal.held_out(done, found[done], self.recipe.held_out.tokenizer)
        processes.wait()

    def _store(self) -> None:
        """Write the network; config.json comes last, for without it the folder is no network."""
        network = plain(self.begun.network)
        if self.stepper.processes.first:
            stage = self.out / ".partial"
            shutil.rmtree(stage, ignore_errors=True)
            stage.mkdir()
            save(stage, network, **self.begun.layout)
            for path in sorted(stage.iterdir(), key=lambda path: path.name == "config.json"):
                path.replace(self.out / path.name)
            stage.rmdir()
        self.stepper.processes.wait()


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """Let an interrupt or a SIGTERM wait for the end of a step; a second one does not wait.

    Yields:
        What is set when there was one.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    names = (signal.SIGINT, signal.SIGTERM)
    before = {name: signal.getsignal(name) for name in names}

    def stopped(number: int, frame: Any) -> None:
        if stop.is_set():
            with suppress(TypeError):
                before[signal.Signals(number)](number, frame)  # type: ignore[operator, misc]
        stop.set()

    for name in names:
        signal.signal(name, stopped)
    try:
        yield stop
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
