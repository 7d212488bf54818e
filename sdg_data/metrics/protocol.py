"""The two protocols of SDG-Eval (SPEC section 3) and their constants."""

from enum import StrEnum


class Protocol(StrEnum):
    """`paper` as the paper defines its metrics, `release` as the release's scripts compute them."""

    PAPER = "paper"
    RELEASE = "release"

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The IoU thresholds τ at which boxes are counted, ascending."""
        return (0.1, 0.5) if self is Protocol.PAPER else (0.1, 0.2, 0.25, 0.3, 0.4, 0.5)

    @property
    def reasons_at(self) -> float:
        """The IoU from which on a pair's reasons and importance are compared."""
        return 0.1 if self is Protocol.PAPER else 0.5
