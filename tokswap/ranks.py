"""Several processes that share one run, as `torchrun` and `accelerate launch` start them.

Each process is a *rank*. All of them open the models and solve their part; only the first writes,
measures and prints. What they tell each other is bytes, by gloo whatever the device: answers lie in
main memory, and two ranks may share one card.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from tokswap.errors import RankError, TokswapError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import ProcessGroup

VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What a launcher sets for each process."""
PATIENCE = timedelta(hours=3)
"""How long a rank waits for the others, which may have to fetch a model meanwhile."""


def number() -> int:
    """Number of this process among those of the run, from the environment; 0 where it is alone."""
    return _environment()[0]


def alone() -> bool:
    """Tell whether this process was started by itself, from the environment."""
    return _environment()[1] == 1


def _environment() -> tuple[int, int]:
    if not all(name in os.environ for name in VARIABLES):
        return 0, 1
    try:
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    except ValueError:
        return 0, 1


@dataclass
class Ranks:
    """The ranks of a run, as one of them sees them.

    Attributes:
        rank: The number of this one.
        world: How many there are.
        local: The number of this one among those on its machine.
        here: How many there are on this machine.
        group: What they talk by; None for a process that is alone.
        over: Whether they have parted, or one of them has told that it failed.
    """

    rank: int = 0
    world: int = 1
    local: int = 0
    here: int = 1
    group: "ProcessGroup | None" = None
    over: bool = False

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and prints."""
        return self.rank == 0

    def device(self, device: str) -> str:
        """Choose this rank's own card where the device is CUDA without a number."""
        if device != "cuda" or self.world == 1:
            return device
        import torch

        return f"cuda:{self.local % max(torch.cuda.device_count(), 1)}"

    def beside(self, device: str) -> int:
        """How many ranks use the same memory as this one: of a card, those that share it."""
        if not device.startswith("cuda"):
            return self.here
        import torch

        return -(-self.here // max(torch.cuda.device_count(), 1))

    def share(self, said: bytes) -> list[bytes]:
        """Tell all ranks something, and hear what each of them has told.

        Every rank must call this equally often.

        Args:
            said: What this one tells.

        Returns:
            What each one told, in the order of the ranks.

        Raises:
            RankError: If one of them has failed, or has ended without a word.
        """
        if self.group is None:
            return [said]
        heard = self._exchange(0, said)
        for rank, (status, words) in enumerate(heard):
            if status:
                self.over = True
                raise RankError(f"rank {rank} of {self.world}: {words.decode()}")
        return [words for _, words in heard]

    def add(self, numbers: "Tensor") -> None:
        """Add up what all ranks have, in place.

        Args:
            numbers: As many as on every other rank, of one type.

        Raises:
            RankError: If one of them has ended.
        """
        if self.group is None:
            return
        from torch import distributed

        try:
            here = numbers.cpu()
            distributed.all_reduce(here, group=self.group)
            numbers.copy_(here)
        except RuntimeError as error:
            self.over = True
            raise RankError(
                f"rank {self.rank} lost another one ({_line(error)}); see whether it was killed or "
                "ran out of memory, and run again"
            ) from error.with_traceback(None)

    def part(self) -> None:
        """Wait until every rank has done its part, and end their talk.

        Raises:
            RankError: If one of them has failed.
        """
        if self.group is not None and not self.over:
            self.agree("the end", b"")
            self.over = True

    def agree(self, called: str, said: bytes) -> None:
        """Check that all ranks are at the same point and say the same there.

        Raises:
            RankError: If they do not.
        """
        own = called.encode() + b"\0" + said
        for rank, other in enumerate(self.share(own)):
            if other != own:
                self.over = True
                theirs = other.partition(b"\0")[0].decode(errors="replace")
                raise RankError(
                    f"rank {self.rank} has another question ({called}) than rank {rank} "
                    f"({theirs}); give all ranks the same files, "
                    "settings, versions and kind of machine"
                )

    def fail(self, error: Exception) -> None:
        """Tell the other ranks why this one ends."""
        if self.group is None or self.over:
            return
        self.over = True
        kind = "" if isinstance(error, TokswapError) else f"{type(error).__name__}: "
        try:
            self._exchange(1, f"{kind}{error}".encode())
        except RankError:
            return  # nobody is left to tell

    def _exchange(self, status: int, said: bytes) -> list[tuple[int, bytes]]:
        import torch
        from torch import distributed

        def filled(data: bytes) -> "Tensor":
            return torch.frombuffer(bytearray(data or b"\0"), dtype=torch.uint8)

        try:
            own = torch.tensor([status, len(said)])
            heads = [torch.empty_like(own) for _ in range(self.world)]
            distributed.all_gather(heads, own, group=self.group)
            heard = []
            for rank, head in enumerate(heads):
                code, length = head.tolist()
                data = filled(said if rank == self.rank else bytes(length))
                if length:
                    distributed.broadcast(data, group=self.group, group_src=rank)
                heard.append((code, data.numpy().tobytes()[:length]))
        except RuntimeError as error:
            self.over = True
            raise RankError(
                f"rank {self.rank} lost another one, which ended without a word ({_line(error)}); "
                "see whether it was killed or ran out of memory, and run again"
            ) from error.with_traceback(None)  # whose frames hold the group, see joined()
        return heard


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the ranks that a launcher has started with this one; alone, there is nothing to join.

    An error of one rank in the body ends the others too.

    Yields:
        The ranks.

    Raises:
        RankError: If they cannot meet, or another one fails.
    """
    from torch import distributed

    rank, world = _environment()
    begun = distributed.is_available() and distributed.is_initialized()  # by whoever calls us
    if world == 1 and not begun:
        yield Ranks()
        return
    try:
        if begun:
            rank, world = distributed.get_rank(), distributed.get_world_size()
            group = distributed.new_group(backend="gloo", timeout=PATIENCE)
        else:
            distributed.init_process_group("gloo", timeout=PATIENCE)
            group = distributed.group.WORLD
    except (RuntimeError, ValueError) as error:
        raise RankError(
            f"rank {rank} cannot meet the {world - 1} others ({_line(error)}); start all of them "
            "with torchrun"
        ) from error
    local = int(os.environ.get("LOCAL_RANK", rank))
    here = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    ranks = Ranks(rank, world, local, here, group)
    try:
        yield ranks
        ranks.part()
    except Exception as error:  # whatever it is, the other ranks wait for this one
        ranks.fail(error)
        raise
    finally:
        own, ranks.group, group = group if begun else None, None, None
        distributed.destroy_process_group(own)
        # What still refers to the group keeps its threads alive, and those abort a process that
        # ends with an error on its way.
        del own


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]
