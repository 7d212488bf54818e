"""Hours, blind, agreement, ceiling and first verdicts: the report, the dashboard, the card and the evaluation agree.

And they agree with a count by hand, over stores in which people answered twice, edited, skipped, reviewed with and
without a correction, and in which things were withdrawn.
"""

import random
from pathlib import Path

import pytest

pytest.importorskip("gradio")

from annotate.review import progress, report
from exports.describe.statistics import people as card_people
from schemas.defect import DEFECT_TYPES
from schemas.records import Annotation, AnnotationStatus, Tombstone, Withdrawn
from sdg_data.dashboard.app import make_context
from sdg_data.dashboard.pages import overview
from sdg_data.dashboard.pages.agreement import aggregates
from sdg_data.metrics.ceiling import overlapping, second_opinions
from sdg_data.metrics.protocol import Protocol
from sdg_data.metrics.sdg_eval import evaluate, pair_up
from sdg_data.metrics.store_sources import Filter
from sdg_data.store import annotations, prelabels, review_cases, reviews, snapshot, tombstones
from tests.sdg_data.dashboard.conftest import Filled, fill, random_defects
from tests.sdg_data.store.makers import annotation, at, review


def busier(home: Path, seed: int) -> tuple[Filled, float, int]:
    """The dashboard's store with reviewers' answers and more; its hours and blind verdicts, counted by hand."""
    made = fill(home, 12)
    rng = random.Random(seed)
    alive = [annotation for annotation in made.annotations if annotation.image_id != made.gone]
    gone_machine = made.prelabels[4]
    seconds = sum(annotation.seconds or 0 for annotation in alive) + sum(review.seconds or 0 for review in made.reviews)
    own = {(annotation.image_id, annotation.annotator): annotation for annotation in alive}
    more: list[Annotation] = []
    judged, answers = [], {}
    for n, before in enumerate(alive):
        spent = float(rng.randint(5, 400))
        match rng.randrange(5):
            case 0:  # a reviewer leaves it as it is: an answer and a review with the same seconds, which count once
                answer = annotation(
                    before.image_id, f"same {n}", *[region.defect for region in before.defects],
                    annotator="rex", round=2, parent_id=before.id, seconds=spent, minute=2000 + n,
                )  # fmt: skip
                verdict = review(before, "accepted", reviewer="rex", round=2, seconds=spent, minute=2000 + n)
                answers[verdict.id] = answer.id
            case 1:  # a reviewer corrects it
                answer = annotation(
                    before.image_id, f"other {n}", *random_defects(rng), annotator="rex", round=2,
                    parent_id=before.id, seconds=spent, minute=2000 + n,
                )  # fmt: skip
                verdict = review(
                    before, "corrected", result=answer, reviewer="rex", round=2, seconds=spent, minute=2000 + n
                )
            case 2:  # the same person again, who saw nothing this time: the last word counts
                answer = annotation(
                    before.image_id, f"again {n}", *random_defects(rng), annotator=before.annotator, seconds=spent,
                    minute=2000 + n,
                )  # fmt: skip
                verdict = None
                own[before.image_id, before.annotator] = answer
            case 3:  # a skip by another, of which only the time counts
                answer = annotation(
                    before.image_id, f"skip {n}", annotator="sam", status=AnnotationStatus.SKIPPED, seconds=spent,
                    minute=2000 + n,
                )  # fmt: skip
                verdict = None
            case _:
                continue
        more.append(answer)
        seconds += spent
        judged += [verdict] if verdict is not None else []
    machine = {prelabel.image_id for prelabel in made.prelabels} - {gone_machine.image_id}
    blind = sum(prelabel.prelabel_id is None and prelabel.image_id in machine for prelabel in own.values())
    with made.store.write() as tx:
        annotations.insert(tx, more)
        reviews.insert(tx, judged)
        review_cases.insert_answers(tx, answers)
        gone = Tombstone(kind=Withdrawn.PRELABEL, item_id=gone_machine.id, reason="wrong", source="t", created_at=at(1))
        tombstones.insert(tx, [gone])
    snapshot.publish(made.store)
    return made, seconds / 3600, blind


@pytest.mark.parametrize("seed", range(4))
def test_all_say_the_same(seed: int, tmp_path: Path) -> None:
    made, hours, blind = busier(tmp_path / "home", seed)
    with made.store.read() as tx:
        assert prelabels.of_images(tx, [made.prelabels[4].image_id]) == {}
    check_all_say_the_same(made, hours, blind)


def odd(home: Path) -> tuple[Filled, float, int]:
    """A store of odd people: its hours and blind verdicts, counted by hand."""
    made = fill(home, 4)
    seconds = sum(item.seconds or 0 for item in made.annotations if item.image_id != made.gone)
    seconds += sum(verdict.seconds or 0 for verdict in made.reviews)
    machine = {prelabel.image_id for prelabel in made.prelabels} - {made.gone}
    blind = sum(
        item.prelabel_id is None and item.image_id in machine for item in made.annotations if item.image_id != made.gone
    )
    free, bare = made.images[1], made.images[-1]
    assert made.gone not in {free.id, bare.id}
    own, day, left_open = made.annotations[0], 86_400.0, 9 * 86_400.0
    later = {"parent_id": own.id, "round": 2}
    skipped = {"status": AnnotationStatus.SKIPPED}
    odd_ones = [
        # The browser was left open for nine days, and one answer has no time at all.
        annotation(free.id, "nine days", *random_defects(random.Random(1)), annotator="ole", seconds=left_open),
        annotation(free.id, "no time", annotator="nina", seconds=None),
        # A skip, alone on its image, and a skip after an answer: the last word counts, all of the time does.
        annotation(bare.id, "skip", annotator="sam", seconds=30.0, **skipped),
        annotation(free.id, "answer", annotator="sam", seconds=40.0),
        annotation(free.id, "then skip", annotator="sam", seconds=50.0, minute=5, **skipped),
        # Another than its annotator edited it; the clock of that machine was a year ahead.
        annotation(own.image_id, "edited by ed", annotator="ed", seconds=day, minute=525_600, **later),
        # Names that are not in an address book, one of them of a deleted account.
        annotation(free.id, "deleted", annotator="deleted-user-7", seconds=0.0),
        annotation(free.id, "emoji", *random_defects(random.Random(2)), annotator="\u202eolga 🦊 'x\"", seconds=1e-3),
    ]
    with made.store.write() as tx:
        annotations.insert(tx, odd_ones)
    snapshot.publish(made.store)
    seconds += sum(item.seconds or 0 for item in odd_ones)
    return made, seconds / 3600, blind + 4  # ole, nina, the deleted account and the fox


def test_all_say_the_same_of_odd_people(tmp_path: Path) -> None:
    check_all_say_the_same(*odd(tmp_path / "home"))


def check_all_say_the_same(made: Filled, hours: float, blind: int) -> None:
    report_ = report.build(made.store, resamples=0)
    with made.store.read() as tx:
        shared = overlapping(tx, Filter())
    ceiling = evaluate(pair_up(*second_opinions(shared), Protocol.PAPER), resamples=0).summary
    card = card_people(made.store, [image.id for image in made.images])
    context = make_context(made.home, made.blobs)
    assert context.snapshots.refresh() is not None
    with context.snapshots.read() as tx:
        assert tx is not None
        tiles, rows = overview.totals(tx), overview.people(tx)
        agreed, bias = aggregates.people_agreement(tx), aggregates.blind_or_not(tx)
        speed = {row["who"]: (row["hours"], row["seconds_a_verdict"]) for row in aggregates.annotators(tx)}
        going = {row.person: row.hours for row in progress.progress(tx)}
    assert agreed is not None
    assert bias is not None

    assert sum(report_.hours.values()) == pytest.approx(hours)
    assert tiles.hours == pytest.approx(hours)
    assert sum(row["hours"] or 0 for row in rows) == pytest.approx(hours)
    by_work = {work: sum(row["hours"] or 0 for row in rows if row["work"] == work) for work in report_.hours}
    assert by_work == pytest.approx(dict(report_.hours))
    assert {row.annotator: (row.hours, row.median_seconds) for row in report_.people} == speed
    of_person: dict[str, list[float | None]] = {}
    for row in rows:
        of_person.setdefault(row["who"], []).append(row["hours"])
    for who, parts in of_person.items():
        known = [part for part in parts if part is not None]
        assert going[who] == (pytest.approx(sum(known)) if known else None)
    assert not {row["mode"] for row in rows if row["who"] == "rex"} - {"review"}

    assert report_.bias.blind.annotations == bias.blind.annotations == card["modes"]["blind"]["annotations"] == blind
    assert report_.bias.prelabelled.annotations == bias.prelabelled.annotations
    assert report_.bias.prelabelled.annotations == card["modes"]["prelabelled"]["annotations"]
    assert report_.bias.blind.missed.value == bias.blind.missed.value
    assert report_.bias.blind.seconds.value == bias.blind.seconds.value
    assert report_.bias.blind.median_seconds.value == card["modes"]["blind"]["seconds"]

    assert report_.agreement.images == agreed.agreed.images == card["ceiling"]["images"] == len(shared)
    for kind in DEFECT_TYPES:
        value = report_.agreement.box_f1["0.5"][kind].value
        assert value == agreed.agreed.box_f1["0.5"][kind].value == card["ceiling"][kind]
    assert agreed.ceiling.summary["boxes"] == ceiling["boxes"]
    assert agreed.ceiling.summary["image_level"] == ceiling["image_level"]
