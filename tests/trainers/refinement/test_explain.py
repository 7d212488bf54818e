"""Why accepted edits improved images as far as they did: tables of a run made by hand, with sums done by hand."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from schemas.defect import Defect, DefectType, Subtype
from schemas.geometry import Box
from schemas.records import ImageRecord
from schemas.refinement import Edit, EditVerdict, Refinement, RefinementRun, RefinementState
from sdg_data.cli import run
from sdg_data.ids import canonical_json, content_id
from sdg_data.metrics.refinement import RunRecords, read_run
from sdg_data.work import LocalExecutor
from tests.trainers.refinement.world import Brightness, Painter, image_record, job, picture, stage, stored
from trainers.refinement.explain import explain, judged_edits

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def box(place: int) -> Box:
    return Box(x0=100 * place, y0=0, x1=100 * place + 90, y1=90)


def defect(
    place: int, importance: int, kind: DefectType = DefectType.ARTIFACT, subtype: Subtype | None = None
) -> Defect:
    return Defect(box=box(place), type=kind, subtype=subtype, reason="r", importance=importance)


class Hand:
    """A run that is put together by hand: sources, candidates, and what the judge says."""

    def __init__(self, **acceptance: Any) -> None:
        settings = canonical_json({"acceptance": acceptance, "rewards": [{"kind": "palette"}]})
        self.run = RefinementRun(id=content_id("run", settings), arm="defects", settings=settings, created_at=NOW)
        self.refinements: list[Refinement] = []
        self.edits: list[Edit] = []
        self.images: dict[str, ImageRecord] = {}
        self.judged: dict[str, tuple[Defect, ...]] = {}

    def source(self, name: str, seen: tuple[Defect, ...], judged: tuple[Defect, ...], model: str = "m1") -> str:
        record = image_record(name, prompt=name, model=model)
        self.images[record.id], self.judged[record.id] = record, judged
        self.refinements.append(
            Refinement(
                id=content_id("refinement", name),
                run_id=self.run.id,
                image_id=record.id,
                attempt=1,
                state=RefinementState.UNCHANGED,
                reason=None,
                result_id=record.id,
                rounds=1,
                before=seen,
                after=seen,
                created_at=NOW,
            )
        )
        return record.id

    def edit(
        self,
        verdict: EditVerdict,
        found: tuple[Defect, ...],
        judged: tuple[Defect, ...],
        *,
        strength: float = 1.0,
        reward: float = 1.0,
        **measured: float,
    ) -> None:
        refinement = self.refinements[-1]
        number = sum(edit.refinement_id == refinement.id for edit in self.edits)
        parent = self.images[refinement.image_id]
        record = image_record(f"{parent.id}/{number}", prompt="", model="painter", settings={"strength": strength})
        record = record.model_copy(update={"prompt_id": parent.prompt_id})
        self.images[record.id], self.judged[record.id] = record, judged
        left = sum(defect.importance for defect in found) / 100
        had = sum(defect.importance for defect in refinement.before or ()) / 100
        self.edits.append(
            Edit(
                id=content_id("edit", refinement.id, number),
                refinement_id=refinement.id,
                number=number,
                round=0,
                parent_id=parent.id,
                image_id=record.id,
                targets=refinement.before or (),
                mask="{}",
                instruction="i",
                template="t",
                editor="painter",
                revision="1",
                seed=number,
                found=found,
                measured={
                    "inside_before": had,
                    "inside_after": left,
                    "outside_before": 0.0,
                    "outside_after": 0.0,
                    "burden_before": had,
                    "burden_after": left,
                    "pixels_changed_outside": 0.0,
                    "seam": 1.0,
                    "rim": 0.0,
                    "text_before": 0.0,
                    "text_after": 0.0,
                    "reward_before": 1.0,
                    "reward_after": reward,
                    **measured,
                },
                verdict=verdict,
                reasons=(),
                created_at=NOW,
            )
        )

    def records(self) -> RunRecords:
        return RunRecords(self.run, tuple(self.refinements), tuple(self.edits), self.images)


def told() -> Hand:
    """Three images: one mended, one whose defect was never there, one that got a defect which the detector misses."""
    hand, there = Hand(), defect(1, 60)
    hand.source("mended", (there,), (defect(1, 80),))
    hand.edit(EditVerdict.ACCEPTED, (), (), strength=0.75, reward=1.2)
    hand.edit(EditVerdict.REFUSED, (there,), (defect(1, 40),), strength=1.0)  # the judge sees that it is better
    hand.source("never", (there,), (defect(5, 50),), "m2")
    hand.edit(EditVerdict.ACCEPTED, (defect(1, 30, subtype=Subtype.TEXTURE),), (defect(5, 50), defect(6, 20)))
    hand.source("unseen", (there,), (there,), "m2")
    hand.edit(EditVerdict.ACCEPTED, (), (defect(3, 90, DefectType.MISALIGNMENT),), strength=0.75)
    return hand


def rows(table: list[dict[str, Any]], *keys: str) -> dict[Any, dict[str, Any]]:
    return {tuple(row[key] for key in keys) if len(keys) > 1 else row[keys[0]]: row for row in table}


def test_accepted_edits_by_what_tells_them_apart() -> None:
    hand = told()
    where = rows(explain(hand.records(), hand.judged, resamples=0)["where"], "by", "value")
    first = where["model", "m1"]
    assert (first["candidates"], first["accepted"], first["worse"]) == (2, 1, 0)
    assert (first["before"], first["after"], first["fall"]) == (pytest.approx(0.8), 0, 1)
    other = where["model", "m2"]
    assert (other["candidates"], other["accepted"], other["worse"]) == (2, 2, 2)
    assert other["before"] == pytest.approx((0.5 + 0.6) / 2)
    assert other["after"] == pytest.approx((0.7 + 0.9) / 2)
    assert other["fall"] == pytest.approx(1 - 1.6 / 1.1)
    assert where["strength", "0.75"]["accepted"] == 2
    assert where["strength", "1"]["candidates"] == 2
    assert where["strength", "1"]["accepted"] == 1
    assert where["edited", "artifact, no subtype"]["accepted"] == 3
    assert where["the detector's claim", "confirmed"]["candidates"] == 3
    assert where["the detector's claim", "nothing there"]["accepted"] == 1


def test_the_right_place_with_another_type_is_told_from_a_place_where_nothing_is() -> None:
    hand = Hand()
    hand.source("typed", (defect(1, 60),), (defect(1, 60, DefectType.MISALIGNMENT),))
    hand.edit(EditVerdict.REFUSED, (), ())
    hand.source("mixed", (defect(1, 60), defect(4, 60)), (defect(4, 10),))
    hand.edit(EditVerdict.REFUSED, (), ())
    assert [edit.claim for edit in judged_edits(hand.records(), hand.judged)] == ["another type", "confirmed"]


def test_each_edit_that_is_worse_has_one_cause() -> None:
    hand = told()
    hand.source("heavier", (defect(1, 60),), (defect(1, 60), defect(2, 10)))
    hand.edit(EditVerdict.ACCEPTED, (), (defect(2, 95),))
    causes = {row["cause"]: row["edits"] for row in explain(hand.records(), hand.judged, resamples=0)["worse"]}
    assert causes == {
        "the judge does not see what was edited in the parent": 1,
        "a new defect that the detector does not see": 1,
        "defects that were there weigh more": 1,
    }


def test_other_tests_are_tried_on_the_same_candidates() -> None:
    hand = told()
    tests = rows(explain(hand.records(), hand.judged, resamples=0)["tests"], "test")

    def taken(name: str) -> tuple[int, int]:
        return tests[name]["accepted"], tests[name]["worse"]

    assert {row["rounds"] for row in tests.values()} == {3}
    assert taken("the run's own") == (3, 2)
    assert taken("no new kind of defect") == (2, 1)  # the texture was not there; its run did not measure it
    assert taken("nothing left in the mask") == (2, 1)
    assert taken("nothing left, reward rises by .1") == (1, 0)
    assert taken("its own, where the judge confirms the claim") == (2, 1)
    assert taken("its own, and the judge's burden falls") == (1, 0)
    best = tests["the judge's burden falls, best by the judge"]
    assert (best["accepted"], best["after"]) == (1, 0)


def test_the_limits_of_the_run_are_the_ones_that_it_had() -> None:
    strict = Hand(max_left=0.0)
    strict.source("a", (defect(1, 60),), (defect(1, 60),))
    strict.edit(EditVerdict.REFUSED, (defect(1, 20),), (defect(1, 20),))
    strict.edit(EditVerdict.REFUSED, (defect(1, 30),), (defect(1, 10),))
    tests = rows(explain(strict.records(), strict.judged, resamples=0)["tests"], "test")
    assert tests["the run's own"]["accepted"] == 0
    loose = tests["without the limits on what is left and on new kinds"]
    assert (loose["accepted"], loose["after"]) == (1, pytest.approx(0.2))  # the best in the detector's eyes
    assert tests["the judge's burden falls, best by the judge"]["after"] == pytest.approx(0.1)


def test_what_the_judge_says_nothing_of_is_left_out() -> None:
    hand = told()
    silent = hand.edits[0].image_id
    assert silent is not None
    del hand.judged[silent]
    facts = explain(hand.records(), hand.judged, resamples=0)
    assert rows(facts["where"], "by", "value")["model", "m1"]["candidates"] == 1
    assert rows(facts["tests"], "test")["the run's own"]["accepted"] == 2


def test_a_run_without_candidates_has_tables_without_rows() -> None:
    hand = Hand()
    hand.source("a", (), ())
    facts = explain(hand.records(), hand.judged)
    assert facts["where"] == facts["worse"] == []
    assert {(row["rounds"], row["accepted"], row["fall"]) for row in facts["tests"]} == {(0, 0, None)}


def test_its_own_test_takes_what_the_run_took(tmp_path: Path) -> None:
    """A run of the stage: three squares, of which the painter leaves one that it paints black again."""
    store, blobs, _ = stored(tmp_path, picture((4, 4), (20, 20)), picture((8, 8)))
    what = job(rounds=3, candidates=2)
    shades = iter([255, 250, 0, 255, 255, 0] * 3)
    work = stage(store, blobs, what, Painter(lambda _: next(shades)), reward=Brightness())
    LocalExecutor().execute(work)
    with store.read() as tx:
        records = read_run(tx, what.identity.run_id)
    accepted = sum(edit.verdict is EditVerdict.ACCEPTED for edit in records.edits)
    tests = rows(explain(records, dict.fromkeys(records.images, ()), resamples=0)["tests"], "test")
    assert accepted
    assert tests["the run's own"]["accepted"] == accepted


def test_the_command_wants_a_judge_and_prints_the_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, blobs, _ = stored(tmp_path, picture((4, 4)))
    LocalExecutor().execute(stage(store, blobs, job(), Painter()))
    arguments = ["--home", str(tmp_path), "refine", "report", "--explain"]
    assert run(arguments) == 3
    assert run([*arguments, "--judge", "nobody"]) == 3
    assert "--judge: 'nobody' is no source" in capsys.readouterr().err
    assert run([*arguments, "--judge", "prelabel:seer"]) == 0
    assert "the run's own" in capsys.readouterr().out
    assert run([*arguments, "--judge", "prelabel:seer", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["explained"]) == {"where", "worse", "tests"}
