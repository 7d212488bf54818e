"""Scores of an image as a whole, as ImageDoctor and RichHF-18K have them (arXiv 2510.01010, 2312.10240)."""

from typing import Final

NAMES: Final = ("semantic_alignment", "aesthetics", "plausibility", "overall")
HIGHEST_SCORE: Final = 5
"""People enter a score as 1 to 5."""


def as_share(entered: int) -> float:
    """A score that was entered, 1 to 5, as a number in 0..1: (n − 1)/4."""
    return (entered - 1) / (HIGHEST_SCORE - 1)
