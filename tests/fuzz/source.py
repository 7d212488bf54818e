"""An odd source, and what it holds by construction: what the checks compare with what an importer made of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from random import Random


class Fate(Enum):
    """What may become of an item: MUST be taken, MAY be taken or refused, NEVER be taken. Counted it is in any case."""

    MUST = "must"
    MAY = "may"
    NEVER = "never"

    def at_most(self, other: "Fate") -> "Fate":
        """The weaker of the two claims."""
        order = (Fate.MUST, Fate.MAY, Fate.NEVER)
        return order[max(order.index(self), order.index(other))]


@dataclass
class Item:
    """An image, or a row of a table of prompts. Its prompt is unique among all sources, so the store's row is found.

    Args:
        prompt: The text as the source has it.
        fate: Whether it is to be taken.
        clean: The source calls the image clean.
        boxes: How many boxes the image has in the source; more may not be in the store.
        exact: In thousandths (left, top, right, bottom): the boxes that the store must have. None: not known.
        blob: The sha256 of its bytes.
        size: Width and height as a person sees it. None: not checked.
        split: The split that the source names.
        another: It is a second prompt for the image of another item, so the two are one thing to be counted.
    """

    prompt: str
    fate: Fate = Fate.MUST
    clean: bool = False
    boxes: int = 0
    exact: Sequence[tuple[int, int, int, int]] | None = None
    blob: str | None = None
    size: tuple[int, int] | None = None
    split: str | None = None
    another: bool = False


@dataclass
class Source:
    """A source on the disk, the command that imports it, and what is in it.

    Args:
        number: The source's number; with the seed it gives the source again.
        family: Which generator made it.
        folder: Where it lies.
        arguments: The command without `--home`, `--source` and `--report`.
        items: What it holds.
        odd: What was made odd, for whoever reads a failure.
        seen: By unit, how many items the report must have seen.
        entries: How many items and files of any kind must be accounted for: seen of all units, and used.
        whole: The source may be refused as one (a damaged file).
        named: The records carry the source's name; False for our own shards, which keep theirs.
        altered: Bytes of it were changed at random, so its texts and pictures may read otherwise.
        cut: Its end is missing: what stood there cannot be counted one by one, but is said.
        exits: Exit codes that are right beside 0 and 10.
    """

    number: int
    family: str
    folder: Path
    arguments: list[str] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)
    entries: int | None = None
    whole: bool = False
    named: bool = True
    altered: bool = False
    cut: bool = False
    exits: set[int] = field(default_factory=set)

    @property
    def name(self) -> str:
        """What `--source` is given."""
        return f"fuzz-{self.number}"

    def weaken(self, fate: Fate, odd: str) -> None:
        """Something is odd about the whole source: no item's fate is better than `fate`."""
        self.odd.append(odd)
        for item in self.items:
            item.fate = item.fate.at_most(fate)


def oddity(rng: Random, share: float, kinds: Sequence[str]) -> str:
    """One of the kinds, for `share` of the cases; else "", which is nothing odd."""
    return rng.choice(kinds) if rng.random() < share else ""


_NOUNS = ("red barn", "boat on a lake", "kitchen at night", "stop sign", "green apple", "snowy street", "glass cat")


def unique_prompt(rng: Random, number: int, index: int) -> str:
    """A prompt that no other item of any source has."""
    return f"a {rng.choice(_NOUNS)} number {number}x{index}"
