"""How large the published models are: one small JSON file for each, made from the real classes without weights.

A file holds each component's class and configuration with the place where that was seen, and what
`python -m trainers.common.measure` computed of it on torch's meta device: parameters, and the floating-point
operations of one forward of the transformer at three sizes of image. A test computes them again. Reading the files
needs neither torch nor a network.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parent / "sizes"
GIB: Final = 2**30
BYTES: Final[Mapping[str, int]] = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of a number, by torch's name of its type."""
SIDES: Final = (512, 768, 1024)
"""Sides of the square images for which a forward was counted: three points fix a polynomial of second degree."""


@dataclass(frozen=True)
class Component:
    """A part of a model that has weights.

    Attributes:
        name: Its folder in the repository.
        kind: Library and class, such as `diffusers.AutoencoderKL`.
        source: Where the configuration was seen.
        config: What the class is made from.
        shrunk: Changes of the configuration, by dotted keys, that leave the widths and two layers; empty for parts
            that are small anyway.
        parameters: How many numbers its weights are; tied ones count once.
        stored: The type of its numbers in the files of the hub.
    """

    name: str
    kind: str
    source: str
    config: Mapping[str, Any]
    shrunk: Mapping[str, Any]
    parameters: int
    stored: str

    def gib(self, dtype: str = "bfloat16") -> float:
        """GiB of its weights in that type."""
        return self.parameters * BYTES[dtype] / GIB


@dataclass(frozen=True)
class ModelSizes:
    """The sizes of one published model.

    Attributes:
        name: Of the file; for an image model that of its preset.
        repository: At the hub.
        gated: Whether its licence has to be accepted there first.
        components: Its parts.
        forward_tflop: Of the transformer, for one image of each side in `SIDES`; empty for a language model.
        decode_tflop: Of the autoencoder's decoder at 1024².
    """

    name: str
    repository: str
    gated: bool
    components: tuple[Component, ...]
    forward_tflop: tuple[float, ...]
    decode_tflop: float

    def gib(self, dtype: str = "bfloat16") -> float:
        """GiB of all weights in that type."""
        return sum(component.gib(dtype) for component in self.components)

    @property
    def download(self) -> int:
        """Bytes of the weights as the hub has them, which is nearly all that is fetched."""
        return sum(component.parameters * BYTES[component.stored] for component in self.components)

    def largest_gib(self, dtype: str = "bfloat16") -> float:
        """GiB of the largest component, which is what a GPU holds when only one is on it at a time."""
        return max(component.gib(dtype) for component in self.components)

    def image_tflop(self, width: int, height: int, steps: int, *, guided: bool) -> float:
        """Tera floating-point operations of one image: the steps, guidance by a second forward, and the decoder."""
        forwards = steps * (2 if guided else 1)
        return forwards * self._forward(width * height) + self.decode_tflop * width * height / 1024**2

    def _forward(self, pixels: int) -> float:
        """Through the three counted points: the layers grow with the locations, attention with their square."""
        points = [side * side for side in SIDES]
        total = 0.0
        for index, value in enumerate(self.forward_tflop):
            term = value
            for other, point in enumerate(points):
                if other != index:
                    term *= (pixels - point) / (points[index] - point)
            total += term
        return total


@cache
def all_sizes() -> Mapping[str, ModelSizes]:
    """The sizes of the published models, by the repository's name."""
    read = [_read(path) for path in sorted(FOLDER.glob("*.json"))]
    return {sizes.repository: sizes for sizes in read}


def sizes_of(repository: str) -> ModelSizes | None:
    """The sizes of a repository; None for one that nobody counted, a folder for example."""
    return all_sizes().get(repository)


def _read(path: Path) -> ModelSizes:
    values = json.loads(path.read_text(encoding="utf-8"))
    components = tuple(
        Component(
            name=name,
            kind=part["class"],
            source=part["source"],
            config=part["config"],
            shrunk=part.get("shrunk", {}),
            parameters=part["parameters"],
            stored=part.get("stored", "bfloat16"),
        )
        for name, part in values["components"].items()
    )
    return ModelSizes(
        name=values["name"],
        repository=values["repository"],
        gated=values["gated"],
        components=components,
        forward_tflop=tuple(values.get("forward_tflop", ())),
        decode_tflop=values.get("decode_tflop", 0.0),
    )
