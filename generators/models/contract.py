"""What a file of this folder says of its model: one `ImageModel`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from generators.adapter import Adapter

if TYPE_CHECKING:
    from generators.models.flow import Flow
    from generators.models.presets import Preset


@dataclass(frozen=True)
class ImageModel:
    """A pipeline class of diffusers: the checkpoints of it that are built in, and how it is run and trained.

    Attributes:
        pipeline: The name of the class in diffusers.
        presets: The built-in checkpoints.
        mini: The toy of this class that ships with its weights.
        adapter: How the class is run; the base class fits one that takes prompts, steps and a list of generators.
        flow: How its transformer is trained; None where it is only run.
        load_components: Parts of the pipeline that diffusers cannot load by itself, by their names. Called with the
            folder or repository, and with `revision=` for the latter.
    """

    pipeline: str
    presets: tuple[Preset, ...] = ()
    mini: Preset | None = None
    adapter: type[Adapter] = Adapter
    flow: type[Flow] | None = None
    load_components: Callable[..., dict[str, Any]] | None = None
