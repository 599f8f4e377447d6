"""Steps made ready ahead: in order, errors in their places, and no thread left behind."""

import threading
import time

import pytest

from tokswap.hypernet.training.ahead import READY, Ahead


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "prepare"]


def test_steps_come_in_order() -> None:
    with Ahead(lambda number: number * number, range(3, 40)) as steps:
        assert list(steps) == [number * number for number in range(3, 40)]
    assert threads() == []


def test_no_steps_are_no_steps() -> None:
    with Ahead(str, range(0)) as steps:
        assert list(steps) == []
    assert threads() == []


def test_only_a_few_are_made_before_they_are_asked_for() -> None:
    made: list[int] = []
    with Ahead(made.append, range(100)) as steps:
        asked = iter(steps)
        for count in range(1, 5):
            next(asked)
            time.sleep(0.05)
            assert count <= len(made) <= count + READY + 1


class Stop(BaseException):
    """No Exception, as what a library in Rust raises when it panics."""


@pytest.mark.parametrize("kind", [ValueError, Stop])
def test_an_error_is_raised_where_its_step_is_asked_for(kind: type[BaseException]) -> None:
    def make(number: int) -> int:
        if number == 5:
            raise kind("no fifth")
        return number

    found: list[int] = []
    with pytest.raises(kind, match="no fifth"), Ahead(make, range(9)) as steps:
        found.extend(number for number in steps)
    assert found == [0, 1, 2, 3, 4]
    assert threads() == []
    found = []
    with Ahead(make, range(9)) as steps:
        for number in steps:
            found.append(number)
            if number == 4:
                break  # what comes behind is never asked for
    assert found == [0, 1, 2, 3, 4]
    assert threads() == []


def test_leaving_early_ends_the_thread() -> None:
    made: list[int] = []
    with Ahead(made.append, range(10**9)) as steps:
        next(iter(steps))
    assert threads() == []
    count = len(made)
    time.sleep(0.02)
    assert len(made) == count <= READY + 2
    with pytest.raises(KeyError, match="mine"), Ahead(str, range(10**9)):
        raise KeyError("mine")
    assert threads() == []


def test_waiting_is_measured() -> None:
    def make(number: int) -> int:
        time.sleep(0.03)
        return number

    with Ahead(make, range(5)) as steps:
        list(steps)
        assert steps.waited > 0.1
        assert 0.5 < steps.share <= 1.0
    with Ahead(str, range(5)) as steps:
        for _ in steps:
            time.sleep(0.03)
        assert steps.share < 0.9
