"""Which rewards and which detector a training uses, and making them.

A reward is a module with a function that makes it from `RewardSettings`, and one line in `REWARDS`; a detector likewise
in `DETECTORS`. Modules are named by text and imported when they are used, because some need torch.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer

from sdg_data.errors import ConfigError
from sdg_data.settings import VlmSettings
from sdg_data.web_addresses import without_secrets
from trainers.common.config import Positive, TrainingSettings
from trainers.rewards.contract import BaseReward, Detector
from trainers.rewards.facts import facts_of
from trainers.rewards.weighted import WeightedSum

REWARDS: Final[dict[str, str]] = {
    "clip": "trainers.rewards.local_models:make_local_reward",
    "pick": "trainers.rewards.local_models:make_local_reward",
    "scorer": "trainers.rewards.local_models:make_local_reward",
    "judge": "trainers.rewards.judge:make_judge",
    "pairwise": "trainers.rewards.pair_judge:make_pairwise",
    "pairwise-think": "trainers.rewards.pair_judge:make_pairwise",
    "pairwise-flex": "trainers.rewards.pair_judge:make_pairwise",
    "wire": "trainers.rewards.wire_reward:make_wire",
    "flow-grpo": "trainers.rewards.flow_grpo_bridge:make_flow_grpo",
    "doctor": "trainers.doctor.use:make_doctor_reward",
    "palette": "trainers.rewards.mini:make_palette",
    "oracle": "trainers.rewards.mini:make_oracle",
}
"""Kind of base reward -> `module:function` that makes it from `RewardSettings`."""
DETECTORS: Final[dict[str, str]] = {
    "vlm": "trainers.rewards.detectors:make_vlm_detector",
    "doctor": "trainers.doctor.use:make_doctor_detector",
    "doctor-heat": "trainers.doctor.use:make_heat_detector",
    "doctor-heat-40": "trainers.doctor.use:make_heat_detector",
    "oracle": "trainers.rewards.mini:make_oracle_detector",
}
"""Kind of detector -> `module:function` that makes it from `DetectorSettings`."""


class RewardServer(TrainingSettings):
    """A server of rewards, of the kinds wire and flow-grpo (docs/rewards.md)."""

    url: str
    """Its address, such as http://127.0.0.1:9191; several servers of the same reward as a list, or with spaces
    between."""
    reward: str = ""
    """The reward's name at the server, as its /rewards calls it."""
    metric: str = ""
    """Which number of the reward counts, where there are several; empty: the one of the reward's name, or the only
    one. Of flow-grpo the key of the list; empty: outputs or scores."""
    deadline: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 120.0
    """Seconds for a request with its tries."""
    concurrency: Positive = 4
    """Requests under way at once at each server."""
    api_key_env: str = ""
    """The environment variable with the token that the server wants; empty: it wants none."""
    accept_pickle: bool = False
    """Of flow-grpo: consent to a server that speaks pickles, on this machine."""

    @field_validator("url", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        """A list of addresses as one text."""
        return " ".join(value) if isinstance(value, list | tuple) and all(isinstance(v, str) for v in value) else value

    def urls(self) -> list[str]:
        """The addresses, without a slash at the end."""
        return [address.rstrip("/") for address in self.url.split()]

    def label(self) -> str:
        """The reward and its servers for the log, without passwords."""
        return f"{self.reward or 'reward'} at {without_secrets(self.url)}"


class RewardSettings(TrainingSettings):
    """Settings of one base reward, and its weight in the sum of all."""

    kind: str
    """clip, pick or scorer: a transformers `model` in this process. judge: an OpenAI-compatible server, `vlm`.
    pairwise, pairwise-think, pairwise-flex: such a server that compares two images. wire: a reward server that speaks
    /score; flow-grpo: one that speaks pickles. doctor: the mean score of a trained ImageDoctor, `model`. palette or
    oracle: the mini world's."""
    weight: Annotated[float, Field(allow_inf_nan=False)] = 1.0
    """In the sum of the base rewards."""
    model: str = ""
    """Of clip, pick, scorer and doctor: a folder or a hub repository."""
    processor: str = ""
    """The processor's repository, where it is not the model's."""
    revision: str = ""
    """The model's revision; empty: the newest."""
    device: str = "auto"
    """auto: a GPU where there is one."""
    batch_size: Positive = 16
    """Images scored at once."""
    vlm: VlmSettings | None = None
    """The judge's model, with the keys of `[prelabel]`."""
    template: str = ""
    """A file with the judge's question, `{prompt}` where the caption goes; empty: ours."""
    noise: Annotated[float, Field(ge=0)] = 0.0
    """Standard deviation of the oracle's noise."""
    server: RewardServer | None = None
    """Of wire and flow-grpo: where it is, and which reward."""

    @model_serializer(mode="wrap")
    def _without_what_is_newer(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without `server` where there is none, so that names made of settings from before it stay the same."""
        values: dict[str, Any] = write(self)
        if values.get("server") is None:
            values.pop("server", None)
        return values

    @property
    def pairwise(self) -> bool:
        """Whether it compares images with each other instead of scoring each."""
        return self.kind.startswith("pairwise")

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        return _checked_kind(kind, REWARDS)


class DetectorSettings(TrainingSettings):
    """Settings of the detector whose boxes make the reward maps."""

    kind: str = "vlm"
    """vlm: the model that `vlm` names. doctor: a trained ImageDoctor, `vlm.model`, the regions of its maps as boxes;
    doctor-heat (8 cells a side) and doctor-heat-40: its maps cell by cell, DenseFlow's H. oracle: the mini world's, for
    tests and measuring."""
    vlm: VlmSettings = VlmSettings()
    """Backend (mini, transformers, openai) and model, with the keys of `[prelabel]`."""

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        return _checked_kind(kind, DETECTORS)


def check_address(settings: VlmSettings, what: str) -> None:
    """Check that a model behind a server has an address, before anything is loaded or sent.

    A name that only somebody's own server knows must not be asked of a hosted one, which is what no address means.

    Args:
        settings: the model's.
        what: who it is, for the message.

    Raises:
        ConfigError: it has none, and is no model of the hosted servers.
    """
    if settings.backend == "openai" and not settings.base_url and not _HOSTED.match(settings.model):
        raise ConfigError(
            f"the {what} has no address: its images would go to api.openai.com",
            item=settings.model,
            hint="Set base_url beside its model, such as http://127.0.0.1:8000/v1.",
        )


def servers(
    base: tuple[RewardSettings, ...],
    guard: RewardSettings | None,
    detector: DetectorSettings,
    artifact_guard: DetectorSettings | None = None,
) -> dict[str, str]:
    """The addresses that the rewards ask, each with who asks it.

    Returns:
        "judge MODEL", "guard MODEL", "detector MODEL", "artifact guard MODEL" or "reward NAME" -> address, without
        credentials. One that has none raises ConfigError.
    """
    asked = [("judge", part.vlm) for part in base] + [("guard", guard.vlm if guard else None)]
    asked.append(("detector", detector.vlm if detector.kind == "vlm" else None))
    if artifact_guard is not None and artifact_guard.kind == "vlm":
        asked.append(("artifact guard", artifact_guard.vlm))
    addresses = {}
    for what, vlm in asked:
        if vlm is not None and vlm.backend == "openai":
            check_address(vlm, what)
            addresses[f"{what} {vlm.model}"] = str(without_secrets(vlm.base_url)) or "https://api.openai.com/v1"
    for what, part in [*(("reward", part) for part in base), *([("guard", guard)] if guard else [])]:
        if part.server is not None:
            addresses[f"{what} {part.server.reward or part.kind}"] = str(without_secrets(part.server.url))
    return addresses


def described(settings: RewardSettings) -> dict[str, Any]:
    """What a reward's figures mean, for logs: its scale, usual range, version and source, as far as they are known.

    Args:
        settings: the reward's.

    Returns:
        `reward`, `weight` and `by` (the model or server), and what `trainers.rewards.facts` knows of it.
    """
    name = settings.server.reward if settings.server is not None else settings.kind
    by = settings.server.url if settings.server is not None else settings.vlm.model if settings.vlm else settings.model
    facts = facts_of(name)
    values = {"reward": name or settings.kind, "weight": settings.weight, "by": without_secrets(by)}
    if facts is None:
        return {**values, "scale": "its own, not known here"}
    usually = [facts.low, facts.high]
    return {**values, "scale": facts.scale, "usually": usually, "version": facts.version, "source": facts.source}


def make_reward(settings: tuple[RewardSettings, ...]) -> BaseReward:
    """The weighted sum of base rewards.

    Args:
        settings: one for each. What a reward's own maker raises comes through.

    Returns:
        The sum, with the rewards' values as parts.

    Raises:
        ConfigError: no reward is named.
    """
    if not settings:
        raise ConfigError("no base reward is named", hint='--set \'rewards.base=[{"kind": "clip", "model": "..."}]\'')
    return WeightedSum([(make_base(part), part.weight) for part in settings])


def make_base(settings: RewardSettings) -> BaseReward:
    """The base reward of the settings' kind; what its maker raises comes through."""
    reward: BaseReward = _maker(REWARDS[settings.kind])(settings)
    return reward


def make_detector(settings: DetectorSettings) -> Detector:
    """The detector of the settings' kind; what its maker raises comes through."""
    detector: Detector = _maker(DETECTORS[settings.kind])(settings)
    return detector


_HOSTED: Final = re.compile(r"(gpt-|chatgpt-|o[1-9])")


def _checked_kind(kind: str, registry: Mapping[str, str]) -> str:
    if kind not in registry:
        known = facts_of(kind)
        if known is not None and registry is REWARDS and known.name not in registry:
            server = f'{{"reward": "{known.name}", "url": "http://127.0.0.1:9191"}}'
            raise ValueError(
                f"{kind!r} is served, not loaded here: `sdg serve rewards --reward {known.name}`, then "
                f'{{"kind": "wire", "server": {server}}}'
            )
        raise ValueError(f"there is no {kind!r}; there are {', '.join(registry)}")
    return kind


def _maker(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
