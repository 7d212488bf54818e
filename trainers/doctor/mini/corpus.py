"""Rendered scenes as several simulated people judge them: four scores, and a map of each type.

As in RichHF-18K a map is the mean over people of what each marked, and a score the mean of what each entered, 1 to 5.
People see what `annotate.simulation.annotators` lets them see; their scores follow from the defects that are really
there, with a bias and a mood of their own. The boxes of a sample are the first person's.
"""

import random
from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

import numpy as np

from annotate.simulation.annotators import Region, SimulatedAnnotator, annotators
from exports.dataset.assemble import envelope_of
from exports.dataset.image_extras import MAPS_KEY, SCORES_KEY, encoded
from schemas.defect import Defect, DefectType
from schemas.records import AnnotatedDefect, AnnotationStatus
from sdg_data.blobs import Blobs
from sdg_data.ids import canonical_json, content_id
from sdg_data.image_scores import HIGHEST_SCORE, NAMES, as_share
from sdg_data.metrics.heatmaps import Floats, coverage
from sdg_data.mini.world import SIZE
from sdg_data.progress import Progress
from sdg_data.store.connection import Store
from trainers.detector.mini.rendered import add_new, scene_records
from trainers.detector.mini.scenes import samples

SOURCE: Final = "simulated-judges"
TOOL: Final = "sdg-data simulated judges"
_BATCH: Final = 500
_BIAS, _MOOD = 0.25, 0.35
"""Standard deviations on the scale of 1 to 5: of a person's habit, and of one score."""


def add_judged(store: Store, blobs: Blobs, count: int, seed: int, *, people: int, test_share: float) -> int:
    """Put scenes with people's judgements into the store, the same for the same seed; returns how many were new."""
    team = annotators(people, seed, kind="judge")
    progress, new = Progress("judged", unit="scenes"), 0
    stream = enumerate(islice(samples(seed), count))
    with progress.running(count):
        while chunk := list(islice(stream, _BATCH)):
            made = []
            for number, scene in chunk:
                prompt, image, annotation, data = scene_records(scene, number, seed, test_share)
                answers = judged(team, image.id, scene.defects)
                if answers is None:
                    continue
                regions, extras = answers
                defects = tuple(
                    AnnotatedDefect(defect=region.defect, region_id=region.region_id, origin=region.origin)
                    for region in regions
                )
                changes: dict[str, Any] = {
                    "id": content_id("annotation", image.id, SOURCE), "annotator": team[0].name, "source": SOURCE,
                    "tool": TOOL, "defects": defects, "status": AnnotationStatus.claim(defects),
                    "envelope": envelope_of(canonical_json(extras)),
                }  # fmt: skip
                made.append((prompt, image, annotation.model_copy(update=changes), data))
            new += add_new(store, blobs, made)
            progress.advance(len(chunk))
    return new


def judged(
    team: Sequence[SimulatedAnnotator], image_id: str, truth: Sequence[Defect]
) -> tuple[tuple[Region, ...], dict[str, Any]] | None:
    """What people say of an image.

    Args:
        team: Who is asked.
        image_id: The image.
        truth: Its true defects.

    Returns:
        The first person's regions, and the sample's extras: everybody's mean scores and maps. None where nobody made a
        claim.
    """
    claims = [person.enter(image_id, truth, ()) for person in team]
    made = [claim for claim in claims if claim.status in (AnnotationStatus.CLEAN, AnnotationStatus.DEFECTS)]
    if not made:
        return None
    marked = [[region.defect for region in claim.regions] for claim in made]
    entered = [entered_scores(person, image_id, truth) for person in team]
    means = {name: round(sum(as_share(scores[name]) for scores in entered) / len(entered), 6) for name in NAMES}
    maps = {str(kind): encoded(mean_map(marked, kind)) for kind in DefectType}
    return made[0].regions, {SCORES_KEY: means, MAPS_KEY: maps}


def mean_map(marked: Sequence[Sequence[Defect]], kind: DefectType, side: int = SIZE) -> Floats:
    """(side, side): the mean over people of the share of each cell that each marked."""
    maps = np.zeros((side, side))
    for defects in marked:
        boxes = [defect.box for defect in defects if defect.type is kind]
        if boxes:
            maps += coverage(boxes, side, side).max(axis=0)
    return maps / max(len(marked), 1)


def entered_scores(person: SimulatedAnnotator, image_id: str, truth: Sequence[Defect]) -> dict[str, int]:
    """The scores that a person enters, 1 to 5; a function of seed, person and image.

    Plausibility falls with the artifacts, alignment with the misalignments, aesthetics with half of the artifacts, and
    overall with both.

    Args:
        person: Who enters.
        image_id: The image.
        truth: Its true defects.

    Returns:
        Name -> 1 to 5.
    """
    habit = random.Random(content_id("simulated-taste", person.seed, person.name)).gauss(0, _BIAS)
    mood = random.Random(content_id("simulated-scores", person.seed, person.name, image_id))
    clean = dict.fromkeys(DefectType, 1.0)
    for defect in truth:
        clean[defect.type] *= 1 - defect.importance / 100
    art, mis = clean[DefectType.ARTIFACT], clean[DefectType.MISALIGNMENT]
    right = dict(zip(NAMES, (mis, (1 + art) / 2, art, (art + mis) / 2), strict=True))
    entered = {}
    for name in NAMES:
        value = 1 + (HIGHEST_SCORE - 1) * right[name] + habit + mood.gauss(0, _MOOD)
        entered[name] = min(max(round(value), 1), HIGHEST_SCORE)
    return entered
