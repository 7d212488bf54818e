"""Refining one image: edit, look again, take or leave, until nothing is left to do, or rounds or budget are spent.

A chain is a function of the source image, its defects, the settings and the answers of editor, detector and rewards:
done again it makes the same candidates with the same ids and seeds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from PIL import Image, ImageDraw

from generators.editors.contract import EditError, Editor, EditRequest, Mask, Pixels
from generators.editors.presets import EditorPreset
from schemas.defect import Defect, DefectType
from schemas.records import Failure, ImageRecord
from schemas.refinement import Edit, EditVerdict, Refinement, RefinementState
from sdg_data.ids import canonical_json, content_id, image_id, seed_of
from sdg_data.metrics.refinement import rank
from trainers.refinement import masks
from trainers.refinement.acceptance import Judged, Measurement, judge
from trainers.refinement.instructions import InstructionTemplate
from trainers.refinement.settings import RefineSettings
from trainers.refinement.signals import Signals

STAGE: Final = "refine"
_RED: Final = (255, 0, 0)
_BOX_LINE: Final = 3


@dataclass(frozen=True)
class Source:
    """An image to refine.

    `defects` are the source's claims. `follow`: after an edit the detector's own count instead.
    """

    image: ImageRecord
    prompt: str
    pixels: Pixels
    defects: tuple[Defect, ...]
    follow: bool
    attempt: int = 1


@dataclass(frozen=True)
class NewImage:
    """A candidate's picture on its way to the store; `settings` are its variant's, `seconds` what the editor took."""

    id: str
    settings: str
    seed: int
    pixels: Pixels
    parent: ImageRecord
    seconds: float


@dataclass
class Chain:
    """What a refinement made: its record, its candidates and their pictures, and what failed."""

    refinement: Refinement
    edits: list[Edit] = field(default_factory=list)
    images: list[NewImage] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


@dataclass(frozen=True)
class _Standing:
    """The image that edits start from now, and what is known of it."""

    id: str
    pixels: Pixels
    looked: Measurement


@dataclass(frozen=True)
class _Task:
    """What one round edits, and where."""

    targets: tuple[Defect, ...]
    mask: Mask
    described: str
    references: tuple[Pixels, ...]
    instruction: str
    core: Mask | None = None


@dataclass(frozen=True)
class _Candidate:
    number: int
    image: NewImage | None
    seed: int
    failure: EditError | None = None
    returned: tuple[int, int] | None = None


class Refiner:
    """Refines images, one after another, with one editor and the same signals."""

    def __init__(
        self,
        settings: RefineSettings,
        preset: EditorPreset,
        revision: str,
        editor: Editor,
        signals: Signals,
        template: InstructionTemplate,
        run_id: str,
    ) -> None:
        """Prepare.

        Args:
            settings: How it is done.
            preset: The editor's.
            revision: The editor's weights.
            editor: Who edits.
            signals: Who looks.
            template: What the editor is told.
            run_id: The run's.
        """
        self._settings, self._preset, self._revision = settings, preset, revision
        self._editor, self._signals, self._template, self._run = editor, signals, template, run_id

    def refine(self, source: Source) -> Chain:
        """Refine one image.

        Args:
            source: The image and its defects.

        Returns:
            The refinement with every candidate. What the signals raise comes through.
        """
        first = self._signals.look([source.pixels], source.prompt)[0]
        chain = Chain(self._record(source, RefinementState.UNCHANGED, None, source.image.id, 0, first, first))
        if first.defects is None or (self._signals.rewarded and first.reward is None):
            state, reason = RefinementState.UNANSWERED, first.reason or "no answer"
            code = "no-detection" if first.defects is None else "no-reward"
            chain.failures.append(_failure(chain.refinement.id, code, reason, None))
        elif not first.defects:
            state, reason = RefinementState.CLEAN, "the detector sees no defect"
        else:
            return self._rounds(source, first, chain)
        chain.refinement = self._record(source, state, reason, source.image.id, 0, first, first)
        return chain

    def _rounds(self, source: Source, first: Measurement, chain: Chain) -> Chain:
        standing = _Standing(source.image.id, source.pixels, first)
        left = list(first.defects or ()) if source.follow else list(source.defects)
        refused: list[Defect] = []
        rounds = 0
        limit = self._settings.budget or self._settings.candidates * self._settings.most_rounds
        while left and rounds < self._settings.most_rounds and len(chain.edits) < limit:
            task = self._task(standing, source.prompt, left, refused)
            left = [defect for defect in left if defect not in task.targets]
            count = min(self._settings.candidates, limit - len(chain.edits))
            made = [self._edit(source, standing, task, len(chain.edits) + k, k) for k in range(count)]
            winner = self._judge(source, standing, task, rounds, made, chain)
            rounds += 1
            if winner is None:
                refused += task.targets
                continue
            standing = winner
            if source.follow:
                left = list(winner.looked.defects or ())
        state = RefinementState.REFINED if standing.id != source.image.id else RefinementState.UNCHANGED
        chain.refinement = self._record(source, state, None, standing.id, rounds, first, standing.looked)
        return chain

    def _task(self, standing: _Standing, prompt: str, left: Sequence[Defect], refused: Sequence[Defect]) -> _Task:
        """The most important defect, those not refused before first, and whose masks overlap with its mask."""
        height, width = standing.pixels.shape[:2]
        arm, settings = self._settings.of_arm, self._settings
        if not arm.one_by_one:
            targets = tuple(sorted(left, key=_order))
            mask, described = self._all_at_once((width, height), targets)
            references = _references(arm.shown, standing.pixels, targets)
            return _Task(targets, mask, canonical_json(described), references, self._template.fill(prompt, targets))
        ordered = sorted(left, key=lambda defect: (_was_refused(defect, refused), *_order(defect)))
        regions = {
            defect: masks.pixel_region(defect.box, (width, height), self._preset.cell, settings.cells)
            for defect in ordered
        }
        targets = (ordered[0],)
        if settings.cluster:
            targets = tuple(defect for defect in ordered if _overlap(regions[defect], regions[ordered[0]]))
        mask = masks.box_mask(
            [defect.box for defect in targets],
            (width, height),
            cell=self._preset.cell,
            cells=settings.cells,
            feather=settings.feather,
        )
        where = canonical_json(self._described([regions[defect] for defect in targets]))
        boxes = [defect.box for defect in targets]
        core = masks.box_mask(boxes, (width, height), cell=1, cells=0, feather=0)
        return _Task(targets, mask, where, (), self._template.fill(prompt, targets), core)

    def _all_at_once(self, size: tuple[int, int], targets: Sequence[Defect]) -> tuple[Mask, dict[str, Any]]:
        """The mask of an arm that edits everything at once: an editor that takes masks is shown the feedback in it."""
        width, height = size
        shown, settings = self._settings.of_arm.shown, self._settings
        if not shown or not self._preset.masked:
            return masks.whole_mask(size), masks.described("whole", [(0, 0, width, height)])
        if shown == "heatmaps":
            return masks.heat_mask(targets, size, feather=settings.feather), masks.described(
                "heat", [masks.pixel_region(defect.box, size, 1, 0) for defect in targets], feather=settings.feather
            )
        boxes = [defect.box for defect in targets]
        cell, cells = self._preset.cell, settings.cells
        regions = [masks.pixel_region(box, size, cell, cells) for box in boxes]
        mask = masks.box_mask(boxes, size, cell=cell, cells=cells, feather=settings.feather)
        return mask, self._described(regions)

    def _described(self, regions: Sequence[tuple[int, int, int, int]]) -> dict[str, Any]:
        cell, settings = self._preset.cell, self._settings
        return masks.described("boxes", regions, cell=cell, cells=settings.cells, feather=settings.feather)

    def _edit(self, source: Source, standing: _Standing, task: _Task, number: int, place: int) -> _Candidate:
        strengths = self._preset.strengths
        strength = strengths[place % len(strengths)] if strengths else None
        settings = canonical_json(
            {
                "edit": 1,
                "arm": self._settings.arm,
                "parent": standing.id,
                "mask": task.described,
                "shown": self._settings.of_arm.shown,
                "targets": [defect.model_dump(mode="json") for defect in task.targets],
                "instruction": task.instruction,
                "template": self._template.id,
                "candidate": place,
                **({} if strength is None else {"strength": strength}),
                "editor": self._preset.settings,
            }
        )
        image = source.image
        identity = image_id(image.prompt_id, model_of(self._preset), self._revision, image.sample, settings)
        seed = seed_of(identity)
        request = EditRequest(standing.pixels, task.mask, task.instruction, task.references, seed, strength)
        started = time.perf_counter()
        try:
            edited = self._editor.edit(request)
        except EditError as error:
            if error.fatal:
                raise
            return _Candidate(number, None, seed, error)
        seconds = time.perf_counter() - started
        pixels = masks.composite(standing.pixels, edited.pixels, task.mask)
        made = NewImage(identity, settings, seed, pixels, image, seconds)
        return _Candidate(number, made, seed, None, edited.returned)

    def _judge(
        self, source: Source, standing: _Standing, task: _Task, number: int, made: Sequence[_Candidate], chain: Chain
    ) -> _Standing | None:
        pictures = [candidate.image.pixels for candidate in made if candidate.image is not None]
        answers = iter(self._signals.look(pictures, source.prompt))
        judged: list[tuple[_Candidate, Measurement | None, Judged | None]] = []
        for candidate in made:
            if candidate.image is None:
                judged.append((candidate, None, None))
                continue
            looked = next(answers)
            test = judge(
                self._settings.acceptance,
                task.mask,
                parent=standing.pixels,
                edited=candidate.image.pixels,
                before=standing.looked,
                after=looked,
                rewarded=self._signals.rewarded,
                core=task.core,
            )
            judged.append((candidate, looked, test))
        passed = {
            candidate.number: rank(test.measured, candidate.number)
            for candidate, _, test in judged
            if test is not None and not test.reasons
        }
        best = min(passed, key=passed.__getitem__) if passed else None
        winner = None
        for candidate, answer, outcome in judged:
            edit = self._record_of(chain.refinement.id, standing.id, task, number, candidate, answer, outcome, best)
            chain.edits.append(edit)
            if candidate.image is not None:
                chain.images.append(candidate.image)
            if candidate.number == best and candidate.image is not None and answer is not None:
                winner = _Standing(candidate.image.id, candidate.image.pixels, answer)
            if candidate.failure is not None:
                error = candidate.failure
                chain.failures.append(_failure(edit.id, error.code, error.message, error.raw))
            elif edit.verdict is EditVerdict.UNANSWERED and answer is not None:
                code = "no-detection" if answer.defects is None else "no-reward"
                chain.failures.append(_failure(edit.id, code, answer.reason or "no answer", None))
        return winner

    def _record_of(
        self,
        refinement: str,
        parent: str,
        task: _Task,
        number: int,
        candidate: _Candidate,
        looked: Measurement | None,
        test: Judged | None,
        best: int | None,
    ) -> Edit:
        verdict: EditVerdict
        reasons: tuple[str, ...]
        if test is None or looked is None:
            verdict, reasons = EditVerdict.FAILED, (candidate.failure.code if candidate.failure else "editor-error",)
        elif not test.answered:
            verdict, reasons = EditVerdict.UNANSWERED, test.reasons
        elif test.reasons:
            verdict, reasons = EditVerdict.REFUSED, test.reasons
        else:
            verdict, reasons = (EditVerdict.ACCEPTED if candidate.number == best else EditVerdict.BEATEN), ()
        measured = dict(test.measured) if test is not None else {}
        if candidate.returned is not None:
            measured |= {
                "returned_width": float(candidate.returned[0]),
                "returned_height": float(candidate.returned[1]),
            }
        return Edit(
            id=content_id("edit", refinement, candidate.number),
            refinement_id=refinement,
            number=candidate.number,
            round=number,
            parent_id=parent,
            image_id=None if candidate.image is None else candidate.image.id,
            targets=task.targets,
            mask=task.described,
            instruction=task.instruction,
            template=self._template.id,
            editor=self._preset.name,
            revision=self._revision,
            seed=candidate.seed,
            found=None if looked is None else looked.defects,
            measured=measured,
            verdict=verdict,
            reasons=reasons,
            created_at=datetime.now(UTC),
        )

    def _record(
        self,
        source: Source,
        state: RefinementState,
        reason: str | None,
        result: str,
        rounds: int,
        before: Measurement,
        after: Measurement,
    ) -> Refinement:
        return Refinement(
            id=_refinement_id(self._run, source.image.id, source.attempt),
            run_id=self._run,
            image_id=source.image.id,
            attempt=source.attempt,
            state=state,
            reason=reason,
            result_id=result,
            rounds=rounds,
            before=before.defects,
            after=after.defects,
            created_at=datetime.now(UTC),
        )


def unanswered(run_id: str, image_id: str, attempt: int, code: str, message: str) -> Chain:
    """The refinement of an image that nothing was found out about.

    Args:
        run_id: The run's.
        image_id: The image's.
        attempt: The number of the attempt.
        code: Of the failure.
        message: What happened.

    Returns:
        A chain without candidates, and with the failure.
    """
    refinement = Refinement(
        id=_refinement_id(run_id, image_id, attempt),
        run_id=run_id,
        image_id=image_id,
        attempt=attempt,
        state=RefinementState.UNANSWERED,
        reason=message,
        result_id=image_id,
        rounds=0,
        before=None,
        after=None,
        created_at=datetime.now(UTC),
    )
    return Chain(refinement, failures=[_failure(refinement.id, code, message, None)])


def _refinement_id(run_id: str, image_id: str, attempt: int) -> str:
    return content_id("refinement", run_id, image_id, attempt)


def model_of(preset: EditorPreset) -> str:
    """Under which model an editor's images are filed."""
    return f"refine-{preset.name}"


def _failure(item: str, code: str, message: str, raw: str | None) -> Failure:
    return Failure(stage=STAGE, item_id=item, code=code, message=message or code, raw=raw, attempt=1)


def _order(defect: Defect) -> tuple[int, int, int]:
    """The most important first; equal ones from top to bottom and left to right."""
    return -defect.importance, defect.box.y0, defect.box.x0


def _was_refused(defect: Defect, refused: Sequence[Defect]) -> bool:
    """Whether an edit of the same place and type was refused before."""
    return any(defect.type is other.type and defect.box.iou(other.box) >= 0.5 for other in refused)


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _references(shown: str, pixels: Pixels, defects: Sequence[Defect]) -> tuple[Pixels, ...]:
    if shown == "boxes":
        return (boxed_copy(pixels, defects),)
    if shown == "heatmaps":
        size = (pixels.shape[1], pixels.shape[0])
        return tuple(masks.heat([defect for defect in defects if defect.type is kind], size) for kind in DefectType)
    return ()


def boxed_copy(pixels: Pixels, defects: Sequence[Defect]) -> Pixels:
    """A copy with a red outline of three pixels around each defect, as the paper draws it."""
    picture = Image.fromarray(pixels)
    pen = ImageDraw.Draw(picture)
    for defect in defects:
        left, top, right, bottom = masks.pixel_region(defect.box, picture.size, 1, 0)
        pen.rectangle((left, top, right - 1, bottom - 1), outline=_RED, width=_BOX_LINE)
    return np.asarray(picture)
