"""What a file of this folder says of its model: one `ImageModel`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from generators.adapter import Adapter

if TYPE_CHECKING:
    from generators.models.flow import Flow
    from generators.models.presets import Preset


def _as_it_is(text: str) -> str:
    return text


@dataclass(frozen=True)
class PromptWindow:
    """How a pipeline tokenizes a prompt, and where it cuts it.

    Attributes:
        limit: Tokens that are kept, those of `before` and `after` among them.
        before: What the pipeline's template puts before the prompt.
        after: What it puts behind the prompt.
        special_tokens: Whether the tokenizer adds its own marks.
        prepare: What the pipeline does to a prompt first.
        pieces: How a prompt is parted, where its parts are tokenized one by one; the limit counts theirs alone.
    """

    limit: int
    before: str = ""
    after: str = ""
    special_tokens: bool = True
    prepare: Callable[[str], str] = _as_it_is
    pieces: Callable[[str], Sequence[str]] | None = None

    @classmethod
    def of_template(cls, limit: int, render: Callable[[str], str], *, special_tokens: bool) -> PromptWindow:
        """The window of a chat template; `render` puts a prompt into it."""
        before, _, after = render(_PROBE).partition(_PROBE)
        return cls(limit, before, after, special_tokens)


_PROBE: Final = "here-stands-the-prompt"


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
        tokenizer: The folder of the tokenizer whose limit cuts a prompt.
        prompt_window: From a preset and its tokenizer to how prompts are cut; it gives None, and is None, where nobody
            knows.
    """

    pipeline: str
    presets: tuple[Preset, ...] = ()
    mini: Preset | None = None
    adapter: type[Adapter] = Adapter
    flow: type[Flow] | None = None
    load_components: Callable[..., dict[str, Any]] | None = None
    tokenizer: str = "tokenizer"
    prompt_window: Callable[[Preset, Any], PromptWindow | None] | None = None
