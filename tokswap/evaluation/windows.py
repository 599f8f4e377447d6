"""Windows that slide over a stream of token ids, and batches of windows of one shape."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

WAITING = 512  # windows held back at most until there are enough of one length for a batch


class Window(NamedTuple):
    """What a model sees at once, and what it is asked.

    Attributes:
        inputs: Token ids, at most as many as the window is long.
        targets: The ids that follow the last ``len(targets)`` of the inputs.
    """

    inputs: list[int]
    targets: list[int]


def cut_windows(
    ids: Iterable[list[int]], start_id: int | None, window: int, stride: int
) -> Iterator[Window]:
    """Cut the tokens of one document into windows, so that each token is a target once.

    The first window asks for all its tokens; each following one moves by ``stride`` and asks for
    the tokens that are new, each of which has ``window - stride + 1`` tokens before it or more.
    Every window but that of a short document is full.

    Args:
        ids: The document's token ids, in lists of any length.
        start_id: Put before the first token, never a target. Without it the first token is none.
        window: Tokens that the model sees at once.
        stride: Tokens by which the window moves, ``1 <= stride <= window``.

    Yields:
        The windows, in order. Only the ids of about one window are held.
    """
    held = [] if start_id is None else [start_id]
    done = 1  # the first of the held ids that was not yet a target
    step = window
    for more in ids:
        held += more
        while len(held) - done >= step:
            yield _window(held, done, done + step, window)
            done, step = done + step, stride
        # A later window reaches back this far.
        drop = max(0, done - window)
        del held[:drop]
        done -= drop
    if done < len(held):
        yield _window(held, done, len(held), window)


def _window(held: list[int], done: int, end: int, window: int) -> Window:
    return Window(held[max(0, end - 1 - window) : end - 1], held[done:end])


def batches(
    windows: Iterable[tuple[int, Window]], size: Callable[[int, int], int]
) -> Iterator[list[tuple[int, Window]]]:
    """Gather windows with equally many inputs and targets, so that no batch needs padding.

    Args:
        windows: Windows, each with a number that says whose it is.
        size: Tells from the number of inputs and of targets how many windows make a batch.

    Yields:
        Batches; a window comes out at most ``WAITING`` windows after it went in.
    """
    groups: dict[tuple[int, int], list[tuple[int, Window]]] = {}
    waiting = 0
    for owner, window in windows:
        shape = (len(window.inputs), len(window.targets))
        groups.setdefault(shape, []).append((owner, window))
        waiting += 1
        if len(groups[shape]) >= size(*shape):
            waiting -= len(groups[shape])
            yield groups.pop(shape)
        elif waiting >= WAITING:
            yield from groups.values()
            groups, waiting = {}, 0
    yield from groups.values()
