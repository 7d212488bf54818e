"""Pairs and rankings, by hand and from a store with several images of one prompt."""

import json
from pathlib import Path
from typing import Any

from exports.dataset.select import Selection
from exports.files.target import Target
from exports.formats.preferences import pairs_of, ranking_of
from exports.run import run_export
from schemas.defect import Defect
from schemas.geometry import Box
from sdg_data.blobs import Blobs
from sdg_data.store import annotations, images, prompts, reviews
from sdg_data.store.connection import Store
from tests.exports.worlds import accepted, person, png, record


def image(key: str, quality: float) -> dict[str, Any]:
    return {"key": key, "quality": quality, "prompt": "p", "prompt_id": "i", "model": "m", "image": f"{key}.png"}


def test_pairs_need_a_difference_of_the_margin() -> None:
    group = [image("b", 0.5), image("a", 0.9), image("c", 0.45), image("d", 0.5)]
    found = [(pair["chosen_key"], pair["rejected_key"], pair["difference"]) for pair in pairs_of(group, 0.05)]
    assert found == [("a", "b", 0.4), ("a", "d", 0.4), ("a", "c", 0.45), ("b", "c", 0.05), ("d", "c", 0.05)]
    assert [pair["chosen_key"] for pair in pairs_of(group, 0.42)] == ["a"]
    assert list(pairs_of([image("a", 0.5), image("b", 0.5)], 0)) == [], "equals make no pair, whatever the margin"


def test_rankings_are_dense() -> None:
    ranking = ranking_of([image("b", 0.5), image("a", 0.9), image("c", 0.45), image("d", 0.5)])
    assert ranking["keys"] == ["a", "b", "d", "c"]
    assert ranking["ranks"] == [1, 2, 2, 3]


def test_from_a_store(tmp_path: Path) -> None:
    import numpy as np

    store, blobs = Store(tmp_path / "home"), Blobs(tmp_path / "home" / "blobs")
    importances = [0, 30, 90]
    with store.write() as tx:
        for number, importance in enumerate(importances):
            data = png(np.full((8, 8, 3), number, np.uint8))
            blobs.put(data)
            picture, prompt = record("one prompt", data, number)
            box = Box(x0=1, y0=1, x1=9, y1=9)
            first = Defect(box=box, type="artifact", reason="r", importance=1)
            second = Defect(box=box, type="artifact", reason="r", importance=importance or 1)
            said = person(picture, (first, second) if importance else (), number)
            prompts.insert(tx, [prompt])
            images.insert(tx, [picture])
            annotations.insert(tx, [said])
            reviews.insert(tx, [accepted(said, number)])
    target = Target(tmp_path / "out")
    run_export(store, blobs, target, format_name="preferences", name="p", selection=Selection())
    (pairs,) = (tmp_path / "out").glob("*-pairs.jsonl")
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    # 1; .5 * .7; .5 * .1: the first defect of each is unrated and counts 50.
    assert [row["difference"] for row in rows] == [0.65, 0.95, 0.3]
    (rankings,) = (tmp_path / "out").glob("*-rankings.jsonl")
    (ranking,) = (json.loads(line) for line in rankings.read_text().splitlines())
    assert ranking["quality"] == [1, 0.35, 0.05]
    assert all((tmp_path / "out" / path).is_file() for path in ranking["images"])
