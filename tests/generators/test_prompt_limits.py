"""How much of a prompt each model reads, held to what its own pipeline computes of it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from generators.models.contract import PromptWindow
from generators.models.loading import load_pipeline
from generators.models.registry import load_presets
from generators.plan import ModelSelection
from generators.prompt_limits import PromptLimit, count_cuts, load_limit
from generators.revisions import revision_of
from schemas.records import Prompt, Split
from sdg_data import cli
from sdg_data.ids import prompt_id
from sdg_data.store import cut_prompts, prompts
from sdg_data.store.connection import Store
from sdg_data.store.cut_prompts import CutPrompt

MINIS = ("mini-flux2", "mini-zimage", "mini-longcat", "mini-sana")
LONG = (
    "a large red circle to the left of a small blue square and two tiny green triangles above a yellow star, "
    "on a white background, with a caf\u00e9 and more words than any of them reads"
)
QUOTED = 'a large red sign that says "open all day, and all of the night" to the left of a small blue square'


def embedded(pipeline: Any, text: str, **call: Any) -> torch.Tensor:
    """What the pipeline's transformer gets of a prompt."""
    taken = {key: value for key, value in call.items() if key in ("max_sequence_length", "text_encoder_out_layers")}
    if type(pipeline).__name__ == "SanaPipeline":
        taken |= {"complex_human_instruction": None, "do_classifier_free_guidance": False}
    with torch.no_grad():
        features = pipeline.encode_prompt([text], **taken)[0]
    return features[0] if isinstance(features, list) else features


@pytest.mark.parametrize("name", MINIS)
@pytest.mark.parametrize("text", [LONG, QUOTED])
def test_what_stands_behind_the_read_part_changes_nothing_and_what_stands_in_it_does(name: str, text: str) -> None:
    preset = load_presets()[name]
    revision = revision_of(preset)
    limit = load_limit(preset, revision)
    assert limit is not None
    [part] = limit.read([text])
    assert part is not None
    assert 0 < part.characters < len(text)
    assert part.tokens > 20
    pipeline = load_pipeline(preset, revision)
    for key, value in preset.attributes.items():
        setattr(pipeline, key, value)
    whole = embedded(pipeline, text, **preset.call)
    # The last word that is read may go on behind the cut, so other words begin at the next space; a quotation is
    # closed, because LongCat reads quoted words letter by letter.
    other = text[: text.index(" ", part.characters)] + ' behind" which stands something else'
    assert torch.equal(embedded(pipeline, other, **preset.call), whole)
    last = part.characters - 1
    assert not torch.equal(embedded(pipeline, text[:last] + "x" + text[last + 1 :], **preset.call), whole)


@pytest.mark.parametrize("name", MINIS)
def test_a_short_prompt_is_read_whole_and_a_text_within_the_safe_bytes_always_is(name: str) -> None:
    preset = load_presets()[name]
    limit = load_limit(preset, revision_of(preset))
    assert limit is not None
    assert limit.read(["a red circle", LONG[: limit.safe_bytes], "\u00fc" * (limit.safe_bytes // 2)]) == [None] * 3


def test_a_class_that_says_nothing_or_a_tokenizer_that_is_not_here_is_not_counted() -> None:
    presets = load_presets({"own": {"pipeline": "PixArtAlphaPipeline", "repository": "somebody/own"}})
    assert load_limit(presets["own"], "main") is None
    assert load_limit(presets["flux2-dev"], "0" * 40) is None
    # LongCat rewrites a prompt first: what is cut then is not the prompt.
    assert (
        load_limit(presets["longcat-image"].model_copy(update={"repository": presets["mini-longcat"].repository}), "")
        is None
    )


class LetterTokenizer:
    """A token a letter, with a mark at each end."""

    def __call__(self, text: str | list[str], **options: Any) -> dict[str, Any]:
        if isinstance(text, list):
            kept = [min(len(character), options["max_length"] - 2) for character in text]
            return {"offset_mapping": [[(0, 0), *((n, n + 1) for n in range(number)), (0, 0)] for number in kept]}
        return {"input_ids": list(text), "offset_mapping": [(n, n + 1) for n in range(len(text))]}


def test_the_template_takes_its_share_of_the_limit() -> None:
    window = PromptWindow.of_template(20, lambda prompt: f"<user>{prompt}</user>", special_tokens=True)
    limit = PromptLimit(LetterTokenizer(), window)
    # 20 tokens less two marks less the six of "<user>" are twelve letters.
    short, long = limit.read(["a" * 12, "a" * 13])
    assert short is None
    assert long is not None
    assert (long.characters, long.tokens) == (12, 13)


def fill(store: Store, texts: list[str]) -> None:
    with store.write() as tx:
        rows = [Prompt(id=prompt_id(t), text=t, source="x", licence=None, split=Split.TRAIN) for t in texts]
        prompts.insert(tx, rows)


def test_a_plan_counts_cut_prompts_and_a_run_writes_them_down(tmp_path: Path) -> None:
    from generators.plan import plan_lines

    store = Store(tmp_path / "home", lock_timeout=5.0)
    fill(store, ["a red circle", LONG, QUOTED])
    preset = load_presets()["mini-sana"]
    selection = ModelSelection((preset,), (revision_of(preset),), samples=2)
    lines = plan_lines(store, selection, [8])
    assert lines[0].cut_prompts is None
    for record in (False, True, True):
        [line] = count_cuts(store, selection, lines, record=record)
        assert (line.cut_prompts, line.token_limit) == (2, 26)
        with store.read() as tx:
            rows = tx.execute("SELECT * FROM cut_prompts").fetchall()
        assert len(rows) == (2 if record else 0)
    limit = load_limit(preset, selection.revisions[0])
    assert limit is not None
    [part] = limit.read([LONG])
    assert part is not None
    assert (prompt_id(LONG), selection.variants[0].id, part.characters, part.tokens, 26) in rows


def test_images_of_cut_prompts_can_be_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = ["--home", str(tmp_path / "home")]
    store = Store(tmp_path / "home", lock_timeout=5.0)
    fill(store, ["a red circle", LONG])
    assert cli.run([*home, "generate", "run", "--models", "mini-zimage"]) == 0
    assert "1 prompts are longer than the 26 tokens" in capsys.readouterr().err
    import json

    seen = {}
    for option in ("--cut-prompts", "--whole-prompts"):
        assert cli.run([*home, "images", "list", "--json", option]) == 0
        [row] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        seen[option] = row
    assert seen["--cut-prompts"]["prompt_id"] == prompt_id(LONG)
    assert seen["--whole-prompts"]["prompt_id"] == prompt_id("a red circle")
    with store.read() as tx:
        cuts = cut_prompts.of_images(tx, [row["id"] for row in seen.values()])
    assert list(cuts) == [seen["--cut-prompts"]["id"]]
    assert isinstance(cuts[seen["--cut-prompts"]["id"]], CutPrompt)
