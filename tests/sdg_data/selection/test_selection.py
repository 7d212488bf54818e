"""Choosing among a prompt's images: scores, ensembles and curves by brute force, and the commands over a store."""

import json
import math
import random
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau
from typer.testing import CliRunner

from schemas.defect import Defect
from schemas.records import ImageRecord, Prompt, Split
from sdg_data.errors import ConfigError, InputError
from sdg_data.ids import image_id, prompt_id
from sdg_data.metrics.tables import DefectTable
from sdg_data.selection.cli import usual_sizes
from sdg_data.selection.curve import curve, expected_images, judged_pools
from sdg_data.selection.figure import draw
from sdg_data.selection.sources import table_scores
from sdg_data.selection.verifiers import burden_scores, mean_rank, pair_accuracy, pessimistic
from sdg_data.store import image_list, images, prelabels, prompts
from sdg_data.store.connection import Store
from tests.sdg_data.store.makers import at, defect, prelabel


def table(*rows: tuple[str, list[Defect] | None]) -> DefectTable:
    return DefectTable.from_defects(rows)


def test_burdens_by_hand() -> None:
    heavy = [defect(importance=80), defect(200, type="misalignment", importance=20)]
    scores = burden_scores(table(("a", heavy), ("clean", []), ("silent", None)), (1.0, 0.5))
    assert scores["a"] == pytest.approx(-(0.8 + 0.5 * 0.2))
    assert scores["clean"] == 0
    assert math.copysign(1, scores["clean"]) == 1
    assert math.isnan(scores["silent"])


def test_ensembles_by_hand() -> None:
    pools = {"p": ("a", "b", "c"), "q": ("d",)}
    first = {"a": 1.0, "b": 2.0, "c": 2.0, "d": 5.0}
    second = {"a": 30.0, "b": 10.0, "c": 20.0, "d": math.nan}
    ranks = mean_rank([first, second], pools)
    assert (ranks["a"], ranks["b"], ranks["c"]) == ((1 + 3) / 2, (2.5 + 1) / 2, (2.5 + 2) / 2)
    assert math.isnan(ranks["d"])
    plain, wary = (pessimistic([first, second], pools, penalty) for penalty in (0.0, 1.0))
    # The scores of the first have mean 2.5 and deviation 1.5, those of the second 20 and √(200/3).
    a = ((1 - 2.5) / 1.5, (30 - 20) / math.sqrt(200 / 3))
    assert plain["a"] == pytest.approx(sum(a) / 2)
    assert wary["a"] == pytest.approx(sum(a) / 2 - abs(a[0] - a[1]) / 2)
    assert math.isnan(wary["d"])


def test_pairs_against_scipy() -> None:
    rng = random.Random(2)
    gold = {str(k): float(rng.randrange(4)) for k in range(40)}
    own = {str(k): float(rng.randrange(4)) for k in range(40)}
    counts = pair_accuracy(gold, own, {"p": tuple(gold)})
    assert counts.tau == pytest.approx(kendalltau(list(gold.values()), list(own.values())).statistic)
    assert sum(counts) == 40 * 39 / 2
    silent = {**own, "0": math.nan}
    assert sum(pair_accuracy(gold, silent, {"p": tuple(gold)})) == 39 * 38 / 2
    assert pair_accuracy(gold, own, {"p": ("1",)}).accuracy is None


def test_the_curve_by_every_draw() -> None:
    rng = random.Random(4)
    pools = {f"p{p}": tuple(f"{p}-{k}" for k in range(6)) for p in range(3)}
    members = [image for pool in pools.values() for image in pool]
    gold = {image: rng.random() for image in members}
    own = {image: -float(rng.randrange(3)) for image in members}
    judged = judged_pools(pools, gold, 4)
    facts = curve(judged, gold, {"own": own}, numbers=(1, 2, 4), resamples=0)["own"]
    for row in facts["rows"]:
        n = row["n"]
        chosen, mine, made = [], [], []
        for pool in pools.values():
            for draw_ in combinations(pool, n):
                best = max(own[image] for image in draw_)
                top = [image for image in draw_ if own[image] == best]
                chosen.append(sum(gold[image] for image in top) / len(top))
                mine.append(best)
        assert row["chosen"] == pytest.approx(np.mean(chosen))
        assert row["own"] == pytest.approx(np.mean(mine))
        for pool in pools.values():
            zeros = sum(own[image] == 0 for image in pool)
            rows_ = [rng.sample(pool, 6) for _ in range(4000)]
            made.append(np.mean([next((k + 1 for k, i in enumerate(r[:n]) if own[i] == 0), n) for r in rows_]))
            assert made[-1] == pytest.approx(expected_images(zeros, 6, n), abs=0.08)
        assert row["images_with_stop"] == pytest.approx(np.mean(made), abs=0.05)
    assert facts["rows"][0]["chosen"] == pytest.approx(facts["rows"][0]["random"])
    svg = draw({"a <b>": facts}, "gold")
    assert "a &lt;b&gt;" in svg
    assert svg.count("<circle") == 3


def test_a_detector_that_never_answers_chooses_like_chance() -> None:
    pools = {"p": ("a", "b", "c")}
    gold = {"a": -1.0, "b": 0.0, "c": -3.0}
    silent = curve(judged_pools(pools, gold, 2), gold, {"s": {}}, numbers=(1, 2), resamples=0)["s"]
    assert silent["unjudged"] == 3
    assert [row["chosen"] for row in silent["rows"]] == pytest.approx([-4 / 3] * 2)
    assert silent["rows"][1]["images_with_stop"] == 2


def test_what_has_no_gold_is_counted() -> None:
    judged = judged_pools({"p": ("a", "b"), "q": ("c", "d")}, {"a": 1.0, "b": 2.0, "c": math.nan}, 2)
    assert (list(judged.pools), judged.without_gold, judged.too_small) == (["p"], 2, 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image_id\na\n", "columns image_id and score"),
        ("image_id,score\na,x\n", "no number"),
        ("image_id,score\na,1\na,2\n", "twice"),
        ("image_id,score\na,inf\n", "infinite"),
        ("image_id,score\n", "empty"),
    ],
)
def test_wrong_tables_name_their_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "scores.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        table_scores(path, "score")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Two prompts with four images each; the detector found 0..3 defects, and was not asked about prompt b's."""
    texts = [Prompt(id=prompt_id(t), text=t, source="t", licence=None, split=Split.TRAIN) for t in ("a", "b")]
    records = [
        ImageRecord(
            id=image_id(prompt.id, "m", "r", sample, "{}"), prompt_id=prompt.id, model="m", revision="r", sample=sample,
            seed=None, settings="{}", blob=f"{sample:064x}", media_type="image/png", width=8, height=8, bytes=9,
            licence="x", source="generated", tool="t", seconds=None, created_at=at(0),
        )
        for prompt in texts
        for sample in range(4)
    ]  # fmt: skip
    with Store(tmp_path).write() as tx:
        prompts.insert(tx, texts)
        images.insert(tx, records)
        prelabels.insert(
            tx,
            [
                prelabel(record.id, *[defect(100 * k, importance=50) for k in range(3 - record.sample)])
                for record in records
                if record.prompt_id == texts[0].id
            ],
        )
    (tmp_path / "scores.csv").write_text(
        "image_id,score\n" + "".join(f"{record.id},{record.sample}\n" for record in records)
    )
    return tmp_path


def call(home: Path, *arguments: str) -> Any:
    from sdg_data.cli import app

    return CliRunner().invoke(app, ["--home", str(home), "select", *arguments])


def test_run_chooses_and_counts_whom_nobody_judged(home: Path) -> None:
    out = home / "best.txt"
    done = call(home, "run", "--verifier", "d=prelabel:vlm", "--out", str(out), "--json")
    assert done.exit_code == 10
    with Store(home).read() as tx:
        (chosen,) = image_list.read_known(tx, out)
        assert images.by_ids(tx, [chosen])[chosen].sample == 3
    assert json.loads(done.stdout)["chosen"] == 1
    of_two = call(home, "run", "--verifier", f"t={home}/scores.csv", "--of", "2", "--out", str(out))
    assert of_two.exit_code == 0
    with Store(home).read() as tx:
        assert {record.sample for record in images.by_ids(tx, image_list.read_known(tx, out)).values()} == {1}


def test_curve_over_a_store(home: Path) -> None:
    arguments = ["curve", "--gold", f"{home}/scores.csv", "--verifier", "d=prelabel:vlm", "--n", "1,2,4"]
    done = call(home, *arguments, "--verifier", "both=mean-rank:d", "--figure", str(home / "c.svg"), "--json")
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)["verifiers"]
    # Prompt a is chosen rightly (1.5, 5·1/3…), prompt b by chance: at n = 4 the means are (3 + 1.5) / 2.
    assert facts["d"]["rows"][2]["chosen"] == pytest.approx((3 + 1.5) / 2)
    assert facts["both"]["rows"][2]["chosen"] == pytest.approx((3 + 1.5) / 2)
    assert facts["d"]["unjudged"] == 4
    assert "<svg" in (home / "c.svg").read_text()
    assert "regret" in call(home, *arguments).stdout
    of_itself = call(home, *arguments[:-2], "--json")  # four images a prompt: n up to four without `--n`
    assert [row["n"] for row in json.loads(of_itself.stdout)["verifiers"]["d"]["rows"]] == [1, 2, 4]


def test_the_sizes_are_those_that_half_of_the_prompts_have() -> None:
    pools = {name: ["image"] * count for name, count in {"a": 3, "b": 9, "c": 8, "d": 1}.items()}
    assert usual_sizes(pools, least=1) == [1, 2, 4, 8]
    assert usual_sizes({"a": ["image"]}, least=2) == [2]
    assert usual_sizes({}, least=1) == [1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--verifier", "d"],
        ["--verifier", "d=nothing"],
        ["--verifier", "e=mean-rank:x"],
        ["--verifier", "d=prelabel:vlm", "--n", "9"],
        ["--verifier", "d=prelabel:vlm", "--n", "0"],
        ["--verifier", "d=prelabel:vlm", "--n", "x"],
    ],
)
def test_wrong_questions_are_refused(home: Path, arguments: list[str]) -> None:
    failed = call(home, "curve", "--gold", f"{home}/scores.csv", *arguments)
    assert isinstance(failed.exception, ConfigError)
