"""The folder of a training: whose it is, its log, and its checkpoints.

    run.json             configuration, model and data; a training with other values needs another folder
    log.jsonl            one line for each step (or rollout) that was logged
    checkpoints/
    samples/             pictures
    tensorboard/
    model/               the trained weights; there when the training has ended

What differs between the trainings (checkpoints, further files) is in `trainers.boxflow.run_folder` and
`trainers.detector.run_folder`. A `run.json` from before configurations had groups is read as well, and is written anew
in groups when its training goes on.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Final

from pydantic import BaseModel, ValidationError

from sdg_data.errors import ConfigError, InputError
from sdg_data.full_disk import HINT, is_full
from sdg_data.locks import stage_lock
from sdg_data.processes import rank
from sdg_data.web_addresses import without_secrets
from trainers.common.config import ConfigGroup, grouped, recorded
from trainers.files import replace_file

_HOW_ASKED: Final = frozenset({"concurrency", "deadline", "price_in", "price_out"})
"""Settings of a model that is asked, at any depth of a configuration, by which its answers do not change."""


class RunFolder:
    """The folder of a training: the paths in it, and what has been written there so far."""

    counter: ClassVar[str]
    """The key of log entries that counts steps or rollouts."""
    compared: ClassVar[tuple[str, ...]]
    """The parts of `run.json` by which two trainings are told apart, besides `config`."""
    may_change: ClassVar[frozenset[str]]
    """Dotted keys of the configuration that change nothing about what was learned so far."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.run = root / "run.json"
        self.log = root / "log.jsonl"
        self.checkpoints = root / "checkpoints"
        self.samples = root / "samples"
        self.tensorboard = root / "tensorboard"
        self.model = root / "model"

    def claim(self, note: dict[str, Any], kind: type[BaseModel]) -> None:
        """Make the folder that of a training, or check that it is already.

        Args:
            note: what `run.json` says: `config` as JSON, and the parts in `compared`.
            kind: the class of the configuration.

        Raises:
            InputError: the folder cannot be written to.
            ConfigError: it holds another training; the message names what is different.
        """
        try:
            for folder in (self.root, self.checkpoints, self.samples):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot write there ({error.strerror})", item=str(self.root)) from error
        note = without_secrets(note)
        if self.run.is_file():
            before = without_secrets(json.loads(self.run.read_text(encoding="utf-8")))
            different = list(self._differences(before, note, kind))
            if different:
                raise ConfigError(
                    f"the folder holds another run; different: {', '.join(different)}",
                    item=str(self.root),
                    hint="Go on with the run's own values (`config.NAME` by --set NAME=VALUE), name another --out, or "
                    "delete this folder.",
                )
        write_json(self.run, note)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder for the length of the block: two trainings in one would delete each other's checkpoints.

        Of several processes that train together the first one holds it for all. Where another training holds it,
        StoreLocked comes through. A disk that fills ends the block with an InputError.
        """
        with contextlib.nullcontext() if rank() else stage_lock(self.root, "training", wait=0), self._writing():
            yield

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn what libraries raise on a full disk into an InputError; checkpoints written before are still there."""
        from safetensors import SafetensorError

        try:
            yield
        except (OSError, RuntimeError, SafetensorError) as error:
            if not is_full(error):
                raise
            raise InputError(
                f"cannot write there ({str(error).splitlines()[0]})", item=str(self.root), hint=HINT
            ) from error

    def trim_log(self, done: int) -> None:
        """Forget what was logged after `done` steps (or rollouts): it will be logged again."""
        if not self.log.is_file():
            return
        kept = []
        for line in self.log.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # a line that was cut off
            if entry[self.counter] <= done:
                kept.append(line)
        replace_file(self.log, "".join(f"{line}\n" for line in kept))

    def append_log(self, entry: dict[str, Any]) -> None:
        """Add an entry to `log.jsonl`, as a line of JSON."""
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def _differences(self, before: dict[str, Any], now: dict[str, Any], kind: type[BaseModel]) -> Iterator[str]:
        for part in ("config", *self.compared):
            old, new = before.get(part) or {}, now.get(part) or {}
            if part == "config":
                old, new = (_without_how_asked(_by_field(kind, _filled(kind, value))) for value in (old, new))
            for name in sorted({*old, *new} - self.may_change):
                yield from _different(f"{part}.{name}", old.get(name), new.get(name))


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write indented JSON in one step: a reader sees the old file or the new one."""
    replace_file(path, json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n")


def _different(name: str, old: Any, new: Any) -> Iterator[str]:
    """What differs in a value, of tables by the keys that both have: a name that `--set` takes, with both values."""
    if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
        for key in sorted(old):
            yield from _different(f"{name}.{key}", old[key], new[key])
    elif old != new:
        yield f"{name} ({old!r}, now {new!r})"


def _without_how_asked(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_how_asked(inner) for key, inner in value.items() if key not in _HOW_ASKED}
    if isinstance(value, list | tuple):
        return [_without_how_asked(inner) for inner in value]
    return value


def _filled(kind: type[BaseModel], config: dict[str, Any]) -> dict[str, Any]:
    """A configuration with what settings that are newer than it mean for it; as it is where it cannot be read."""
    try:
        return kind.model_validate(recorded(kind, grouped(kind, config))).model_dump(mode="json")
    except ValidationError:
        return config


def _by_field(kind: type[BaseModel], config: dict[str, Any]) -> dict[str, Any]:
    """Dotted key -> value of a configuration's fields, whether its JSON has groups or is flat."""
    fields: dict[str, Any] = {}
    for name, value in grouped(kind, config).items():
        info = kind.model_fields.get(name)
        annotation = None if info is None else info.annotation
        if isinstance(annotation, type) and issubclass(annotation, ConfigGroup) and isinstance(value, dict):
            fields |= {f"{name}.{field}": inner for field, inner in value.items()}
        else:
            fields[name] = value
    return fields
