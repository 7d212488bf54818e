"""Refining in a store: order, acceptance, lineage, silence, failures, doing it again."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from generators.editors.contract import EditRequest
from schemas.refinement import Edit, EditVerdict, Refinement, RefinementState
from sdg_data.blobs import Blobs
from sdg_data.cli import run
from sdg_data.errors import ModelError
from sdg_data.ids import seed_of
from sdg_data.picture.decode import decode_pixels
from sdg_data.store import failures, images, refinements
from sdg_data.store.connection import Store
from sdg_data.store.digest import store_digest
from sdg_data.work import LocalExecutor
from tests.trainers.refinement.world import PRESET, Brightness, Painter, Seer, job, picture, seen, stage, stored, work
from trainers.refinement.stage import RefineJob

TWO = picture((4, 8), (20, 24))  # importances 18 and 34


def made(store: Store, what: RefineJob) -> tuple[list[Refinement], list[Edit]]:
    with store.read() as tx:
        done = refinements.of_run(tx, what.identity.run_id)
        return done, refinements.edits_of(tx, [refinement.id for refinement in done])


def pixels_of(store: Store, blobs: Blobs, identity: str) -> np.ndarray:
    with store.read() as tx:
        return decode_pixels(blobs.get(images.by_ids(tx, [identity])[identity].blob))[:, :, :3]


def test_defects_go_one_after_another_the_most_important_first(tmp_path: Path) -> None:
    store, blobs, (source, clean) = stored(tmp_path, TWO, picture())
    what, painter = job(), Painter()
    refine = stage(store, blobs, what, painter)
    assert LocalExecutor().execute(refine) == 1
    (done,), edits = made(store, what)
    assert [edit.targets[0].importance for edit in edits] == [34, 18]
    assert [edit.verdict for edit in edits] == [EditVerdict.ACCEPTED, EditVerdict.ACCEPTED]
    assert [edit.parent_id for edit in edits] == [source.id, edits[0].image_id]
    assert done.state is RefinementState.REFINED
    assert done.result_id == edits[1].image_id
    assert (done.rounds, done.before, done.after) == (2, seen(TWO), ())
    # Only the masked square changed in each, although the painter painted everything.
    assert edits[0].image_id is not None
    assert (pixels_of(store, blobs, edits[0].image_id) == picture((4, 8))).all()
    assert (pixels_of(store, blobs, done.result_id) == picture()).all()
    assert "a black square" in painter.requests[0].instruction
    with store.read() as tx:
        kept = images.by_ids(tx, [done.result_id])[done.result_id]
    assert kept.prompt_id == source.prompt_id
    assert kept.model == "refine-painter"
    assert kept.seed == edits[1].seed == seed_of(kept.id)
    assert json.loads(kept.settings)["parent"] == edits[0].image_id
    assert work(store, blobs, what).clean == 1
    assert clean.id not in {edit.parent_id for edit in edits}


def test_nothing_is_done_twice_and_candidates_are_not_refined_themselves(tmp_path: Path) -> None:
    store, blobs, _ = stored(tmp_path, TWO, picture())
    what = job()
    LocalExecutor().execute(stage(store, blobs, what, Painter()))
    before = store_digest(store, blobs)
    again = work(store, blobs, what)
    assert (again.defects, again.done, again.clean, again.edits) == ({}, 1, 1, 2)
    painter = Painter()
    assert LocalExecutor().execute(stage(store, blobs, what, painter)) == 0
    assert painter.requests == []
    assert store_digest(store, blobs) == before


def test_an_edit_that_helps_nothing_is_kept_and_refused_and_rounds_end_it(tmp_path: Path) -> None:
    store, blobs, (source,) = stored(tmp_path, TWO)
    what = job(rounds=3)
    LocalExecutor().execute(stage(store, blobs, what, Painter(lambda _: 0)))
    (done,), edits = made(store, what)
    assert done.state is RefinementState.UNCHANGED
    assert done.result_id == source.id
    assert [edit.verdict for edit in edits] == [EditVerdict.REFUSED] * 2  # each once: again gives the same
    assert all(edit.reasons == ("burden-inside",) for edit in edits)
    assert all(edit.image_id is not None for edit in edits)


def test_of_several_candidates_the_best_is_taken_and_the_budget_ends_it(tmp_path: Path) -> None:
    store, blobs, _ = stored(tmp_path, TWO)
    colours: dict[int, int] = {}

    def colour(request: EditRequest) -> int:
        return colours.setdefault(request.seed, (0, 255, 200)[len(colours) % 3])

    what = job(candidates=3, budget=4)
    LocalExecutor().execute(stage(store, blobs, what, Painter(colour), reward=Brightness()))
    _, edits = made(store, what)
    assert [edit.verdict for edit in edits[:3]] == [EditVerdict.REFUSED, EditVerdict.ACCEPTED, EditVerdict.BEATEN]
    assert len(edits) == 4
    assert edits[1].measured["reward_after"] > edits[2].measured["reward_after"]  # type: ignore[operator]
    assert len({edit.seed for edit in edits}) == 4


def test_candidates_take_the_editors_strengths_in_turn(tmp_path: Path) -> None:
    store, blobs, _ = stored(tmp_path, picture((4, 8)))
    preset = PRESET.model_copy(update={"strengths": (0.6, 1.0)})
    what, painter = replace(job(candidates=3, rounds=1), preset=preset), Painter(lambda _: 0)
    LocalExecutor().execute(stage(store, blobs, what, painter))
    assert [request.strength for request in painter.requests] == [0.6, 1.0, 0.6]
    _, edits = made(store, what)
    with store.read() as tx:
        kept = images.by_ids(tx, [edit.image_id for edit in edits if edit.image_id is not None])
    assert [json.loads(kept[str(edit.image_id)].settings)["strength"] for edit in edits] == [0.6, 1.0, 0.6]


def test_a_reward_that_falls_refuses(tmp_path: Path) -> None:
    store, blobs, _ = stored(tmp_path, TWO)
    what = job(rounds=1)
    LocalExecutor().execute(stage(store, blobs, what, Painter(), reward=Brightness(-1)))
    (done,), edits = made(store, what)
    assert edits[0].reasons == ("reward",)
    assert done.state is RefinementState.UNCHANGED


def test_a_detector_that_does_not_answer_accepts_nothing(tmp_path: Path) -> None:
    store, blobs, (source,) = stored(tmp_path, TWO)
    what = job(rounds=1)
    silent = Seer(lambda pixels: len(seen(pixels)) < 2)
    LocalExecutor().execute(stage(store, blobs, what, Painter(), silent))
    (done,), (edit,) = made(store, what)
    assert (done.state, done.result_id) == (RefinementState.UNCHANGED, source.id)
    assert (edit.verdict, edit.reasons, edit.found) == (EditVerdict.UNANSWERED, ("no-detection",), None)
    with store.read() as tx:
        assert failures.count_by_code(tx, "refine") == {"no-detection": 1}
    assert work(store, blobs, what).incomplete == 1
    # Asked for, it is done again; the first attempt stays in the store, and the second one counts.
    LocalExecutor().execute(stage(store, blobs, what, Painter(), retry=("all",)))
    (done,), (edit,) = made(store, what)
    assert (done.attempt, done.state, edit.verdict) == (2, RefinementState.REFINED, EditVerdict.ACCEPTED)
    assert work(store, blobs, what, retry=("all",)).defects == {}


def test_failures_are_done_again_by_their_codes(tmp_path: Path) -> None:
    store, blobs, (failed, unseen, whole) = stored(tmp_path, picture((4, 8)), picture((8, 8)), picture((12, 8)))
    what = job(rounds=1)

    def colour(request: EditRequest) -> int:
        return -1 if (request.image == picture((4, 8))).all() else 255

    silent = Seer(lambda pixels: (pixels == picture((8, 8))).all())
    LocalExecutor().execute(stage(store, blobs, what, Painter(colour), silent))
    with store.read() as tx:
        assert refinements.incomplete(tx, what.identity.run_id) == {
            failed.id: {"refused"},
            unseen.id: {"no-detection"},
        }
    for codes, due in (
        ((), set()),
        (("timeout",), set()),
        (("refused",), {failed.id}),
        (("no-detection", "timeout"), {unseen.id}),
        (("all",), {failed.id, unseen.id}),
    ):
        todo = work(store, blobs, what, retry=codes)
        assert set(todo.defects) == due
        assert whole.id not in todo.attempts
        assert todo.done == 3 - len(due)


def test_an_image_about_which_the_detector_is_silent_is_not_edited(tmp_path: Path) -> None:
    store, blobs, _ = stored(tmp_path, TWO)
    what, painter = job(), Painter()
    LocalExecutor().execute(stage(store, blobs, what, painter, Seer(lambda _: True)))
    (done,), edits = made(store, what)
    assert (done.state, done.before, edits, painter.requests) == (RefinementState.UNANSWERED, None, [], [])


def test_an_image_that_the_detector_now_calls_clean_is_not_edited(tmp_path: Path) -> None:
    store, blobs, _ = stored(tmp_path, TWO)
    what, painter = job(), Painter()

    class Forgetful(Seer):
        async def detect(self, images):  # type: ignore[no-untyped-def]
            return [type(detection)(()) for detection in await super().detect(images)]

    LocalExecutor().execute(stage(store, blobs, what, painter, Forgetful()))
    (done,), _ = made(store, what)
    assert (done.state, done.before, painter.requests) == (RefinementState.CLEAN, (), [])


def test_a_detector_that_is_gone_for_good_ends_the_run_and_nothing_is_stored(tmp_path: Path) -> None:
    store, blobs, _ = stored(tmp_path, TWO)
    what = job()
    with pytest.raises(ModelError, match="timeout"):
        LocalExecutor().execute(stage(store, blobs, what, Painter(), Seer(lambda _: True, fatal=True)))
    assert made(store, what) == ([], [])


def test_an_editor_that_fails_is_a_failure_record_and_the_next_defect_is_tried(tmp_path: Path) -> None:
    store, blobs, _ = stored(tmp_path, TWO)
    what = job()
    colours = iter([-1, 255, 255])
    LocalExecutor().execute(stage(store, blobs, what, Painter(lambda _: next(colours))))
    _, edits = made(store, what)
    assert [(edit.verdict, edit.image_id is None) for edit in edits] == [
        (EditVerdict.FAILED, True),
        (EditVerdict.ACCEPTED, False),
        (EditVerdict.ACCEPTED, False),
    ]
    with store.read() as tx:
        (failure,) = failures.listed(tx, "refine")
    assert (failure.item_id, failure.code, failure.raw) == (edits[0].id, "refused", "policy")


def test_defects_whose_masks_overlap_are_edited_together(tmp_path: Path) -> None:
    near = picture((4, 8), (8, 8), (24, 24))
    store, blobs, _ = stored(tmp_path, near)
    what = job(cells=1)
    LocalExecutor().execute(stage(store, blobs, what, Painter()))
    _, edits = made(store, what)
    assert [len(edit.targets) for edit in edits] == [1, 2]
    alone = job(cells=1, cluster=False)
    LocalExecutor().execute(stage(store, blobs, alone, Painter()))
    assert {len(edit.targets) for edit in made(store, alone)[1]} == {1}


@pytest.mark.parametrize(("arm", "references"), [("caption", 0), ("sdg", 0), ("heatmaps", 2)])
def test_the_arms_of_the_paper_edit_once(tmp_path: Path, arm: str, references: int) -> None:
    store, blobs, _ = stored(tmp_path, TWO)
    what, painter = job(arm=arm), Painter()
    LocalExecutor().execute(stage(store, blobs, what, painter))
    _, edits = made(store, what)
    assert len(edits) == 1
    assert len(edits[0].targets) == 2
    (request,) = painter.requests
    assert len(request.references) == (1 if arm == "sdg" else references)
    whole = bool((request.mask > 0).all())
    assert whole == (arm == "caption")  # this editor takes masks
    assert edits[0].measured["pixels_changed_outside"] == 0
    assert json.loads(edits[0].mask)["kind"] == {"caption": "whole", "sdg": "boxes", "heatmaps": "heat"}[arm]


def test_a_report_of_a_run_without_edits_has_no_sheet_and_all_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, blobs, (source,) = stored(tmp_path, TWO)
    LocalExecutor().execute(stage(store, blobs, job(), Painter(), Seer(lambda _: True)))
    files = {name: tmp_path / name for name in ("sheet", "results", "study")}
    options = [text for name, path in files.items() for text in (f"--{name}", str(path))]
    assert run(["--home", str(tmp_path), "refine", "report", *options, "--json"]) == 0
    captured = capsys.readouterr()
    assert f"there is nothing to draw, so {files['sheet']} is not written" in captured.err
    assert json.loads(captured.out)
    assert not files["sheet"].exists()
    assert files["results"].read_text().count(source.id) == 0
    assert source.id in (files["study"] / "before.csv").read_text()
