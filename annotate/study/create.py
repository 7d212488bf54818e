"""Making a study: which images are compared, from images of the store or from tables that name them.

An arm is a name and where its images come from. Arms are joined by item: a prompt and a sample, or what a table's
column `item` says. An item that an arm has no image for is a refusal that the report counts, never a pair left out
unsaid.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

from schemas.records import ImageRecord
from schemas.study import Study, StudyProtocol, StudyRefusal, StudyTrial, TrialKind
from sdg_data.errors import ConfigError, InputError
from sdg_data.ids import content_id
from sdg_data.ingest.tables import strict_rows
from sdg_data.store import images, prompts, studies
from sdg_data.store.connection import Store, Tx

MODEL = "model:"
NO_IMAGE = "no image"


@dataclass
class StudyArm:
    """What an arm has: item -> image id, item -> why there is none, item -> an image shown beside for reference."""

    images: dict[str, str] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StudyPlan:
    """A study that can be stored."""

    study: Study
    trials: tuple[StudyTrial, ...]
    refusals: tuple[StudyRefusal, ...]


def plan(
    tx: Tx,
    name: str,
    sources: Mapping[str, str],
    *,
    protocol: StudyProtocol,
    against: str | None = None,
    repeats: float = 0.1,
    identical: float = 0.05,
    limit: int | None = None,
    seed: int = 0,
) -> StudyPlan:
    """Decide what a study asks.

    Args:
        tx: A transaction on the store.
        name: The study's.
        sources: Arm -> `model:NAME` (the store's images of a model), or a table (CSV, TSV, JSON lines, Parquet, Arrow)
            with the column `image_id`, and optionally `item`, `refused` (why there is no image) and `reference`
            (another image's id).
        protocol: Two images at a time, or all arms ranked at once.
        against: With two images at a time: only pairs with this arm; None: every pair.
        repeats: How many trials are asked again, as a share of all.
        identical: How many trials show one image twice, as a share of all.
        limit: At most so many items, chosen by the seed.
        seed: Of choices and order.

    Returns:
        The study, its trials and what is missing.

    Raises:
        ConfigError: An arm or a share is wrong, or there is nothing to compare.
        InputError: A table cannot be used.
    """
    if len(sources) < 2:
        raise ConfigError("a study compares two arms or more", item=name, hint="--arm NAME=model:MODEL, for each arm")
    if against is not None and against not in sources:
        raise ConfigError(f"there is no arm {against!r}", item="--against", hint=f"It is one of {', '.join(sources)}.")
    if not (0 <= repeats <= 1 and 0 <= identical <= 1):
        raise ConfigError("the shares of repeated and identical trials are from 0 to 1", item=name)
    arms = {arm: _arm(tx, arm, source) for arm, source in sources.items()}
    rng = random.Random(f"{name}\0{seed}")
    items = sorted({item for arm in arms.values() for item in (*arm.images, *arm.refusals)})
    rng.shuffle(items)
    items = items if limit is None else items[:limit]
    study = Study(
        id=content_id("study", name),
        name=name,
        protocol=protocol,
        arms=tuple(sources),
        seed=seed,
        created_at=datetime.now(UTC),
    )
    records = images.by_ids(tx, sorted({image for arm in arms.values() for image in arm.images.values()}))
    trials = _Trials(study, records, arms, _texts(tx, records))
    judged = [trials.judged(item, names) for item in items for names in _groups(arms, item, protocol, against)]
    if not judged:
        raise ConfigError(
            "no item has an image of two arms", item=name, hint="Arms are joined by prompt and sample, or by `item`."
        )
    again = rng.sample(judged, round(repeats * len(judged)))
    twins = rng.sample(judged, min(len(judged), round(identical * len(judged))))
    asked = [
        *judged,
        *(trials.repeated(trial) for trial in again),
        *(trials.identical(trial, rng.choice(trial.arms)) for trial in twins),
    ]
    refusals = [
        StudyRefusal(study_id=study.id, item=item, arm=arm, reason=arms[arm].refusals.get(item, NO_IMAGE))
        for item in items
        for arm in arms
        if item not in arms[arm].images
    ]
    numbered = tuple(trial.model_copy(update={"number": number}) for number, trial in enumerate(asked))
    return StudyPlan(study, numbered, tuple(refusals))


def create(store: Store, planned: StudyPlan) -> int:
    """Store a study. Running the same again changes nothing.

    Returns:
        How many trials are new.

    Raises:
        ConfigError: There is another study of that name.
    """
    with store.write() as tx:
        known = studies.named(tx, planned.study.name)
        if known is not None and {trial.id for trial in studies.trials(tx, known.id)} != {
            trial.id for trial in planned.trials
        }:
            raise ConfigError(
                "there is a study of this name that asks something else",
                item=planned.study.name,
                hint="A study does not change once it is made: choose another name.",
            )
        return studies.insert(tx, planned.study, planned.trials, planned.refusals)


@dataclass(frozen=True)
class _Trials:
    """Makes the trials of a study."""

    study: Study
    records: Mapping[str, ImageRecord]
    arms: Mapping[str, StudyArm]
    texts: Mapping[str, str]

    def judged(self, item: str, names: Sequence[str]) -> StudyTrial:
        chosen = [self.arms[name].images[item] for name in names]
        references = (arm.references.get(item) for arm in self.arms.values())
        return self._trial(
            TrialKind.JUDGED, item, names, chosen, next((image for image in references if image is not None), None)
        )

    def repeated(self, trial: StudyTrial) -> StudyTrial:
        return self._trial(TrialKind.REPEATED, trial.item, trial.arms, trial.images, trial.reference, repeats=trial.id)

    def identical(self, trial: StudyTrial, arm: str) -> StudyTrial:
        image = trial.images[trial.arms.index(arm)]
        count = len(trial.arms)
        return self._trial(TrialKind.IDENTICAL, trial.item, [arm] * count, [image] * count, trial.reference)

    def _trial(
        self,
        kind: TrialKind,
        item: str,
        names: Sequence[str],
        chosen: Sequence[str],
        reference: str | None,
        repeats: str | None = None,
    ) -> StudyTrial:
        return StudyTrial(
            id=content_id("trial", self.study.id, self.study.seed, kind, item, *names, *chosen),
            study_id=self.study.id,
            number=0,
            kind=kind,
            item=item,
            prompt=self.texts[self.records[chosen[0]].prompt_id],
            reference=reference,
            arms=tuple(names),
            images=tuple(chosen),
            repeats=repeats,
        )


def _groups(
    arms: Mapping[str, StudyArm], item: str, protocol: StudyProtocol, against: str | None
) -> Iterator[tuple[str, ...]]:
    """The arms that a trial of the item compares, for each of its trials."""
    present = [name for name, arm in arms.items() if item in arm.images]
    if protocol is StudyProtocol.RANKS:
        if len(present) > 1:
            yield tuple(present)
        return
    yield from (pair for pair in combinations(present, 2) if against is None or against in pair)


def _arm(tx: Tx, name: str, source: str) -> StudyArm:
    if source.startswith(MODEL):
        return _model_arm(tx, name, source.removeprefix(MODEL))
    path = Path(source)
    if not path.is_file():
        raise ConfigError(
            f"{source!r} is no file", item=f"--arm {name}", hint=f"Write {MODEL}NAME for the images of a model."
        )
    return _table_arm(tx, name, path)


def _model_arm(tx: Tx, name: str, model: str) -> StudyArm:
    arm = StudyArm()
    for record in images.page(tx, models=[model]):
        item = f"{record.prompt_id}/{record.sample}"
        if item in arm.images:
            raise ConfigError(
                f"model {model!r} has several images of prompt {record.prompt_id}, sample {record.sample} "
                "(other revisions or settings)",
                item=f"--arm {name}",
                hint="Name the images that you mean in a table.",
            )
        arm.images[item] = record.id
    if not arm.images:
        raise ConfigError(
            f"the store has no image of model {model!r}", item=f"--arm {name}", hint="`sdg images list` names them."
        )
    return arm


def _table_arm(tx: Tx, name: str, path: Path) -> StudyArm:
    arm = StudyArm()
    rows = [
        (line, {key: str(value) for key, value in cells.items() if value not in (None, "")})
        for line, cells in strict_rows(path)
    ]
    wanted = {cells[key] for _, cells in rows for key in ("image_id", "reference") if key in cells}
    records = images.by_ids(tx, sorted(wanted))
    for line, cells in rows:
        place = f"{path}, line {line}"
        for key in ("image_id", "reference"):
            if key in cells and cells[key] not in records:
                raise InputError(f"the store has no image {cells[key]!r}", item=place)
        record = records.get(cells.get("image_id", ""))
        if record is None and "refused" not in cells:
            raise InputError("a row names an image_id, or says in `refused` why there is none", item=place)
        item = cells.get("item") or (None if record is None else f"{record.prompt_id}/{record.sample}")
        if item is None:
            raise InputError("a row without an image needs the column `item`", item=place)
        if item in arm.images or item in arm.refusals:
            raise InputError(f"item {item!r} is there twice", item=place)
        if record is None:
            arm.refusals[item] = cells["refused"]
        else:
            arm.images[item] = record.id
        if "reference" in cells:
            arm.references[item] = cells["reference"]
    if not rows:
        raise InputError(f"the table of arm {name!r} is empty", item=str(path))
    return arm


def _texts(tx: Tx, records: Mapping[str, ImageRecord]) -> dict[str, str]:
    wanted = {record.prompt_id for record in records.values()}
    return {prompt.id: prompt.text for prompt in prompts.by_ids(tx, sorted(wanted)).values()}
