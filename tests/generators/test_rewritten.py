"""What an image was drawn from, where its model rewrote the prompt: written beforehand, stored, shown."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from annotate.labelstudio.task_body import shown_prompt
from generators.models.loading import adapt
from sdg_data import cli
from sdg_data.blobs import Blobs
from sdg_data.store import images, rewritten_prompts
from sdg_data.store.connection import Store
from sdg_data.store.digest import store_digest
from tests.generators.support import Loader, add_prompts, fake_preset, quick, select, small
from tests.generators.test_stage import generate

TEXTS = ["a red circle", "a blue square", "stay"]


def longer(text: str) -> str:
    return text if text == "stay" else f"{text}, in soft light, on a table"


class Rewriting(Loader):
    """Adapters whose model writes its own version of a prompt."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        adapter = super().__call__(*arguments, **options)

        def drawn_from(prompts: Sequence[str]) -> list[str | None]:
            return [longer(prompt) if longer(prompt) != prompt else None for prompt in prompts]

        adapter.drawn_from = drawn_from
        return adapter


def test_the_text_is_stored_with_the_image_and_listed(
    store: Store, blobs: Blobs, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    prompts = {record.id: record.text for record in add_prompts(store, TEXTS)}
    generate(store, blobs, select([fake_preset("plain")]), Loader())
    before = store_digest(store, blobs)
    generate(store, blobs, select([fake_preset("writer")], samples=2), Rewriting())
    with store.read() as tx:
        records = images.page(tx)
        texts = rewritten_prompts.of_images(tx, [record.id for record in records])
        chosen = {record.id for record in images.page(tx, rewritten=True)}
        others = {record.id for record in images.page(tx, rewritten=False)}
    expected = {
        record.id: longer(prompts[record.prompt_id])
        for record in records
        if record.model == "writer" and prompts[record.prompt_id] != "stay"
    }
    assert texts == expected
    assert len(texts) == 4
    assert chosen == set(texts)
    assert others == {record.id for record in records} - chosen
    assert store_digest(store, blobs) != before
    assert cli.run(["--home", str(store.path.parent), "images", "list", "--rewritten", "--json"]) == 0
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["id"]: row["drawn_from"] for row in listed} == texts


def test_people_see_the_prompt_first_and_what_was_drawn_from_behind_it() -> None:
    shown = shown_prompt("a red circle", None, "a red circle in soft light")
    assert shown.startswith("a red circle [")
    assert "a red circle in soft light" in shown
    assert shown_prompt("a red circle", None, None) == "a red circle"


def test_longcat_rewrites_a_window_beforehand_and_each_prompt_once(pipelines: Callable[[str], Any]) -> None:
    pipeline = copy.copy(pipelines("LongCatImagePipeline"))
    asked: list[str] = []

    def rewrite(texts: list[str], device: Any) -> list[str]:
        asked.extend(texts)
        return [longer(text) for text in texts]

    pipeline.rewire_prompt = rewrite
    adapter = adapt(small("LongCatImagePipeline", batch_size=2), pipeline)
    adapter.prepare([*TEXTS, TEXTS[0]])
    assert asked == TEXTS
    adapter.generate(TEXTS[:2], [1, 2])
    assert adapter.drawn_from(TEXTS) == [longer(TEXTS[0]), longer(TEXTS[1]), None]
    assert asked == TEXTS
    adapter.close()
    silent = adapt(quick("LongCatImagePipeline", batch_size=2), copy.copy(pipelines("LongCatImagePipeline")))
    silent.prepare(TEXTS)
    assert silent.drawn_from(TEXTS) == [None] * 3
    assert asked == TEXTS
    silent.close()
