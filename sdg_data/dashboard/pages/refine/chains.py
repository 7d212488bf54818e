"""What the page Refine shows: runs, their images with every candidate, and the rows of its figures.

The figures of a run are those of `sdg refine report` (`sdg_data.metrics.refinement`).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from schemas.defect import Defect
from schemas.records import ImageRecord
from schemas.refinement import Edit, Refinement, RefinementRun, RefinementState
from sdg_data.blobs import Blobs
from sdg_data.dashboard.context import PageContext
from sdg_data.dashboard.page import Parameters, Rows
from sdg_data.errors import ConfigError
from sdg_data.metrics.refinement import (
    RunRecords,
    burden_of,
    burdens_of,
    oracle_defects,
    read_run,
    report,
    table_defects,
)
from sdg_data.metrics.store_sources import Filter, parse_source, read_source
from sdg_data.mini.world import parse_prompt
from sdg_data.store import refinements
from sdg_data.store.connection import Tx
from sdg_data.store.rows import grouped, select

RESAMPLES = 500
SHORT_ID = 12
ORACLE = "oracle"
LOOKED_AT_ONCE = 50
"""The oracle looks at more pictures while the page waits."""
REMEMBERED = 65_536
"""Burdens by the oracle that are kept."""
WORDS: Mapping[str, str] = {
    "burden-inside": "the burden inside the mask did not fall enough",
    "burden-left": "too much burden is left inside the mask",
    "burden-outside": "the burden outside of the mask rose",
    "pixels-outside": "pixels outside of the mask changed",
    "seam": "the ring around the mask no longer looks as it did",
    "rim": "the mask's rim changed colour",
    "reward": "the base reward fell",
    "text": "new text appeared",
    "new-kind": "a defect of a kind that was not there appeared",
    "no-detection": "the detector gave no answer",
    "no-reward": "the base reward gave no answer",
    "refused": "the editor's server refused",
}
"""By the code of a reason, why an edit was not accepted; an editor's other failures are called by their codes."""


@dataclass(frozen=True)
class RefinedImage:
    """A source image, what became of it, and its candidates in the order in which they were made."""

    refinement: Refinement
    edits: Sequence[Edit]

    def chosen_edit(self, number: str) -> Edit | None:
        """The candidate of a number in an address; without one, the last that was accepted, else the last picture."""
        pictures = [edit for edit in self.edits if edit.image_id is not None]
        asked = [edit for edit in pictures if str(edit.number) == number]
        result = [edit for edit in pictures if edit.image_id == self.refinement.result_id]
        return next(iter(asked or result or pictures[-1:]), None)

    def seen_in(self, image_id: str) -> Sequence[Defect] | None:
        """What the run's detector said of the source or of a candidate; None where it gave no answer."""
        if image_id == self.refinement.image_id:
            return self.refinement.before
        return next((edit.found for edit in self.edits if edit.image_id == image_id), None)


def run_name(run: RefinementRun) -> str:
    """A run as the page calls it: the beginning of its id, its arm and its editor."""
    return f"{run.id[:SHORT_ID]} · {run.arm} · {_settings(run).get('editor', '?')}"


def _settings(run: RefinementRun) -> dict[str, Any]:
    settings = json.loads(run.settings)
    return settings if isinstance(settings, dict) else {}


def all_runs(tx: Tx) -> list[RefinementRun]:
    """The runs of a snapshot, the last one first."""
    return refinements.runs(tx)[::-1]


def asked_run(context: PageContext, tx: Tx, parameters: Parameters) -> RunRecords | None:
    """The run that an address names, the last one where it names none; None where nothing was refined.

    Raises:
        InputError: There is no such run.
    """
    asked = parameters.get("run", "")
    if not asked and not all_runs(tx):
        return None
    return _records(context, tx, asked or None)


def _records(context: PageContext, tx: Tx, run_id: str | None) -> RunRecords:
    return context.cached(tx, ("refine", run_id), lambda: read_run(tx, run_id))


def refined_images(records: RunRecords, parameters: Parameters) -> list[RefinedImage]:
    """The images of a run that an address asks for: those that were refined first.

    `state` is the image's; `verdict` and `reason` are of one and the same candidate.
    """
    edits = grouped((edit.refinement_id, edit) for edit in records.edits)
    verdict, reason = parameters.get("verdict", ""), parameters.get("reason", "")
    matching = []
    for refinement in records.refinements:
        own = edits.get(refinement.id, [])
        if parameters.get("state") and refinement.state.value != parameters["state"]:
            continue
        if (verdict or reason) and not any(_fits(edit, verdict, reason) for edit in own):
            continue
        matching.append(RefinedImage(refinement, own))
    return sorted(matching, key=lambda image: (_ORDER[image.refinement.state], image.refinement.image_id))


_ORDER = {state: place for place, state in enumerate(RefinementState)}


def _fits(edit: Edit, verdict: str, reason: str) -> bool:
    return (not verdict or edit.verdict.value == verdict) and (not reason or reason in edit.reasons)


def run_report(context: PageContext, tx: Tx, run_id: str, judge: str) -> dict[str, Any]:
    """The document of `sdg refine report`, by a judge that no step saw where one is named; remembered.

    Raises:
        ConfigError: The judge is no source of the store, or an oracle of another world.
    """

    def make() -> dict[str, Any]:
        records = _records(context, tx, run_id)
        return report(records, _burdens(context, tx, judge, records), resamples=RESAMPLES)

    return context.cached(tx, ("refine report", run_id, judge), make)


def _burdens(context: PageContext, tx: Tx, judge: str, records: RunRecords) -> dict[str, float] | None:
    if not judge:
        return None
    source = parse_source(judge)
    if source is None:
        raise ConfigError("this is no source of the store", item=judge[:80], hint="`sdg eval sources` lists them.")
    if source.kind != ORACLE:
        return burdens_of(table_defects(read_source(tx, source, Filter()), records.images))
    texts = prompt_texts(tx, records.images.values())
    return {image.id: _oracle_burden(context.blobs, image, texts[image.prompt_id]) for image in records.images.values()}


@lru_cache(maxsize=REMEMBERED)
def _oracle_burden(blobs: Blobs, image: ImageRecord, prompt: str) -> float:
    """The burden that the oracle sees; a picture does not change, so it is looked at once, whatever the snapshot."""
    return burdens_of(oracle_defects(blobs, [image], {image.prompt_id: prompt}))[image.id]


def waited(context: PageContext, tx: Tx, judge: str) -> float | None:
    """For how many seconds the oracle is looking at the runs' pictures in another thread, which this begins.

    Args:
        context: The page's.
        tx: The snapshot.
        judge: Who judges.

    Returns:
        None for another judge, where its reports are remembered, and where there are few pictures.

    Raises:
        SdgError: It cannot judge them, or too many others are being computed.
    """
    if judge != ORACLE:
        return None
    runs = [run.id for run in all_runs(tx)]
    if all(context.remembers(tx, ("refine report", run, judge)) for run in runs):
        return None
    if sum(len(_records(context, tx, run).images) for run in runs) <= LOOKED_AT_ONCE:
        return None

    def look(cursor: Tx) -> None:
        for run in runs:
            run_report(context, cursor, run, judge)

    return context.waited(tx, ("refine", judge), look)


def prepare(context: PageContext, tx: Tx) -> None:
    """Read every run, and measure it by its own detector."""
    for run in all_runs(tx):
        run_report(context, tx, run.id, "")


def judges(tx: Tx, records: RunRecords | None) -> list[str]:
    """Who may judge a run: the sources of the store and, where images are of the mini world, its oracle."""
    listed = [row["source"] for row in select(tx, "SELECT source FROM dash_sources")]
    if records is None or not records.images:
        return listed
    some = next(iter(records.images.values()))
    try:
        parse_prompt(prompt_texts(tx, [some])[some.prompt_id])
    except ValueError:
        return listed
    return [*listed, ORACLE]


def prompt_texts(tx: Tx, images: Iterable[ImageRecord]) -> dict[str, str]:
    """The prompts of images, by the prompts' ids."""
    ids = sorted({image.prompt_id for image in images})
    return dict(tx.execute("SELECT id, text FROM prompts WHERE id IN (SELECT unnest(?::VARCHAR[]))", [ids]).fetchall())


def run_rows(context: PageContext, tx: Tx, parameters: Parameters) -> Rows:
    """A row for each run: the arm, what became of its images, and burdens before and after with intervals.

    With `judge`, one that no step of the run asked, its burdens of accepted edits too.
    """
    judge, rows = parameters.get("judge", ""), []
    for run in all_runs(tx):
        facts = run_report(context, tx, run.id, judge)
        row: dict[str, Any] = {
            "run": run.id,
            "arm": run.arm,
            "editor": _settings(run).get("editor"),
            "images": facts["images"],
            "refined": facts["states"].get("refined", 0),
            "edits": facts["edits"],
            "accepted": facts["verdicts"].get("accepted", 0),
            **_fall_cells("", facts["detector"]),
        }
        if judge:
            accepted = facts["judged"]["accepted"]
            row |= {"judged edits": accepted["count"], **_fall_cells("judged ", accepted)}
            row["worse by the judge"] = accepted["false_acceptances"] if accepted["count"] else None
        rows.append(row)
    return rows


def _fall_cells(prefix: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    low, high = facts["interval"] or (None, None)
    names = ("burden before", "burden after", "fall", "low", "high")
    values = (facts["before"], facts["after"], facts["fall"], low, high)
    return {f"{prefix}{name}": value for name, value in zip(names, values, strict=True)}


def count_rows(context: PageContext, tx: Tx, parameters: Parameters) -> Rows:
    """What became of the images and candidates of a run, and why candidates were not accepted."""
    records = asked_run(context, tx, parameters)
    if records is None:
        return []
    facts = run_report(context, tx, records.run.id, "")
    return [
        {"of": group, "name": name, "number": number, "in words": WORDS.get(name, "") if group == "reason" else ""}
        for group, counts in (("state", "states"), ("verdict", "verdicts"), ("reason", "reasons"))
        for name, number in facts[counts].items()
    ]


def edit_rows(context: PageContext, tx: Tx, parameters: Parameters) -> Rows:
    """A row for each candidate of the images that an address asks for, with everything that was measured."""
    records = asked_run(context, tx, parameters)
    if records is None:
        return []
    return [
        {
            "source": image.refinement.image_id,
            "state": image.refinement.state.value,
            "number": edit.number,
            "round": edit.round + 1,
            "parent": edit.parent_id,
            "image": edit.image_id,
            "verdict": edit.verdict.value,
            "reasons": list(edit.reasons),
            "defects": len(edit.targets),
            "instruction": edit.instruction,
            "template": edit.template,
            "editor": edit.editor,
            "revision": edit.revision,
            "seed": str(edit.seed),
            "burden found": None if edit.found is None else burden_of(edit.found),
            "measured": edit.measured,
        }
        for image in refined_images(records, parameters)
        for edit in image.edits
    ]


def result_ids(context: PageContext, tx: Tx, parameters: Parameters) -> list[str]:
    """The results of the refined images that an address asks for, as a list that commands take."""
    records = asked_run(context, tx, parameters)
    if records is None:
        return []
    return [
        image.refinement.result_id
        for image in refined_images(records, parameters)
        if image.refinement.state is RefinementState.REFINED
    ]
