"""What to label next: each policy by hand."""

import json
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from annotate.review.next_images import (
    PRIOR,
    Candidate,
    Corrected,
    RankingPolicy,
    candidates,
    changed,
    corrections,
    expected_errors,
    gravest,
    rank,
    severity,
    spread,
)
from schemas.defect import Defect
from schemas.records import Prelabel
from sdg_data.cli import app
from sdg_data.ids import content_id
from sdg_data.store import annotations
from sdg_data.store.prelabels import Prelabeller
from tests.annotate.labelstudio.fake import FakeLabelStudio
from tests.annotate.labelstudio.support import images_of, labelled_home, routed, session_for
from tests.sdg_data.store.makers import annotation, defect, prelabel

OTHER = Prelabeller("other", "r1", "detect-1:aa", "{}")


def image(name: str) -> str:
    return content_id("test-image", name)


def candidate(name: str, *answers: Prelabel, model: str = "m") -> Candidate:
    return Candidate(image(name), model, answers, answers[-1] if answers else None)


def names(policy: RankingPolicy, pool: list[Candidate], corrected: list[Corrected] | None = None) -> list[str]:
    known = {image(name): name for name in "abcdefgh"}
    return [known[ranked.candidate.image_id] for ranked in rank(pool, policy, corrected or [])]


def said(name: str, *defects: Defect, by: Prelabeller = OTHER) -> Prelabel:
    return prelabel(image(name), *defects, by=by)


def test_severity_is_one_minus_what_every_defect_spares() -> None:
    assert severity([]) == 0
    assert severity([defect(importance=50), defect(importance=20)]) == pytest.approx(1 - 0.5 * 0.8)


def test_detectors_that_differ_in_gravity_spread() -> None:
    first, second = said("a"), prelabel(image("a"), defect(importance=60))
    assert spread([first, second]) == pytest.approx(0.6)  # 0 and .6: the standard deviation is .3
    assert spread([first]) == 0
    assert spread([first, said("a", defect(importance=60))]) == 0, "of one detector the last answer counts"


def test_spread_and_disagreement_are_not_the_same() -> None:
    boxes = candidate("a", prelabel(image("a"), defect(100, importance=50)), said("a", defect(500, importance=50)))
    gravity = candidate("b", prelabel(image("b"), defect(100, importance=5)), said("b", defect(100, importance=95)))
    assert names(RankingPolicy.DETECTORS, [boxes, gravity]) == ["a", "b"]
    assert names(RankingPolicy.SPREAD, [boxes, gravity]) == ["b", "a"]


def test_doubtful_answers_come_first() -> None:
    slight = candidate("a", said("a", defect(importance=10)))
    grave = candidate("b", said("b", defect(importance=95)))
    assert names(RankingPolicy.UNCERTAINTY, [grave, slight, candidate("c")]) == ["c", "a", "b"]


def test_what_people_corrected_is_expected_in_images_alike() -> None:
    texture, edge = ("m", "texture"), ("m", "edge")
    corrected = [Corrected(texture, 1.0, True)] * 5 + [Corrected(edge, 0.0, True)] * 5
    learned, mean = expected_errors(corrected)
    assert mean == 0.5
    assert learned[texture] == pytest.approx((5 + PRIOR * 0.5) / (5 + PRIOR))
    pool = [
        candidate("a", said("a", defect(subtype="edge"))),
        candidate("b", said("b", defect(subtype="texture"))),
        candidate("c", said("c")),
    ]
    assert names(RankingPolicy.CORRECTIONS, pool, corrected) == ["b", "c", "a"]


def test_blind_answers_count_and_others_only_where_there_are_none() -> None:
    group, other = ("m", "edge"), ("m", "text")
    learned, mean = expected_errors(
        [Corrected(group, 1.0, True), Corrected(group, 0.0, False), Corrected(other, 0.2, False)]
    )
    assert mean == pytest.approx(0.6)
    assert learned[group] == pytest.approx((1 + PRIOR * 0.6) / (1 + PRIOR))
    assert learned[other] == pytest.approx((0.2 + PRIOR * 0.6) / (1 + PRIOR))


def test_what_a_person_made_of_a_prelabel() -> None:
    machine = prelabel(image("a"), defect(100), defect(500, importance=90, subtype="edge"))
    kept = annotation(image("a"), "one", defect(100))
    assert changed("m", machine, kept) == Corrected(("m", "edge"), pytest.approx(1 - 2 / 3), True)  # type: ignore[arg-type]


def test_coverage_takes_from_each_group_in_turn_and_minds_what_was_done() -> None:
    many = [candidate(name, said(name, defect(subtype="edge"))) for name in "abcdef"]
    few = [candidate(name, said(name, defect(subtype="text")), model="rare") for name in "gh"]
    first = names(RankingPolicy.COVERAGE, [*many, *few])
    assert len({"g", "h"} & set(first[:4])) == 2
    after = names(RankingPolicy.COVERAGE, [*many, *few], [Corrected(("m", "edge"), 0.5, True)] * 3)
    assert set(after[:2]) == {"g", "h"}


def test_random_is_by_hash_and_equal_scores_too() -> None:
    pool = [candidate(name) for name in "abcdefgh"]
    assert names(RankingPolicy.RANDOM, pool) == names(RankingPolicy.RANDOM, pool[::-1]) != list("abcdefgh")
    assert names(RankingPolicy.DETECTORS, pool) == names(RankingPolicy.DETECTORS, pool[::-1])


def test_the_gravest_defect_names_the_group() -> None:
    assert gravest([]) == "clean"
    assert gravest([defect(importance=5, subtype="edge"), defect(importance=70)]) == "artifact"


def test_what_went_to_people_is_no_candidate_and_answers_teach(tmp_path: Path) -> None:
    home = labelled_home(tmp_path, 10)
    work = session_for(home, FakeLabelStudio().client())
    work.init()
    work.push_images(routed(home)[:4])
    done = images_of(home)[5]
    with home.store.write() as tx:
        annotations.insert(tx, [annotation(done.id, "one", defect())])
    with home.store.read() as tx:
        pool, learned = candidates(tx), corrections(tx)
    assert {candidate.image_id for candidate in pool} == {
        image.id for k, image in enumerate(images_of(home)) if k >= 4 and k != 5
    }
    assert [(candidate.group[0], candidate.error, candidate.blind) for candidate in learned] == [("m", 1.0, True)]

    listed = tmp_path / "next.txt"
    command = ["--home", str(tmp_path), "annotate", "next", "--limit", "3", "--json"]
    ended = CliRunner().invoke(app, [*command, "--by", "coverage", "--output", str(listed)])
    assert ended.exit_code == 0, ended.output
    chosen = [row["image"] for row in json.loads(ended.stdout)]
    assert len(chosen) == 3
    assert [line for line in listed.read_text().splitlines() if not line.startswith("#")] == chosen
    assert CliRunner().invoke(app, [*command, "--by", "luck"]).exit_code != 0
    assert Counter(len(candidate.answers) for candidate in pool) == {1: 5}
