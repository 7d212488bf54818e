"""What can be asked for in the mini world: vocabulary, scenes, and the prompt grammar both ways.

A prompt names one to three groups of flat shapes, may relate the first two, and may name the background::

    a large red circle to the left of a small blue square on a grey background
    two green triangles and a yellow star

`Scene.prompt` and `parse_prompt` are inverses: the oracle judges an image against a prompt
alone, so the text must hold everything that is asked.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from enum import StrEnum

SIZE = 64
"""Width and height of the world in pixels."""

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "green": (40, 160, 60),
    "blue": (40, 70, 220),
    "yellow": (240, 205, 20),
    "purple": (145, 45, 190),
    "orange": (250, 125, 15),
}
SHAPES = ("circle", "square", "triangle", "star")
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (246, 246, 246),
    "grey": (196, 196, 196),
    "pink": (248, 204, 216),
    "light blue": (190, 216, 246),
}
RADII: dict[str | None, tuple[float, float]] = {"small": (5.5, 6.5), None: (7.6, 9.0), "large": (10.4, 11.6)}
"""Radius in pixels (lowest, highest) by the size word; `None` is a prompt that names no size."""
COUNT_WORDS = {1: "a", 2: "two", 3: "three", 4: "four"}
MAX_OBJECTS = 4


class Relation(StrEnum):
    """The place of the first group relative to the second."""

    LEFT_OF = "to the left of"
    RIGHT_OF = "to the right of"
    ABOVE = "above"
    BELOW = "below"

    @property
    def horizontal(self) -> bool:
        """Whether the relation is between left and right; else it is between above and below."""
        return self in (Relation.LEFT_OF, Relation.RIGHT_OF)

    @property
    def first_is_lower(self) -> bool:
        """Whether the first group has the lower coordinate (x to the right, y downwards)."""
        return self in (Relation.LEFT_OF, Relation.ABOVE)


@dataclass(frozen=True)
class Group:
    """A phrase of the prompt: `count` shapes of one size, colour and kind."""

    count: int
    size: str | None
    colour: str
    shape: str

    def text(self, *, count: int | None = None) -> str:
        """The phrase, as the prompt says it; `count` overrides the group's own."""
        number = self.count if count is None else count
        noun = self.shape if number == 1 else f"{self.shape}s"
        return " ".join(word for word in (COUNT_WORDS[number], self.size, self.colour, noun) if word)

    @property
    def name(self) -> str:
        """Colour and shape, as a reason names them: `red circle`."""
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True)
class Scene:
    """What a prompt asks for. Groups differ in (colour, shape); a relation joins the first two, each of count 1."""

    groups: tuple[Group, ...]
    relation: Relation | None = None
    background: str | None = None

    def __post_init__(self) -> None:
        pairs = {(group.colour, group.shape) for group in self.groups}
        if not self.groups or len(pairs) != len(self.groups) or self.object_count > MAX_OBJECTS:
            raise ValueError(f"a scene has 1 to {MAX_OBJECTS} shapes in groups that differ in colour or shape")
        if self.relation and (len(self.groups) < 2 or any(group.count != 1 for group in self.groups[:2])):
            raise ValueError("a relation joins two groups of one shape each")

    @property
    def object_count(self) -> int:
        """How many shapes the scene has in all."""
        return sum(group.count for group in self.groups)

    @property
    def prompt(self) -> str:
        """The text that asks for the scene; `parse_prompt` makes the same scene of it."""
        phrases = [group.text() for group in self.groups]
        if self.relation:
            phrases[:2] = [f"{phrases[0]} {self.relation} {phrases[1]}"]
        text = " and ".join(phrases)
        return f"{text} on a {self.background} background" if self.background else text


_GROUP = re.compile(
    r"(?P<count>a|two|three|four)(?: (?P<size>small|large))? "
    rf"(?P<colour>{'|'.join(COLOURS)}) (?P<shape>{'|'.join(SHAPES)})s?"
)
_BACKGROUND = re.compile(rf" on a (?P<background>{'|'.join(BACKGROUNDS)}) background$")
_RELATION = re.compile("|".join(f" {relation} " for relation in Relation))


def parse_prompt(text: str) -> Scene:
    """Read a prompt of this grammar.

    Raises:
        ValueError: the text is not of the mini world; the message says which part is not.
    """
    body, background = text, None
    if match := _BACKGROUND.search(text):
        body, background = text[: match.start()], match["background"]
    relation = None
    if match := _RELATION.search(body):
        relation = Relation(match[0].strip())
        body = f"{body[: match.start()]} and {body[match.end() :]}"
    groups = []
    for phrase in body.split(" and "):
        match = _GROUP.fullmatch(phrase)
        if not match:
            raise ValueError(f"not a prompt of the mini world: {phrase!r} in {text[:200]!r}")
        count = next(number for number, word in COUNT_WORDS.items() if word == match["count"])
        groups.append(Group(count, match["size"], match["colour"], match["shape"]))
    scene = Scene(tuple(groups), relation, background)
    if scene.prompt != text:
        raise ValueError(f"not a prompt of the mini world: {text[:200]!r} (did you mean {scene.prompt!r}?)")
    return scene


def sample_scene(rng: random.Random) -> Scene:
    """Draw a scene: 1 to 4 shapes, mostly 1 or 2; sizes, relations and backgrounds named in part of the prompts."""
    total = rng.choices((1, 2, 3, 4), weights=(25, 37, 25, 13))[0]
    counts: list[int] = []
    while sum(counts) < total:
        room = total - sum(counts)
        counts.append(rng.choice((1, 1, 1, 2, 2, 3, 4)[: room + 2]) if room > 1 else 1)
        counts[-1] = min(counts[-1], room)
        if len(counts) == 3:
            counts[-1] = total - sum(counts[:-1])
    pairs = rng.sample([(colour, shape) for colour in COLOURS for shape in SHAPES], len(counts))
    groups = tuple(
        Group(count, rng.choice((None, "small", "large")), colour, shape)
        for count, (colour, shape) in zip(counts, pairs, strict=True)
    )
    related = len(groups) > 1 and groups[0].count == groups[1].count == 1 and rng.random() < 0.5
    return Scene(
        groups,
        rng.choice(list(Relation)) if related else None,
        rng.choice(list(BACKGROUNDS)) if rng.random() < 0.4 else None,
    )


def sample_prompts(count: int, seed: int) -> list[str]:
    """`count` different prompts, the same for the same `seed` on every machine."""
    rng = random.Random(seed)
    prompts: dict[str, None] = {}
    while len(prompts) < count:
        prompts[sample_scene(rng).prompt] = None
    return list(prompts)
