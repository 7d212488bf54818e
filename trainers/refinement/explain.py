"""Why accepted edits improved images as far as they did, from what a run recorded: nothing is edited or detected again.

The judge is somebody whom no step of the run asked. Three questions:

    where     how far accepted edits cut the judge's burden, by the image's model, by what was edited, by strength, and
              by whether the judge confirms the detector's claim about the parent
    worse     what happened in the accepted edits that the judge calls worse
    tests     what other tests would have taken of the same candidates, with the judge as acceptor or detector as bounds

A claim is confirmed where the judge names a defect of the same type whose box overlaps with one of those that were
edited (IoU ≥ 0.1); where it names one of another type there, the place is right and the type is not.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np

from schemas.defect import Defect, DefectType
from schemas.refinement import Edit, EditVerdict
from sdg_data.metrics.matching import box_array, iou_matrix
from sdg_data.metrics.refinement import RunRecords, burden_of, fall_of, rank
from sdg_data.store.rows import grouped
from trainers.refinement.acceptance import AcceptanceSettings, new_kinds, reasons_of

SAME_PLACE: Final = 0.1
"""Boxes of this IoU or more are about the same place: boxes of a repair are widened, so it need not be sharp."""
OTHER_LIMITS: Final[Sequence[tuple[str, Mapping[str, Any]]]] = (
    ("without the limits on what is left and on new kinds", {"max_left": None, "new_kinds": True}),
    ("no new kind of defect", {"max_left": None, "new_kinds": False}),
    ("nothing left in the mask", {"max_left": 0.0, "new_kinds": True}),
    ("nothing left, no new kind", {"max_left": 0.0, "new_kinds": False}),
    ("nothing left, reward rises by .1", {"max_left": 0.0, "new_kinds": True, "max_reward_fall": -0.1}),
)
"""The tests that are tried beside the run's own: what is changed in its limits."""
_TINY: Final = 1e-9


@dataclass(frozen=True)
class JudgedEdit:
    """A candidate that the judge saw, and its parent.

    Attributes:
        edit: The candidate.
        prompt_id: Of its image.
        model: Who made the source image.
        strength: How strongly the editor painted, as its settings say; None where it has no strengths.
        seen_before: What the run's detector said of the parent.
        judged_before: What the judge says of the parent.
        judged_after: What the judge says of the candidate.
    """

    edit: Edit
    prompt_id: str
    model: str
    strength: float | None
    seen_before: tuple[Defect, ...]
    judged_before: tuple[Defect, ...]
    judged_after: tuple[Defect, ...]

    @cached_property
    def before(self) -> float:
        """The judge's burden of the parent."""
        return burden_of(self.judged_before)

    @cached_property
    def after(self) -> float:
        """The judge's burden of the candidate."""
        return burden_of(self.judged_after)

    @cached_property
    def claim(self) -> str:
        """Whether the judge confirms what was edited: "confirmed", "another type", or "nothing there"."""
        targets = self.edit.targets
        if any(_same_place(target, self.judged_before, target.type) for target in targets):
            return "confirmed"
        return "another type" if any(_same_place(target, self.judged_before) for target in targets) else "nothing there"

    @cached_property
    def edited(self) -> str:
        """The kind of the most important defect that was edited."""
        first = self.edit.targets[0] if self.edit.targets else None
        if first is None:
            return "the whole image"
        return f"{first.type.value}, {first.subtype.value if first.subtype else 'no subtype'}"

    @cached_property
    def unseen(self) -> bool:
        """Whether the judge names a defect that was not in the parent, and the run's detector did not see it."""
        detected = self.edit.found or ()
        fresh = [defect for defect in self.judged_after if not _same_place(defect, self.judged_before, defect.type)]
        return any(not _same_place(defect, detected, defect.type) for defect in fresh)

    @property
    def row(self) -> tuple[str, float, float]:
        """As `fall_of` takes it."""
        return self.prompt_id, self.before, self.after


def explain(
    records: RunRecords, judged: Mapping[str, Sequence[Defect]], *, resamples: int = 1000
) -> dict[str, list[dict[str, Any]]]:
    """The three tables of a run.

    Args:
        records: The run's.
        judged: Image -> what the judge found; candidates that it says nothing of, or of whose parent, are left out.
        resamples: Of the intervals, over prompts.

    Returns:
        JSON: `where`, `worse` and `tests`, a list of rows each.
    """
    edits = judged_edits(records, judged)
    accepted = [candidate for candidate in edits if candidate.edit.verdict is EditVerdict.ACCEPTED]
    return {
        "where": _where(edits, accepted, resamples),
        "worse": _worse(accepted),
        "tests": _tests(records, edits, resamples),
    }


def judged_edits(records: RunRecords, judged: Mapping[str, Sequence[Defect]]) -> list[JudgedEdit]:
    """The candidates of a run that the judge saw, as it saw them.

    Args:
        records: The run's.
        judged: Image -> what the judge found.

    Returns:
        In the order in which they were made, image by image.
    """
    source = {refinement.id: refinement for refinement in records.refinements}
    seen = {refinement.image_id: refinement.before for refinement in records.refinements}
    seen |= {edit.image_id: edit.found for edit in records.edits if edit.image_id is not None}
    edits = []
    for edit in records.edits:
        if edit.image_id is None or edit.image_id not in judged or edit.parent_id not in judged:
            continue
        image = records.images[edit.image_id]
        settings = json.loads(image.settings)
        edits.append(
            JudgedEdit(
                edit=edit,
                prompt_id=image.prompt_id,
                model=records.images[source[edit.refinement_id].image_id].model,
                strength=settings.get("strength"),
                seen_before=tuple(seen.get(edit.parent_id) or ()),
                judged_before=tuple(judged[edit.parent_id]),
                judged_after=tuple(judged[edit.image_id]),
            )
        )
    return edits


def _where(edits: Sequence[JudgedEdit], accepted: Sequence[JudgedEdit], resamples: int) -> list[dict[str, Any]]:
    """Accepted edits by what tells them apart; a value of which no edit was accepted has a row as well."""
    kinds: Mapping[str, Callable[[JudgedEdit], str]] = {
        "model": lambda candidate: candidate.model,
        "edited": lambda candidate: candidate.edited,
        "strength": lambda candidate: "–" if candidate.strength is None else f"{candidate.strength:g}",
        "the detector's claim": lambda candidate: candidate.claim,
    }
    return [
        {
            "by": by,
            "value": value,
            "candidates": sum(value_of(candidate) == value for candidate in edits),
            **_outcome([candidate for candidate in accepted if value_of(candidate) == value], resamples),
        }
        for by, value_of in kinds.items()
        for value in sorted({value_of(candidate) for candidate in edits})
    ]


def _worse(accepted: Sequence[JudgedEdit]) -> list[dict[str, Any]]:
    """Why the judge calls accepted edits worse: the first reason that holds."""
    causes: Counter[str] = Counter()
    worse = [candidate for candidate in accepted if candidate.after > candidate.before + _TINY]
    for candidate in worse:
        if candidate.claim != "confirmed":
            causes["the judge does not see what was edited in the parent"] += 1
        elif candidate.unseen:
            causes["a new defect that the detector does not see"] += 1
        else:
            causes["defects that were there weigh more"] += 1
    return [{"cause": cause, "edits": number, "of": len(worse)} for cause, number in causes.most_common()]


def _tests(records: RunRecords, edits: Sequence[JudgedEdit], resamples: int) -> list[dict[str, Any]]:
    """What each test takes of the candidates of a round: the best of those that pass, as the run itself chooses."""
    settings = json.loads(records.run.settings)
    limits = AcceptanceSettings.model_validate(settings.get("acceptance", {}))
    rewarded = bool(settings.get("rewards"))
    rounds = list(
        grouped(((candidate.edit.refinement_id, candidate.edit.round), candidate) for candidate in edits).values()
    )

    def held(changed: Mapping[str, Any]) -> Callable[[JudgedEdit], bool]:
        other = limits.model_copy(update=changed)
        return lambda candidate: not reasons_of(other, _measured(candidate), rewarded=rewarded)

    def by_detector(candidate: JudgedEdit) -> tuple[float, ...]:
        return rank(candidate.edit.measured, candidate.edit.number)

    def by_judge(candidate: JudgedEdit) -> tuple[float, ...]:
        return candidate.after, candidate.edit.number

    own = held({})

    def falls(candidate: JudgedEdit) -> bool:
        return candidate.before - candidate.after >= max(limits.min_fall, _TINY) - _TINY / 2

    tests: list[tuple[str, Callable[[JudgedEdit], bool], Callable[[JudgedEdit], tuple[float, ...]]]] = [
        ("the run's own", own, by_detector),
        *((name, held(changed), by_detector) for name, changed in OTHER_LIMITS),
        (
            "its own, where the judge confirms the claim",
            lambda candidate: own(candidate) and candidate.claim == "confirmed",
            by_detector,
        ),
        ("its own, and the judge's burden falls", lambda candidate: own(candidate) and falls(candidate), by_detector),
        ("the judge's burden falls, best by the judge", falls, by_judge),
    ]
    rows = []
    for name, passes, order in tests:
        taken = [
            min(good, key=order)
            for members in rounds
            if (good := [candidate for candidate in members if passes(candidate)])
        ]
        rows.append({"test": name, "rounds": len(rounds), **_outcome(taken, resamples)})
    return rows


def _outcome(edits: Sequence[JudgedEdit], resamples: int) -> dict[str, Any]:
    facts = fall_of([candidate.row for candidate in edits], resamples)
    worse = sum(candidate.after > candidate.before + _TINY for candidate in edits)
    return {"accepted": facts.pop("count"), "worse": worse, **facts}


def _measured(candidate: JudgedEdit) -> Mapping[str, float | None]:
    """What was measured; runs from before `new_kinds` was measured have it made up for."""
    measured = candidate.edit.measured
    if "new_kinds" in measured or candidate.edit.found is None:
        return measured
    return {**measured, "new_kinds": float(new_kinds(candidate.seen_before, candidate.edit.found))}


def _same_place(defect: Defect, others: Sequence[Defect], kind: DefectType | None = None) -> bool:
    """Whether one of the others, of a type where one is given, is about the place of a defect."""
    boxes = [other.box for other in others if kind is None or other.type is kind]
    if not boxes:
        return False
    return bool(np.any(iou_matrix(box_array([defect.box]), box_array(boxes)) >= SAME_PLACE))
