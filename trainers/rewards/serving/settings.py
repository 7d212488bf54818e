"""Which rewards a server has: a file of TOML with a table for each, or the names of built-in ones.

[pickscore]                                # a built-in name needs nothing else

[hpsv3]
python = ".venv-rewards/bin/python"        # the interpreter of an environment of its own
gpu = "1"
batch_size = 4

[sharpness]
scorer = "my_scorer.py:make"               # a file, or a module that the interpreter knows
options = {threshold = 3}
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from sdg_data.errors import ConfigError, InputError
from trainers.common.config import AboveZero, Positive, TrainingSettings
from trainers.rewards.facts import RewardFacts, facts_of
from trainers.rewards.serving.scorers import BUILT_IN


class ServedReward(TrainingSettings):
    """Settings of one reward of a server."""

    name: str
    """What clients call it."""
    scorer: str = ""
    """`module:function` or `FILE.py:function`; empty: the built-in one of this name."""
    options: dict[str, Any] = Field(default_factory=dict)
    """What the scorer is made from, on top of the built-in ones."""
    python: str = ""
    """The interpreter of another environment; empty: this one."""
    gpu: str = ""
    """Numbers of the GPUs that it sees, by comma; empty: all; "none": none."""
    batch_size: Positive = 8
    """Images that it scores at once."""
    timeout: AboveZero = 120.0
    """Seconds for a batch; after that the process is ended and started again."""
    start_timeout: AboveZero = 1800.0
    """Seconds until it has loaded."""
    memory_gib: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """GiB of memory (not the GPU's) beyond which its process is ended and started again; 0: no bound."""
    restarts: Annotated[int, Field(ge=0)] = 3
    """How often in a row it is started again without an answer in between."""

    @property
    def facts(self) -> RewardFacts | None:
        """What its figures mean, where it is a built-in reward."""
        return facts_of(self.name.removeprefix("imscore-")) if self.name in BUILT_IN and not self.scorer else None

    def task(self) -> dict[str, Any]:
        """What the process is told.

        Returns:
            The scorer and its options, as JSON.

        Raises:
            ConfigError: no scorer, and no built-in reward of this name.
        """
        if self.scorer:
            return {"scorer": self.scorer, "options": self.options}
        if self.name not in BUILT_IN:
            raise ConfigError(
                "is no built-in reward, and has no scorer", item=self.name, hint=f"There are {', '.join(BUILT_IN)}."
            )
        scorer, options = BUILT_IN[self.name]
        return {"scorer": scorer, "options": {**options, **self.options}}

    @property
    def interpreter(self) -> str:
        """The interpreter of its process."""
        return self.python or sys.executable


def read_rewards(names: Sequence[str], file: Path | None) -> list[ServedReward]:
    """The rewards of a server.

    Args:
        names: of rewards; with a file, which of its tables.
        file: a file of TOML.

    Returns:
        The settings, those of relative paths made absolute.

    Raises:
        ConfigError: no reward is named, a name that is nowhere, or a table that cannot be.
        InputError: the file cannot be read.
    """
    tables: dict[str, Any] = {}
    if file is not None:
        try:
            tables = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InputError(f"cannot read it ({error})", item=str(file)) from error
    rewards = []
    for name in dict.fromkeys(names or tables):
        table = tables.get(name, {})
        if not isinstance(table, dict):
            raise ConfigError("is no table", item=f"{file}: {name}", hint=f"[{name}] on a line, its keys below.")
        try:
            reward = ServedReward.model_validate({"name": name, **table})
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", item=name) from error
        if file is not None:
            reward = reward.model_copy(update=_absolute(reward, file.absolute().parent))
        reward.task()
        if reward.python and not Path(reward.interpreter).is_file():
            raise ConfigError(
                "there is no such interpreter", item=f"{name}: {reward.python}", hint="python -m venv FOLDER makes one."
            )
        rewards.append(reward)
    if not rewards:
        raise ConfigError("no reward is named", hint=f"--reward NAME, of {', '.join(BUILT_IN)}; or --file.")
    return rewards


def _absolute(reward: ServedReward, folder: Path) -> dict[str, str]:
    """Paths of a file as seen from its folder."""
    changes = {}
    if reward.python:
        changes["python"] = str(folder / reward.python)
    module, _, name = reward.scorer.rpartition(":")
    if module.endswith(".py"):
        changes["scorer"] = f"{folder / module}:{name}"
    return changes
