"""Which rewards and which detector a training uses, and making them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from sdg_data.errors import ConfigError
from sdg_data.settings import VlmSettings
from trainers.rewards.contract import BaseReward, Detector
from trainers.rewards.weighted import WeightedSum


class RewardSettings(BaseModel):
    """One base reward.

    `kind`: clip, pick or scorer (a transformers `model` in this process, with `processor` and `revision`); judge (an
    OpenAI-compatible server, `vlm`); palette or oracle (the mini world). `noise`: the oracle's. `template`: a file with
    the judge's question, `{prompt}` where the caption goes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["clip", "pick", "scorer", "judge", "palette", "oracle"]
    weight: Annotated[float, Field(allow_inf_nan=False)] = 1.0
    model: str = ""
    processor: str = ""
    revision: str = ""
    device: str = "auto"
    batch_size: Annotated[int, Field(ge=1)] = 16
    vlm: VlmSettings | None = None
    template: str = ""
    noise: Annotated[float, Field(ge=0)] = 0.0


class DetectorSettings(BaseModel):
    """The detector: `vlm` says which backend (mini, transformers, openai); oracle is for tests and measuring."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["vlm", "oracle"] = "vlm"
    vlm: VlmSettings = VlmSettings()


def make_reward(settings: tuple[RewardSettings, ...]) -> BaseReward:
    """Their weighted sum. Raises ConfigError, ModelError."""
    if not settings:
        raise ConfigError("no base reward is named", hint='--set \'base=[{"kind": "clip", "model": "..."}]\'')
    return WeightedSum([(_one(one), one.weight) for one in settings])


def make_detector(settings: DetectorSettings) -> Detector:
    """The detector. Raises ConfigError, ModelError."""
    if settings.kind == "oracle":
        from trainers.rewards.mini import OracleDetector

        return OracleDetector()
    from annotate.vlm.registry import make_backend, template_for
    from trainers.rewards.detectors import VlmDetector

    backend = make_backend(settings.vlm)
    return VlmDetector(
        backend,
        template_for(backend, settings.vlm),
        concurrency=1024 if backend.local else settings.vlm.concurrency,
        deadline=None if backend.local else settings.vlm.deadline,
    )


def _one(settings: RewardSettings) -> BaseReward:
    if settings.kind == "oracle":
        from trainers.rewards.mini import OracleReward

        return OracleReward(settings.noise)
    if settings.kind == "palette":
        from trainers.rewards.mini import PaletteReward

        return PaletteReward()
    if settings.kind == "judge":
        return _judge(settings)
    if not settings.model:
        raise ConfigError(f"the reward {settings.kind!r} needs a model", hint="`model`: a folder or a hub repository.")
    from trainers.rewards.local_models import LocalReward

    return LocalReward(
        settings.kind,
        settings.model,
        processor=settings.processor,
        revision=settings.revision,
        device=settings.device,
        batch_size=settings.batch_size,
    )


def _judge(settings: RewardSettings) -> BaseReward:
    from annotate.vlm.registry import make_backend
    from trainers.rewards.judge import TEMPLATE, Judge

    if settings.vlm is None:
        raise ConfigError("the reward 'judge' needs `vlm`", hint="Its backend, model and base_url, as in [prelabel].")
    template = TEMPLATE
    if settings.template:
        try:
            template = Path(settings.template).read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"cannot read it ({error.strerror})", item=settings.template) from error
        if "{prompt}" not in template:
            raise ConfigError("the question has no {prompt}", item=settings.template)
    backend = make_backend(settings.vlm)
    return Judge(
        backend,
        template=template,
        concurrency=settings.vlm.concurrency,
        deadline=None if backend.local else settings.vlm.deadline,
    )
