"""Repair or resample: refinements gone through again with less, and both strategies by every draw."""

import json
import random
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from statistics import mean

import pytest

from schemas.refinement import Edit, EditVerdict, Refinement, RefinementRun, RefinementState
from sdg_data.cli import run
from sdg_data.ids import content_id
from sdg_data.metrics.refinement import RunRecords
from sdg_data.selection.cost import ImageCost, cost_of, cost_rows, mean_cost
from sdg_data.selection.repair import RefinedPools, refined_pools, repair_or_resample, repair_rows, replay
from sdg_data.store import images
from sdg_data.work import LocalExecutor
from tests.trainers.refinement.world import Brightness, Painter, image_record, job, picture, stage, stored

NOW = datetime(2026, 1, 1, tzinfo=UTC)
UNIT = ImageCost(20.0, 2.0)
VERDICTS = {"+": EditVerdict.ACCEPTED, "b": EditVerdict.BEATEN, "-": EditVerdict.REFUSED, "x": EditVerdict.FAILED}


def edits(source: str, *rounds: str, burdens: dict[int, float] | None = None) -> list[Edit]:
    """Candidates by the signs of `VERDICTS`, a word for each round; a smaller burden is the better candidate."""
    made = []
    for number, (place, sign) in enumerate((place, sign) for place, word in enumerate(rounds) for sign in word):
        identity = content_id("image", f"{source}/{number}")
        made.append(
            Edit(
                id=content_id("edit", source, number),
                refinement_id=content_id("refinement", source),
                number=number,
                round=place,
                parent_id=source,
                image_id=None if sign == "x" else identity,
                targets=(),
                mask="{}",
                instruction="i",
                template="t",
                editor="e",
                revision="1",
                seed=number,
                found=(),
                measured={"burden_after": (burdens or {}).get(number, 0.0)},
                verdict=VERDICTS[sign],
                reasons=(),
                created_at=NOW,
            )
        )
    return made


SOURCE = content_id("image", "source")


def tried(found: list[Edit], budget: float, steps: float = 20.0) -> tuple[int | None, int, float]:
    """The number of the candidate that is the result, how many were made, and what they cost."""
    costs = {edit.image_id: ImageCost(steps, 1.0) for edit in found if edit.image_id}
    result = replay(SOURCE, found, costs, UNIT, budget)
    place = next((edit.number for edit in found if edit.image_id == result.image), None)
    assert place is not None or result.image == SOURCE
    return place, result.edits, result.images


def test_a_refinement_with_less_is_the_beginning_of_the_whole() -> None:
    whole = edits(SOURCE, "-+", "b+", "--", burdens={2: 0.5, 3: 0.2})
    assert tried(whole, 0) == (None, 0, 0)
    assert tried(whole, 1) == (None, 1, 1)
    assert tried(whole, 2) == (1, 2, 2)
    assert tried(whole, 3) == (2, 3, 3)  # the better one of its round was not made any more
    assert tried(whole, 4) == (3, 4, 4)
    assert tried(whole, 99) == (3, 6, 6)
    assert tried(whole, 2, steps=10) == (3, 4, 2)
    assert tried(whole, 0.9, steps=15) == (None, 1, 0.75)


def test_an_editor_that_failed_costs_an_image_and_leaves_the_picture() -> None:
    assert tried(edits(SOURCE, "xx"), 1) == (None, 1, 1)
    assert replay(SOURCE, edits(SOURCE, "x"), {}, UNIT, 5).seconds is None
    assert replay(SOURCE, [], {}, UNIT, 5).seconds == 0


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"steps": 20}, 20),
        ({"edit": 1, "editor": json.dumps({"steps": 20}), "strength": 0.75}, 15),
        ({"edit": 1, "editor": json.dumps({"steps": 20, "strength": [1, 0.75]})}, 20),
        ({"edit": 1, "editor": json.dumps({"steps": 8, "strength": 0.5})}, 4),
        ({"edit": 1, "editor": "hosted"}, None),
        ({}, None),
        ({"steps": True}, None),
    ],
)
def test_steps_are_those_of_the_settings(settings: dict[str, object], steps: float | None) -> None:
    assert cost_of(image_record("a", settings=settings, seconds=1.5)) == ImageCost(steps, 1.5)


def test_a_mean_is_unknown_where_one_cost_is() -> None:
    assert mean_cost([ImageCost(10, 1), ImageCost(20, None)]) == ImageCost(15, None)
    assert mean_cost([]) == ImageCost(None, None)


def test_costs_of_the_curve_by_hand() -> None:
    result = {
        "burden": {"rows": [{"n": 2, "images_with_stop": 1.5}]},
        "clip": {"rows": [{"n": 2, "images_with_stop": None}]},
    }
    (row,) = cost_rows(result, ImageCost(20, 0.5))
    assert list(row.values()) == ["burden", 2, "40", "1.00", "30", "0.75"]
    (plain,) = cost_rows({"clip": result["clip"]}, ImageCost(None, None))
    assert set(plain.values()) == {"any", 2, "–"}


def made_up() -> tuple[RefinedPools, dict[str, float], dict[str, float]]:
    """Two pools of six images; every other image has a refinement of four candidates."""
    rng = random.Random(7)
    gold: dict[str, float] = {}
    own: dict[str, float] = {}
    chains: dict[str, list[Edit]] = {}
    costs: dict[str, ImageCost] = {}
    pools: dict[str, tuple[str, ...]] = {}
    for pool in range(2):
        members = tuple(content_id("image", f"{pool}/{k}") for k in range(6))
        pools[f"p{pool}"] = members
        for place, member in enumerate(members):
            gold[member], own[member] = rng.random(), float(rng.randrange(3))
            costs[member] = UNIT
            if place % 2:
                chains[member] = edits(member, "-+", "+b", burdens={2: 0.1, 3: 0.3})
                for edit in chains[member]:
                    assert edit.image_id is not None
                    gold[edit.image_id], costs[edit.image_id] = 1 + rng.random(), UNIT
    return RefinedPools(pools, chains, costs, 0, 0, 6), gold, own


@pytest.mark.parametrize("n", [2, 3, 4, 6])
def test_both_strategies_by_every_draw(n: int) -> None:
    refined, gold, own = made_up()
    (row,) = repair_or_resample(refined, gold, own, numbers=(n,), resamples=0)
    half = n // 2

    def choices(members: tuple[str, ...], size: int) -> list[list[str]]:
        """For each draw the images that the verifier likes best; one of them is taken by lot."""
        draws = combinations(members, size)
        return [[value for value in draw if own[value] == max(own[other] for other in draw)] for draw in draws]

    def repaired(member: str) -> str:
        chain = refined.edits.get(member, ())
        number = {0: None, 1: None, 2: 1, 3: 2}.get(min(n - half, len(chain)), 2)
        return member if number is None or not chain else chain[number].image_id or member

    pools = refined.pools.values()
    resample = mean(mean(mean(gold[value] for value in best) for best in choices(tuple(pool), n)) for pool in pools)
    repair = mean(
        mean(mean(gold[repaired(value)] for value in best) for best in choices(tuple(pool), half)) for pool in pools
    )
    assert row["resample"] == pytest.approx(resample)
    assert row["repair"] == pytest.approx(repair)
    assert row["difference"] == pytest.approx(repair - resample)
    assert row["resample_cost"] == asdict(UNIT.times(n))
    assert half <= row["repair_images"] <= n
    assert row["repair_cost"]["steps"] == pytest.approx(20 * row["repair_images"])
    assert row["edits"] == pytest.approx(row["repair_images"] - half)
    assert repair_rows([row])[0]["N"] == n


def test_pools_without_gold_and_pools_that_are_too_small_are_counted() -> None:
    members = [image_record(name, settings={"steps": 20}) for name in ("a", "b", "c", "d", "e")]
    a, b, c, d, e = (record.id for record in members)
    chain = [edit.model_copy(update={"refinement_id": content_id("refinement", a)}) for edit in edits(a, "-+")]
    made = RefinementRun(id=content_id("run", ""), arm="sdg", settings="{}", created_at=NOW)
    refinement = Refinement(
        id=content_id("refinement", a),
        run_id=made.id,
        image_id=a,
        attempt=1,
        state=RefinementState.REFINED,
        reason=None,
        result_id=a,
        rounds=1,
        before=(),
        after=(),
        created_at=NOW,
    )
    records = RunRecords(made, (refinement,), tuple(chain), {})
    pools = {"whole": (a, b), "small": (c,), "silent": (d, e)}
    gold = dict.fromkeys([a, b, c, d, *(edit.image_id or "" for edit in chain)], 0.5)
    refined = refined_pools(pools, records, {}, gold, 2)
    assert list(refined.pools) == ["whole"]
    assert (refined.too_small, refined.without_gold, refined.not_refined) == (1, 1, 1)
    del gold[chain[0].image_id or ""]
    assert refined_pools(pools, records, {}, gold, 2).without_gold == 2


def test_the_command_over_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Four samples of one prompt with one, two, no and one square; the painter mends them all."""
    pictures = [picture((4, 4)), picture((4, 4), (20, 20)), picture(), picture((8, 8))]
    store, blobs, records = stored(tmp_path, *pictures)
    LocalExecutor().execute(stage(store, blobs, job(rounds=1), Painter(), reward=Brightness()))
    with store.read() as tx:
        made = list(images.page(tx, models=["refine-painter"]))
    assert all(record.seconds is not None and record.seconds > 0 for record in made)
    table = tmp_path / "gold.csv"
    rows = [f"{record.id},{k}" for k, record in enumerate(records)] + [f"{edit.id},10" for edit in made]
    table.write_text("image_id,score\n" + "\n".join(rows) + "\n", encoding="utf-8")
    command = ["--home", str(tmp_path), "select", "repair", "--verifier", "seer=prelabel:seer"]
    assert run([*command, "--gold", str(table), "--n", "2,4", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["prompts"], facts["not_refined"]) == (1, 1)
    pair, four = facts["rows"]
    assert four["resample"] == 2  # the clean one
    assert four["repair"] == pytest.approx((3 * 2 + 3 * 10) / 6)  # it is among half of the pairs, else a mended one is
    assert pair["repair"] == pytest.approx((10 + 10 + 2 + 10) / 4)
    assert four["edits"] == pytest.approx(0.5)
    assert run([*command, "--gold", str(table), "--n", "2,8"]) == 3
    assert run([*command, "--gold", str(table), "--n", "1"]) == 3
    assert run([*command, "--gold", str(table), "--run", "beef"]) == 4


def test_edits_are_no_samples_unless_their_model_is_asked_for(tmp_path: Path) -> None:
    store, blobs, records = stored(tmp_path, picture((4, 4)), picture((8, 8)))
    LocalExecutor().execute(stage(store, blobs, job(), Painter()))
    out = tmp_path / "best.txt"
    command = ["--home", str(tmp_path), "select", "run", "--verifier", "seer=prelabel:seer", "--out", str(out)]
    assert run(command) == 0
    kept = [line for line in out.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert kept == [records[0].id]
    with store.read() as tx:
        made = sorted(record.id for record in images.page(tx, models=["refine-painter"]))
    table = tmp_path / "scores.csv"
    table.write_text("image_id,score\n" + "".join(f"{edit},{k}\n" for k, edit in enumerate(made)), encoding="utf-8")
    named = ["--verifier", f"table={table}", "--models", "refine-painter", "--out", str(out)]
    assert run(["--home", str(tmp_path), "select", "run", *named]) == 0
    assert made[-1] in out.read_text(encoding="utf-8")
