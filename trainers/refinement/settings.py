"""How a refinement is done: its arm, editor, mask, limits, detector and rewards; the table `[refine]` of a config file.

An arm says what an editor sees. `defects` is the project's own; the other three are the paper's (arXiv 2606.06113):

    arm       edited at once   may change     pictures                        text
    defects   one cluster      its mask       the image                       where, which kind, why
    sdg       all of them      everything     the image, a copy with boxes    caption and all defects
    caption   -                everything     the image                       the caption
    heatmaps  all of them      everything     the image, two heat maps        caption and all defects

An editor that takes a mask instead of further pictures gets the boxes or the heat as its mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationError

from sdg_data.errors import ConfigError
from sdg_data.ids import canonical_json, content_id
from sdg_data.settings import VlmSettings
from trainers.common.config import NotNegative, Positive, TrainingSettings
from trainers.refinement.acceptance import AcceptanceSettings
from trainers.rewards.settings import DetectorSettings, RewardSettings

ArmName = Literal["defects", "sdg", "caption", "heatmaps"]


@dataclass(frozen=True)
class RefinementArm:
    """What an editor sees and may change.

    Attributes:
        instruction: The template of its text.
        one_by_one: One cluster of defects after another, each in its own mask; else one edit of the whole image.
        shown: What stands beside the image: "" nothing, "boxes" a copy with red boxes, "heatmaps" one map a type.
    """

    instruction: str
    one_by_one: bool = False
    shown: Literal["", "boxes", "heatmaps"] = ""


ARMS: Final[Mapping[str, RefinementArm]] = {
    "defects": RefinementArm("defect-1", one_by_one=True),
    "sdg": RefinementArm("feedback-1", shown="boxes"),
    "caption": RefinementArm("caption-1"),
    "heatmaps": RefinementArm("heatmaps-1", shown="heatmaps"),
}


class RefineSettings(TrainingSettings):
    """The table `[refine]`."""

    arm: ArmName = "defects"
    """defects: one after another, each in its mask. sdg, caption, heatmaps: the paper's three."""
    editor: str = "flux2-klein-inpaint"
    """Name of an editor (`sdg refine editors`)."""
    rounds: Positive = 3
    """At most so many edits one after another; the paper's arms make one."""
    candidates: Positive = 1
    """So many tries, with different seeds, of which the best that passes is taken."""
    budget: Annotated[int, Field(ge=1)] | None = None
    """At most so many candidates of one image."""
    cells: NotNegative = 1.0
    """By how many latent cells a box is widened to its mask."""
    feather: Annotated[int, Field(ge=0)] = 4
    """Over how many pixels the mask fades."""
    cluster: bool = True
    """Whether defects whose masks overlap are edited together."""
    instruction: str = ""
    """A template's name or file; empty: the editor's own, else the arm's."""
    device: str = "auto"
    """Where the editor runs: auto is a GPU where there is one."""
    detector: DetectorSettings | None = None
    """Who looks again after each edit; by default the model of `[prelabel]`."""
    rewards: tuple[RewardSettings, ...] = ()
    """Base rewards, summed by their weights, that may not fall."""
    acceptance: AcceptanceSettings = AcceptanceSettings()
    """The limits of the test."""

    @property
    def of_arm(self) -> RefinementArm:
        """What the arm's name stands for."""
        return ARMS[self.arm]

    @property
    def most_rounds(self) -> int:
        """How many edits may follow on one another."""
        return self.rounds if self.of_arm.one_by_one else 1


def refine_settings(table: Mapping[str, Any], over: Mapping[str, Any]) -> RefineSettings:
    """The settings of a config file's table, with what the command line says laid over it.

    Args:
        table: `[refine]`.
        over: Options by the names of the fields; None is an option that was not given.

    Returns:
        The settings.

    Raises:
        ConfigError: A key or a value is wrong; the message names it.
    """
    given = {key: value for key, value in over.items() if value is not None}
    try:
        return RefineSettings(**{**table, **given})
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise ConfigError("; ".join(lines), item="refine", hint="The keys are described in docs/refine.md.") from error


@dataclass(frozen=True)
class RunSettings:
    """What tells two runs apart: everything that decides which edits are made and taken, as canonical JSON."""

    settings: str

    @property
    def run_id(self) -> str:
        """The run's id."""
        return content_id("refinement-run", self.settings)


def identity_of(
    settings: RefineSettings, *, source: str, editor: str, revision: str, template: str, detector: DetectorSettings
) -> RunSettings:
    """The identity of a run.

    Args:
        settings: How it is done.
        source: Where the first defects come from.
        editor: Canonical JSON of the editor's settings.
        revision: The editor's.
        template: Id of the instruction's template.
        detector: Who looks again.

    Returns:
        The identity. Where a model runs and how many questions are asked at a time are no part of it.
    """
    kept = settings.model_dump(mode="json", exclude={"device", "detector", "rewards"})
    for name in ("new_kinds", "max_left"):  # younger than the first runs, whose ids have to stay
        if getattr(settings.acceptance, name) == AcceptanceSettings.model_fields[name].default:
            del kept["acceptance"][name]
    return RunSettings(
        canonical_json(
            {
                **kept,
                "source": source,
                "editor_settings": editor,
                "revision": revision,
                "template": template,
                "detector": {"kind": detector.kind, "vlm": _asked(detector.vlm)},
                "rewards": [
                    {**part.model_dump(mode="json", exclude={"vlm", "device", "batch_size"}), "vlm": _asked(part.vlm)}
                    for part in settings.rewards
                ],
            }
        )
    )


def _asked(vlm: VlmSettings | None) -> dict[str, Any] | None:
    """What a model is asked, without where it runs and what it costs."""
    names = {"backend", "model", "revision", "template", "codec", "temperature", "max_tokens", "max_side", "reasoning"}
    return None if vlm is None else vlm.model_dump(mode="json", include=names)
