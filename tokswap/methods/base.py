"""What a method is asked, and what it answers."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from tokswap.blocks import Blocks
from tokswap.methods.cost import Cost, Sizes
from tokswap.settings import Part
from tokswap.vocabulary.align import Alignment
from tokswap.vocabulary.unused import unused_ids

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from tokswap.methods.answer import Answer
    from tokswap.solvers.sparse import SparseRows

Role = Literal["input", "output"]
ROLES: tuple[Role, Role] = ("input", "output")
Side = Literal["base", "donor"]
Searched = tuple[Side, Role, float]
"""A table in which untrained rows were looked for, and by what deviations."""


@dataclass(frozen=True, eq=False)
class Problem:
    """The rows to fill in one role.

    Attributes:
        role: ``input`` (embedding) or ``output`` (head).
        alignment: The new vocabulary against the base's.
        ids: Donor ids of the M tokens to fill, ascending: those that the base lacks, and the shared
            ones where the method asks for them.
        base_table: Loads the base's table of this role, (S, D), in its stored type.
        donor_table: Loads the donor's table of this role, (rows, E); None for a bare tokenizer.
        generator: The only source of randomness.
        device: Where to compute, such as ``cpu`` or ``cuda``.
        untrained: What :meth:`find_untrained` has found.
        also: Loads the base's tables of the other roles that the answer will be used for, beside
            ``role``; both have one table of the donor's.
        base_inputs: Loads the base's input table, (S, D), whatever the role; without it,
            ``base_table`` is it.
        base_outputs: The same of its output table.
        has_bias: Whether the base's head adds a number of its own to each token's logit.
        purpose: What the rows are for, as progress tells it.
        blocks: Solves what takes long, in blocks that can be kept and shared among processes.
        tied: Whether the rows serve both roles of a base that has one table.
    """

    role: Role
    alignment: Alignment
    ids: list[int]
    base_table: "Callable[[], Tensor]"
    donor_table: "Callable[[], Tensor] | None"
    generator: "Generator"
    device: str
    untrained: "dict[Searched, Tensor]" = field(default_factory=dict)
    also: "Mapping[Role, Callable[[], Tensor]]" = field(default_factory=dict)
    base_inputs: "Callable[[], Tensor] | None" = None
    base_outputs: "Callable[[], Tensor] | None" = None
    has_bias: bool = False
    purpose: str = "rows"
    blocks: Blocks = field(default_factory=Blocks)
    tied: bool = False

    def find_untrained(
        self, side: Side, table: "Tensor", deviations: float, *, role: Role | None = None
    ) -> "Tensor":
        """Find the rows that were never trained, or hardly, and note them in ``untrained``.

        What is noted there is not looked for again: a table takes seconds.

        Args:
            side: Whose table it is: ``base`` or ``donor``.
            table: The table of the role.
            deviations: See :func:`~tokswap.solvers.untrained.untrained_rows`.
            role: Whose table it is; without it, the role that is asked for.

        Returns:
            (rows,) bool.
        """
        import torch

        from tokswap.solvers.untrained import untrained_rows

        key = side, role or self.role, deviations
        if key not in self.untrained:
            unused = torch.tensor(unused_ids(getattr(self.alignment, side), len(table))).long()
            self.untrained[key] = untrained_rows(table, unused=unused, deviations=deviations)
        return self.untrained[key]

    @property
    def memory(self) -> int:
        """Bytes that solving may take at once; they decide how fast it is, and no row."""
        return self.blocks.memory(self.device)

    @property
    def mean_column(self) -> int:
        """The column behind the base's S rows, which stands for the mean of its used rows."""
        return self.alignment.base_rows

    @property
    def columns(self) -> int:
        """Columns of a sparse answer: the base's rows and their mean."""
        return self.alignment.base_rows + 1


@dataclass(frozen=True, eq=False)
class WithAverages:
    """Sparse weights that also use averages of base rows which the method brings along.

    Attributes:
        weights: (M, S + 1 + A) over the base's rows, their mean, and the averages.
        averages: (A, S), each average as a combination of base rows.
    """

    weights: "SparseRows"
    averages: "SparseRows"


class Method(Part, ABC):
    """A way to fill the rows of missing tokens; its fields are its settings.

    A new method is one file with one subclass and one line in ``METHODS``.
    """

    summary: ClassVar[str]
    """What it does, in one line."""
    paper: ClassVar[str]
    """Where it was published."""
    wants: ClassVar[tuple[str, ...]] = ()
    """Settings that have no default and without which it can be made, but not work."""

    @property
    def needs_donor(self) -> bool:
        """Whether it reads the donor's weights; otherwise a bare tokenizer will do."""
        return False

    @property
    def needs_base(self) -> bool:
        """Whether the values of the base's rows are in the answer, beyond how they are combined.

        So it is with rows that are no combination of theirs. Where they are not, one answer serves
        both roles of a base, if the donor has one table. To leave out rows that are unfit is no
        such need.
        """
        return False

    @property
    def fills_shared(self) -> bool:
        """Whether it fills the rows of shared tokens too, which are copied otherwise."""
        return False

    @property
    def draws(self) -> bool:
        """Whether its rows depend on the seed."""
        return False

    @property
    def differs_by_role(self) -> bool:
        """Whether the role itself decides the answer, beyond the tables of it that are read."""
        return False

    def cost(self, sizes: Sizes) -> Cost:
        """Tell what the answer for all missing tokens takes: one weight each, if nothing is said.

        Where the roles differ, it is that of the role that takes more.

        Args:
            sizes: Of the vocabularies and the tables.
        """
        return Cost(weights=sizes.missing)

    def sources(self) -> dict[str, str]:
        """Tell what decides the rows beside the models, the recipe and the seed, for the record.

        Returns:
            By name of a file, an encoder or a package: its hash, revision or version.
        """
        return {}

    def check(self, sizes: Sizes) -> None:
        """Refuse what is seen to fail by the sizes alone, before anything slow.

        Raises:
            MethodError: If the method cannot work on these sizes.
        """

    @abstractmethod
    def fill(self, problem: Problem) -> "SparseRows | WithAverages | Tensor | Answer":
        """Fill the rows of the missing tokens.

        Args:
            problem: What to fill, and from what.

        Returns:
            Sparse weights (M, S + 1) over the base's rows and their mean, in the order of
            ``problem.ids``, with averages of the method's own where it needs them; or, for a
            method whose rows are no combination of the base's, the rows themselves, (M, D); or
            both, as an :class:`~tokswap.methods.answer.Answer`.

        Raises:
            MethodError: If the method cannot work on this pair of models.
        """
