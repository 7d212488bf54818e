"""Refining one image: edit, look again, take or leave, until nothing is left to do, or rounds or budget are spent.

A chain is a function of the source image, its defects, the settings and the answers of editor, detector and rewards:
done again it makes the same candidates with the same ids and seeds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from generators.editors.contract import EditError, Editor, EditRequest, Pixels
from generators.editors.presets import EditorPreset
from schemas.defect import Defect
from schemas.records import Failure, ImageRecord
from schemas.refinement import Edit, EditVerdict, Refinement, RefinementState
from sdg_data.ids import canonical_json, content_id, image_id, seed_of
from sdg_data.metrics.refinement import rank
from trainers.refinement import masks
from trainers.refinement.acceptance import Judged, Measurement, judge
from trainers.refinement.edit_task import EditPlanner, EditTask
from trainers.refinement.instructions import InstructionTemplate
from trainers.refinement.settings import RefineSettings
from trainers.refinement.signals import Signals

STAGE: Final = "refine"


@dataclass(frozen=True)
class ImageToRefine:
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
        self._planner = EditPlanner(settings, preset, template)

    def refine(self, source: ImageToRefine) -> Chain:
        """Refine one image.

        Args:
            source: The image and its defects.

        Returns:
            The refinement with every candidate. What the signals raise comes through.
        """
        first = self._signals.look([source.pixels], source.prompt)[0]
        key = (self._run, source.image.id, source.attempt)
        if first.defects is None or (self._signals.rewarded and first.reward is None):
            code = "no-detection" if first.defects is None else "no-reward"
            return unanswered(*key, code, first.reason or "no answer", first.defects)
        if not first.defects:
            return Chain(_untouched(*key, RefinementState.CLEAN, "the detector sees no defect", first.defects))
        return self._rounds(source, first, Chain(_untouched(*key, RefinementState.UNCHANGED, None, first.defects)))

    def _rounds(self, source: ImageToRefine, first: Measurement, chain: Chain) -> Chain:
        standing = _Standing(source.image.id, source.pixels, first)
        left = list(first.defects or ()) if source.follow else list(source.defects)
        refused: list[Defect] = []
        rounds = 0
        limit = self._settings.budget or self._settings.candidates * self._settings.most_rounds
        while left and rounds < self._settings.most_rounds and len(chain.edits) < limit:
            task = self._planner.task(standing.pixels, source.prompt, left, refused)
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
        ended = {"rounds": rounds, "after": standing.looked.defects, "created_at": datetime.now(UTC)}
        chain.refinement = chain.refinement.model_copy(update={"state": state, "result_id": standing.id, **ended})
        return chain

    def _edit(self, source: ImageToRefine, standing: _Standing, task: EditTask, number: int, place: int) -> _Candidate:
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
        self,
        source: ImageToRefine,
        standing: _Standing,
        task: EditTask,
        number: int,
        made: Sequence[_Candidate],
        chain: Chain,
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
        task: EditTask,
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


def unanswered(
    run_id: str, image_id: str, attempt: int, code: str, message: str, defects: tuple[Defect, ...] | None = None
) -> Chain:
    """The refinement of an image of which too little is known to begin.

    Args:
        run_id: The run's.
        image_id: The image's.
        attempt: The number of the attempt.
        code: Of the failure.
        message: What happened.
        defects: What the detector said, where it is the rewards that did not answer.

    Returns:
        A chain without candidates, and with the failure.
    """
    refinement = _untouched(run_id, image_id, attempt, RefinementState.UNANSWERED, message, defects)
    return Chain(refinement, failures=[_failure(refinement.id, code, message, None)])


def _untouched(
    run_id: str,
    image_id: str,
    attempt: int,
    state: RefinementState,
    reason: str | None,
    defects: tuple[Defect, ...] | None,
) -> Refinement:
    """The refinement whose result is its source."""
    return Refinement(
        id=content_id("refinement", run_id, image_id, attempt),
        run_id=run_id,
        image_id=image_id,
        attempt=attempt,
        state=state,
        reason=reason,
        result_id=image_id,
        rounds=0,
        before=defects,
        after=defects,
        created_at=datetime.now(UTC),
    )


def model_of(preset: EditorPreset) -> str:
    """Under which model an editor's images are filed."""
    return f"refine-{preset.name}"


def _failure(item: str, code: str, message: str, raw: str | None) -> Failure:
    return Failure(stage=STAGE, item_id=item, code=code, message=message or code, raw=raw, attempt=1)
