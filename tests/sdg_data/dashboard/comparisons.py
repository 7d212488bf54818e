"""Refinements, studies and a curve over a filled home: the other generator's images stand for edits."""

import json
import random

from schemas.defect import Defect
from schemas.refinement import Edit, EditVerdict, Refinement, RefinementRun, RefinementState
from schemas.study import Study, StudyProtocol, StudyRefusal, StudyTrial, TrialKind
from sdg_data.ids import canonical_json, content_id
from sdg_data.selection import kept
from sdg_data.store import refinements, studies
from tests.sdg_data.dashboard.conftest import HOSTILE, Filled
from tests.sdg_data.store.makers import at, defect

ARMS = ("defects", "caption")
STUDY = "before <and> after"
VERDICTS = tuple(EditVerdict)
REASONS = {
    EditVerdict.REFUSED: ("burden-inside", "reward"),
    EditVerdict.UNANSWERED: ("no-detection",),
    EditVerdict.FAILED: ("http-500",),
}


def run_of(arm: str) -> RefinementRun:
    settings = canonical_json({"arm": arm, "editor": "painter <b>"})
    return RefinementRun(id=content_id("refinement-run", settings), arm=arm, settings=settings, created_at=at(0))


def refined(made: Filled) -> tuple[list[Refinement], list[Edit]]:
    """Each prompt's first image refined by both arms: in turn with every verdict, and clean or unanswered images."""
    done: list[Refinement] = []
    tried: list[Edit] = []
    pairs = [
        (source, other)
        for source in made.images
        for other in made.images
        if source.prompt_id == other.prompt_id and (source.model, other.model) == ("flux2", "sana")
    ]
    rng = random.Random(11)
    for arm in ARMS:
        for place, (source, other) in enumerate(pairs):
            identity = content_id("refinement", arm, source.id)
            before = [defect(100, reason=HOSTILE if place == 0 else "a hand", importance=rng.randint(40, 90))]
            state, edits = RefinementState.CLEAN, []
            if place % 6 < 5:
                edits = [edit(identity, source.id, other.id, VERDICTS[place % 5], before, rng)]
                accepted = edits[0].verdict is EditVerdict.ACCEPTED
                state = RefinementState.REFINED if accepted else RefinementState.UNCHANGED
            taken = state is RefinementState.REFINED
            after = edits[0].found if taken else tuple(before)
            done.append(
                Refinement(
                    id=identity, run_id=run_of(arm).id, image_id=source.id, attempt=1, state=state,
                    reason="the detector sees no defect" if not edits else None,
                    result_id=other.id if taken else source.id, rounds=len(edits),
                    before=tuple(before) if edits else (), after=after if edits else (), created_at=at(1),
                )
            )  # fmt: skip
            tried += edits
    return done, tried


def edit(
    refinement: str, source: str, other: str, verdict: EditVerdict, before: list[Defect], rng: random.Random
) -> Edit:
    boxes = (defect(100, reason="still there", importance=rng.randint(1, 39)),)
    return Edit(
        id=content_id("edit", refinement, 0), refinement_id=refinement, number=0, round=0, parent_id=source,
        image_id=None if verdict is EditVerdict.FAILED else other, targets=tuple(before),
        mask=canonical_json({"kind": "boxes", "regions": [[2, 2, 12, 12]]}), instruction=f"mend {HOSTILE}",
        template="defect-1", editor="painter <b>", revision="1", seed=2**62 + 1,
        found=None if verdict in (EditVerdict.UNANSWERED, EditVerdict.FAILED) else boxes,
        measured={"inside_before": 0.5, "inside_after": 0.25, "seam": 0.9, "reward_before": None},
        verdict=verdict, reasons=REASONS.get(verdict, ()), created_at=at(2),
    )  # fmt: skip


def compare(made: Filled) -> None:
    """Put two runs, two studies and a curve into the home."""
    done, tried = refined(made)
    with made.store.write() as tx:
        for arm in ARMS:
            refinements.insert_run(tx, run_of(arm))
        refinements.insert(tx, done, tried)
    study_of(made, STUDY, ("before", "after"))
    study_of(made, "nobody yet", ("x", "y"), raters=())
    kept.keep(made.home, "mini", curve())


def study_of(made: Filled, name: str, arms: tuple[str, ...], raters: tuple[str, ...] = ("ann", "<i>")) -> None:
    """A study of the first twelve prompts in which `after` wins; the last rater always takes the left image."""
    identity = content_id("study", name)
    study = Study(id=identity, name=name, protocol=StudyProtocol.GSB, arms=arms, seed=0, created_at=at(3))
    by_prompt: dict[str, list[str]] = {}
    for image in made.images:
        by_prompt.setdefault(image.prompt_id, []).append(image.id)
    trials = [
        StudyTrial(
            id=content_id("trial", name, number), study_id=identity, number=number, kind=TrialKind.JUDGED,
            item=f"item {number}", prompt=HOSTILE, reference=None, arms=arms, images=tuple(images), repeats=None,
        )
        for number, images in enumerate([*by_prompt.values()][:12])
    ]  # fmt: skip
    refusal = StudyRefusal(study_id=identity, item="item 99", arm=arms[1], reason=HOSTILE)
    with made.store.write() as tx:
        studies.insert(tx, study, trials, [refusal])
        studies.add_raters(tx, identity, list(raters))
        for rater in raters:
            for trial in trials:
                shown = (0, 1) if trial.number % 2 else (1, 0)
                ranks = (2, 1) if trial.number % 4 else (1, 1)
                if rater == raters[-1]:
                    ranks = (1, 2) if shown == (0, 1) else (2, 1)
                studies.vote(tx, trial, rater, shown=shown, ranks=ranks, seconds=3.0)


def curve() -> dict[str, object]:
    """A kept curve of two verifiers, the second over-optimised."""

    def row(n: int, chosen: float, *, fallen: bool = False) -> dict[str, object]:
        return {
            "n": n, "prompts": 10, "chosen": chosen, "chosen_interval": [chosen - 0.1, chosen + 0.1], "random": -1.0,
            "best": -1 + 0.1 * n, "regret": -1 + 0.1 * n - chosen, "interval": [0.0, 0.5], "closed": 0.5,
            "own": float(n), "images_with_stop": None, "over_optimised": fallen, "peak": 2,
        }  # fmt: skip

    document = {
        "gold": "oracle <b>", "prompts": 10, "left_out": 1, "sources": {"detector": "prelabel:vlm", HOSTILE: HOSTILE},
        "verifiers": {
            "detector": {"rows": [row(1, -1.0), row(2, -0.9), row(4, -0.7)]},
            HOSTILE: {"rows": [row(1, -1.0), row(2, -0.8), row(4, -0.95, fallen=True)]},
        },
    }  # fmt: skip
    assert json.loads(json.dumps(document)) == document
    return document
