"""The row formats, read back and compared with the world: ms-swift, TRL, LLaMA-Factory, the release's rows."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from exports.files.options import ExportOptions
from exports.formats.chat import marked
from exports.read.reader import ShardReader
from exports.run import ExportResult
from schemas.answer.parse import Outcome, parse_answer
from schemas.sample import Sample
from sdg_data.blobs import Blobs
from sdg_data.chat_marks import without_marks
from sdg_data.metrics.release_files import ReleaseFile
from sdg_data.store import images, prelabels, prompts
from sdg_data.store.connection import Store
from tests.exports.worlds import TRACE, machine, picture, png, record

Export = Callable[..., ExportResult]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def samples(shards: Path) -> dict[str, list[Sample]]:
    return {
        split: [example.sample for example in ShardReader(shards, split=split) if example.sample]
        for split in ("train", "test")
    }


def test_ms_swift_rows(export: Export, samples: dict[str, list[Sample]], tmp_path: Path) -> None:
    done = export(tmp_path, "ms-swift", axis_order="yxyx", system="Be exact.")
    assert done.manifest.notes["gt_axis_order"] == "yxyx"
    for split, expected in samples.items():
        sft, grpo = (lines(tmp_path / f"mini-{split}-{kind}.jsonl") for kind in ("sft", "grpo"))
        for sample, row, hard in zip(expected, sft, grpo, strict=True):
            system, user, assistant = row["messages"]
            assert system == {"role": "system", "content": "Be exact."}
            assert user["content"].startswith("<image>You inspect")
            assert user["content"].count("<image>") == 1
            assert f"<prompt>\n{sample.prompt}\n</prompt>" in user["content"]
            parsed = parse_answer(assistant["content"])
            assert parsed.outcome is Outcome.PARSED
            assert parsed.defects == sample.plain_defects
            assert parsed.trace == sample.trace
            (path,) = row["images"]
            assert (tmp_path / path).read_bytes() == png(picture(sample.sample).pixels)
            assert hard["gt_axis_order"] == "yxyx"
            assert hard["messages"] == row["messages"][:2]
            assert [item["box_2d"] for item in hard["gt_artifact_bboxes"]] == [
                [d.box.y0, d.box.x0, d.box.y1, d.box.x1] for d in picture(sample.sample).defects if d.type == "artifact"
            ]
            truth = [*hard["gt_artifact_bboxes"], *hard["gt_misalignment_bboxes"]]
            said = sorted((item["label"], item["description"], item["importance"]) for item in truth)
            assert said == sorted((d.type, d.reason, d.importance) for d in sample.plain_defects)
    again = export(tmp_path / "xyxy", "ms-swift")
    assert again.manifest.notes["gt_axis_order"] == "xyxy"
    sample, row = samples["train"][0], lines(tmp_path / "xyxy" / "mini-train-grpo.jsonl")[0]
    boxes = [d.box for d in sample.defects if d.type == "misalignment"]
    assert [item["box_2d"] for item in row["gt_misalignment_bboxes"]] == [[b.x0, b.y0, b.x1, b.y1] for b in boxes]


def test_an_image_mark_in_a_prompt_does_not_count() -> None:
    assert marked("draw <image> twice").count("<image>") == 1


MARKS = (
    "<image> <video> <audio> <bbox> <ref-object> <image_1> <Image 2> </img> <|image_pad|> <|vision_start|> <|im_end|> "
    "<｜end▁of▁sentence｜> <s> </s> <eos> <pad> <start_of_turn> <tool_call>"
)


def test_marks_of_trainers_and_tokenizers_are_broken_up() -> None:
    """Nothing is left that a placeholder's or a special token's name would match; other text is as it was."""
    broken = without_marks(MARKS)
    assert not [mark for mark in re.findall(r"<[^ ][^>]*?>|<Image 2>", MARKS) if mark in broken]
    assert broken.replace("< ", "<") == MARKS
    others = "a < b, x<y>z, <here>, <images of cats>, <saw>, <prompt>, a <-> b, <think>x</think><answer>[]</answer>"
    assert without_marks(others) == others


@pytest.mark.parametrize("name", ["ms-swift", "llama-factory", "trl"])
def test_no_row_holds_a_mark_that_the_data_brought(export: Export, tmp_path: Path, name: str) -> None:
    home = tmp_path / "home"
    store, blobs = Store(home), Blobs(home / "blobs")
    corrupted = picture(1)
    data = png(corrupted.pixels)
    image, prompt = record(f"a poster that says {MARKS}", data, 1)
    blobs.put(data)
    defects = tuple(defect.model_copy(update={"reason": f"misread {MARKS}"}) for defect in corrupted.defects)
    prelabel = machine(image, defects, 1).model_copy(update={"trace": f"I see {MARKS}"})
    with store.write() as tx:
        prompts.insert(tx, [prompt])
        images.insert(tx, [image])
        prelabels.insert(tx, [prelabel])
    export(tmp_path / "out", name, world=(store, blobs))
    if name == "trl":
        (row,) = pq.read_table(tmp_path / "out/data").to_pylist()
        texts = [turn["content"] for turn in (*row["prompt"], *row["completion"])]
    else:
        (path,) = tmp_path.glob(f"out/mini-*{'-sft' if name == 'ms-swift' else ''}.jsonl")
        (row,) = lines(path)
        texts = [turn["content"] for turn in row["messages"]]
        assert texts[0].startswith("<image>")
        texts[0] = texts[0].removeprefix("<image>")
    for mark in ("<image", "<video", "<audio", "<bbox", "<ref-object", "<|", "<｜", "</s>", "<pad"):
        assert mark not in "".join(texts)
    parsed = parse_answer(texts[1])
    assert parsed.defects == defects
    assert parsed.trace == "I see " + without_marks(MARKS)


def test_the_trace_can_be_left_out(export: Export, tmp_path: Path) -> None:
    export(tmp_path, "llama-factory", trace=False)
    replies = [row["messages"][-1]["content"] for row in lines(tmp_path / "mini-train.jsonl")]
    assert all(reply.startswith("<answer>") for reply in replies)


def test_llama_factory_registers_what_it_wrote(
    export: Export, samples: dict[str, list[Sample]], tmp_path: Path
) -> None:
    export(tmp_path, "llama-factory")
    info = json.loads((tmp_path / "dataset_info.json").read_text())
    for split, expected in samples.items():
        entry = info[f"mini_{split}"]
        rows = lines(tmp_path / entry["file_name"])
        tags = entry["tags"]
        assert entry["formatting"] == "sharegpt"
        for sample, row in zip(expected, rows, strict=True):
            messages = row[entry["columns"]["messages"]]
            assert [turn[tags["role_tag"]] for turn in messages] == [tags["user_tag"], tags["assistant_tag"]]
            assert parse_answer(messages[1][tags["content_tag"]]).defects == sample.plain_defects
            assert all((tmp_path / path).is_file() for path in row[entry["columns"]["images"]])


def test_trl_rows_load_with_images(export: Export, samples: dict[str, list[Sample]], tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    export(tmp_path / "out", "trl")
    loaded = datasets.load_dataset(
        "parquet",
        data_files={"train": str(tmp_path / "out/data/train-*.parquet")},
        cache_dir=str(tmp_path / "cache"),
    )["train"]
    for sample, row in zip(samples["train"], loaded, strict=True):
        assert [turn["role"] for turn in (*row["prompt"], *row["completion"])] == ["user", "assistant"]
        assert parse_answer(row["completion"][0]["content"]).defects == sample.plain_defects
        assert row["images"][0].size == (sample.width, sample.height)


def test_hf_parquet_has_image_features(export: Export, samples: dict[str, list[Sample]], tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    export(tmp_path / "out", "hf", shard_bytes=20_000)
    loaded = datasets.load_dataset(
        "parquet",
        data_files={split: str(tmp_path / f"out/data/{split}-*.parquet") for split in samples},
        cache_dir=str(tmp_path / "cache"),
    )
    assert isinstance(loaded["train"].features["image"], datasets.Image)
    for split, expected in samples.items():
        for sample, row in zip(expected, loaded[split], strict=True):
            image = row.pop("image")
            assert (image.width, image.height) == (sample.width, sample.height)
            assert Sample.model_validate(row) == sample
    raw = pq.read_table(tmp_path / "out/data").to_pylist()
    assert {row["image"]["bytes"] for row in raw} == {png(picture(n).pixels) for n in range(24)}


def test_release_rows(export: Export, samples: dict[str, list[Sample]], tmp_path: Path) -> None:
    export(tmp_path, "release-jsonl")
    for split, expected in samples.items():
        rows = lines(tmp_path / f"mini-{split}.jsonl")
        for sample, row in zip(expected, rows, strict=True):
            assert set(row) == {
                "filepath",
                "caption",
                "ann_response",
                "ann_translated_bboxes",
                "artifact_bboxes_ann",
                "misalignment_bboxes_ann",
            }
            assert row["caption"] == sample.prompt
            assert row["filepath"].startswith(f"SDG/{sample.model}/{split}/{split}_0000")
            assert (tmp_path / row["filepath"]).read_bytes() == png(picture(sample.sample).pixels)
            assert parse_answer(row["ann_response"]).defects == sample.plain_defects
            boxes = [d.box for d in picture(sample.sample).defects]
            assert [item["box_2d"] for item in row["ann_translated_bboxes"]] == [
                [b.x0, b.y0, b.x1, b.y1] for b in boxes
            ]
            assert len(row["artifact_bboxes_ann"]) + len(row["misalignment_bboxes_ann"]) == len(boxes)
        assert len({row["filepath"] for row in rows}) == len(rows)
        table = ReleaseFile(tmp_path / f"mini-{split}.jsonl", "gt").read()
        assert len(table) == len(rows)
        assert int(table.counts.sum()) == sum(len(expected_sample.defects) for expected_sample in expected)


def test_traces_survive_the_answer(samples: dict[str, list[Sample]]) -> None:
    from exports.formats.chat import answer

    traced = [sample for sample in samples["train"] if sample.trace is not None]
    assert traced
    for step in traced:
        assert parse_answer(answer(step, ExportOptions())).trace == TRACE


@pytest.mark.parametrize(
    "name", ["hf", "trl", "ms-swift", "llama-factory", "release-jsonl", "coco", "fiftyone", "heatmaps", "preferences"]
)
def test_every_format_is_reproducible_and_resumes(export: Export, tmp_path: Path, name: str) -> None:
    def contents(folder: Path) -> dict[str, bytes]:
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    export(tmp_path / "a", name, heatmap_side=16)
    expected = contents(tmp_path / "a")
    export(tmp_path / "b", name, heatmap_side=16, workers=3)
    assert contents(tmp_path / "b") == expected
    victim = sorted(
        path for path in expected if path.endswith((".jsonl", ".json", ".parquet")) and path != "manifest.json"
    )[0]
    (tmp_path / "b" / victim).unlink()
    (tmp_path / "b" / "manifest.json").unlink()
    (tmp_path / "b" / ".state").mkdir()
    (tmp_path / "b" / ".state" / "begun.json").write_text("{}")
    export(tmp_path / "b", name, heatmap_side=16)
    assert contents(tmp_path / "b") == expected
