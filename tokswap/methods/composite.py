"""What a method is that is made of others: it needs what any of them needs."""

from abc import abstractmethod
from collections.abc import Sequence

from tokswap.errors import MethodError
from tokswap.methods.base import Method
from tokswap.methods.cost import Sizes


class Composite(Method):
    """A method that asks others and puts their answers together."""

    @property
    @abstractmethod
    def parts(self) -> Sequence[Method]:
        """The methods that are asked."""

    @property
    def needs_donor(self) -> bool:
        """See :attr:`Method.needs_donor`."""
        return any(part.needs_donor for part in self.parts)

    @property
    def needs_base(self) -> bool:
        """See :attr:`Method.needs_base`."""
        return any(part.needs_base for part in self.parts)

    @property
    def draws(self) -> bool:
        """See :attr:`Method.draws`."""
        return any(part.draws for part in self.parts)

    @property
    def differs_by_role(self) -> bool:
        """See :attr:`Method.differs_by_role`."""
        return any(part.differs_by_role for part in self.parts)

    @property
    def outliers(self) -> float | None:
        """The setting of the first method that has it."""
        found = (getattr(part, "outliers", None) for part in self.parts)
        return next((deviations for deviations in found if deviations is not None), None)

    def sources(self) -> dict[str, str]:
        """See :meth:`Method.sources`."""
        return {name: said for part in self.parts for name, said in part.sources().items()}

    def check(self, sizes: Sizes) -> None:
        """See :meth:`Method.check`.

        Raises:
            MethodError: If one of them fills the rows of shared tokens too.
        """
        for part in self.parts:
            if part.fills_shared:
                raise MethodError(
                    "a method that fills shared tokens too (shared: predict) stands alone; set "
                    "shared: copy, or leave the other methods out"
                )
            part.check(sizes)
