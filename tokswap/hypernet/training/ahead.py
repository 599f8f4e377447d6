"""Steps are made ready in a thread of their own, so that the training does not wait for them."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import Empty, Full, Queue
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")

READY = 3
"""Steps that may be ready at once."""


class Ahead(Generic[T]):
    """Makes steps ready ahead of time, in order.

    Args:
        make: Makes a step ready.
        steps: Their numbers.

    Attributes:
        waited: Seconds that were spent waiting for steps.
    """

    def __init__(self, make: Callable[[int], T], steps: range) -> None:
        self.waited = 0.0
        self._start = time.monotonic()
        self._make, self._steps = make, steps
        self._ready: Queue[T | BaseException] = Queue(READY)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prepare", daemon=True)

    def __enter__(self) -> "Ahead[T]":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        with suppress(Empty):
            while True:
                self._ready.get_nowait()
        self._thread.join()

    def __iter__(self) -> Iterator[T]:
        for _ in self._steps:
            start = time.monotonic()
            made = self._ready.get()
            self.waited += time.monotonic() - start
            if isinstance(made, BaseException):
                raise made
            yield made

    @property
    def share(self) -> float:
        """Share of the time so far that was spent waiting."""
        return self.waited / max(time.monotonic() - self._start, 1e-9)

    def _run(self) -> None:
        try:
            for number in self._steps:
                if not self._put(self._make(number)):
                    return
        except BaseException as error:  # raised where the step is asked for; a panic in Rust is one
            self._put(error)

    def _put(self, made: T | BaseException) -> bool:
        """Hand over a step; False where nobody wants any more."""
        while not self._over.is_set():
            with suppress(Full):
                self._ready.put(made, timeout=0.1)
                return True
        return False
