"""Release rows that contradict themselves, RichHF's names that several pictures share, and lines out of other hands."""

import json
from pathlib import Path
from typing import Any

import pytest

from exports.formats.contract import RejectedRow
from exports.imports.records import ExternalOptions
from exports.imports.release import release_rows
from exports.imports.richhf_names import FileNames, read_prompts
from exports.imports.rows import PreparedRecord
from exports.imports.splits import split_rule
from sdg_data.errors import InputError
from tests.exports.worlds import picture, png

Row = dict[str, Any]
ITEM = {"box_2d": [100, 100, 300, 300], "label": "artifact", "description": "bent edge", "importance": 50}


def answer(*items: Row) -> str:
    return f"<think>t</think><answer>{json.dumps(items)}</answer>"


def row(name: str = "SDG/flux2/train/a.png", **changes: Any) -> Row:
    fields = {"filepath": name, "caption": f"picture {name}", "ann_response": answer(ITEM), **changes}
    return {key: value for key, value in fields.items() if value != "absent"}


def codes(folder: Path, *rows: Any, **settings: Any) -> list[Any]:
    """For each line its code, or the number of its defects."""
    for name in ("train/a", "test/a", "Test/a", "val/a"):
        path = folder / "SDG" / "flux2" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(picture(sum(map(ord, name))).pixels))
    file = folder / "rows.jsonl"
    lines = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in rows]
    file.write_bytes(b"\n".join(lines) + b"\n")
    found = []
    for row in release_rows(file, ExternalOptions("set", None, 0.0, **settings)):
        if isinstance(row, RejectedRow):
            found.append(row.code)
        else:
            assert isinstance(row, PreparedRecord)
            assert row.annotation is not None
            found.append(len(row.annotation.defects))
    return found


def test_statements_that_contradict_each_other(tmp_path: Path) -> None:
    near = {**ITEM, "box_2d": [101, 100, 300, 299], "description": "another word", "importance": 9}
    far = {**ITEM, "box_2d": [1, 1, 9, 9]}
    assert codes(
        tmp_path,
        row(ann_translated_bboxes=[ITEM]),
        row(ann_translated_bboxes=[near]),
        row(ann_translated_bboxes=[far]),
        row(ann_translated_bboxes=[]),
        row(ann_translated_bboxes=[{**ITEM, "label": "misalignment"}]),
        row(ann_translated_bboxes=[ITEM, far]),
        row(ann_response=answer(), ann_translated_bboxes=[ITEM]),
        row(ann_response=answer(), ann_translated_bboxes=[]),
        row(ann_response=answer(), artifact_bboxes_ann=[[1, 2, 3, 4]]),
        row(artifact_bboxes_ann=[], misalignment_bboxes_ann=[]),
        row(artifact_bboxes_ann=[], misalignment_bboxes_ann=[[1, 2, 3, 4]]),
        row(ann_response=None, ann_translated_bboxes=[ITEM]),
        row(ann_response=None, ann_translated_bboxes=[]),
    ) == [1, 1, *["contradiction"] * 5, 0, "contradiction", "contradiction", 1, 1, 0]


def test_what_states_nothing_is_never_clean(tmp_path: Path) -> None:
    read_rows = codes(
        tmp_path,
        row(ann_response=None),
        row(ann_response="absent"),
        row(ann_response=""),
        row(ann_response="I am sorry"),
        row(ann_response=None, ann_translated_bboxes="[]"),
        row(ann_response=None, ann_translated_bboxes=None),
        row(ann_response={"a": 1}),
        row(ann_response=answer(ITEM)[:-20]),
    )
    assert all(isinstance(code, str) for code in read_rows), read_rows


def test_lines_of_other_hands(tmp_path: Path) -> None:
    read_rows = codes(
        tmp_path,
        b"\xef\xbb\xbf" + json.dumps(row(aesthetic=float("nan"))).encode(),
        b"",
        b"[" * 200_000,
        b'{"filepath": "\xff"}',
        json.dumps(row(note="\ud800")).encode(),
        row(number=10**30),
        row(model=["flux2"]),
        {**row(), "filepath": ["a.png"]},
        row("../a.png"),
        row("/etc/passwd"),
        row("a\0.png"),
        row(str(tmp_path / "SDG/flux2/train/a.png")),
    )
    assert read_rows[0] == 1, "a byte order mark, and NaN in another column"
    assert read_rows[1:5] == ["not-json"] * 3 + [1]
    assert read_rows[5:] == ["bad-row", "bad-row", "outside-folder", "missing-file", "bad-file-name", 1]


def test_splits_of_paths(tmp_path: Path) -> None:
    rows = [row(f"SDG/flux2/{folder}/a.png") for folder in ("train", "test", "Test", "val")]
    assert codes(tmp_path, *rows) == [1, 1, 1, "unknown-split"]
    assert codes(tmp_path, *rows, splits=split_rule(None, ["val=test"])) == [1, 1, 1, 1]


def test_a_split_that_a_row_states_itself(tmp_path: Path) -> None:
    rows = [row("SDG/flux2/train/a.png", split=word) for word in ("train", "Train", "dev", "test", None, 3)]
    assert codes(tmp_path, *rows) == [1, 1, "contradiction", "contradiction", 1, "contradiction"]
    (tmp_path / "SDG" / "flux2" / "a.png").write_bytes(png(picture(7).pixels))
    rows = [row("SDG/flux2/a.png", split=word) for word in ("test", "dev", "")]
    assert codes(tmp_path, *rows) == [1, "unknown-split", 1]
    assert codes(tmp_path, *rows, splits=split_rule(None, ["dev=test"])) == [1, 1, 1]


def test_prompts_by_full_name_first(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    pairs = {"train/0001.png": "an apple", "test/0001.png": "two cars", "train/0002.png": "a boat", "0003": "a barn"}
    file.write_text("\n".join(json.dumps({"filename": name, "prompt": text}) for name, text in pairs.items()))
    names = read_prompts(file)
    assert names.prompt("train/0001.png", "x") == "an apple"
    assert names.prompt("test\\0001.png", "x") == "two cars"
    assert names.prompt("train/0001.jpg", "x") == "an apple"
    assert names.prompt("0002.png", "x") == "a boat"
    assert names.prompt("train/0003.png", "x") == "a barn"
    assert names.prompt("train/0009.png", "x") is None
    for name in ("0001.png", "other/0001.png", "test/0003.png"):
        with pytest.raises(RejectedRow, match="which is meant") as caught:
            names.prompt(name, "x")
        assert caught.value.code == "ambiguous-name"
    file.write_text('{"a.png": "one", "b.png": 2}')
    with pytest.raises(InputError, match="no prompts"):
        read_prompts(file)


def test_what_another_row_names_in_full_is_that_rows(tmp_path: Path) -> None:
    (tmp_path / "0001.png").write_bytes(b"flat")
    (tmp_path / "0002.png").write_bytes(b"of one row")
    names = FileNames({"0001.png": "a", "0002.png": "b"})
    listed: list[int] = []

    def rows() -> list[str]:
        listed.append(1)
        return ["part/0001.png", "0001.png", "part\\0002.jpg", "part/0002.png"]

    names.of_rows(rows)
    assert names.image(tmp_path, "0001.png", "x") == b"flat"
    assert names.prompt("0001.png", "x") == "a"
    assert listed == []
    for join in (lambda: names.image(tmp_path, "part/0001.png", "x"), lambda: names.prompt("part/0001.png", "x")):
        with pytest.raises(RejectedRow, match=r"0001, part/0001\): which is meant") as caught:
            join()
        assert caught.value.code == "ambiguous-name"
    assert names.image(tmp_path, "part/0002.png", "x") == b"of one row"
    assert names.prompt("part/0002.png", "x") == "b"
    assert listed == [1]


def test_images_by_full_name_first(tmp_path: Path) -> None:
    for name, content in {"train/0001.png": b"train", "0001.png": b"flat", "0002.jpg": b"other"}.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    names = FileNames({"train/0001.png": "a", "test/0001.png": "b"})
    assert names.image(tmp_path, "train/0001.png", "x") == b"train"
    assert names.image(tmp_path, "train/0002.png", "x") == b"other"
    for name in ("test/0001.png", "test/0002.png"):
        with pytest.raises(RejectedRow, match="which is meant"):
            names.image(tmp_path, name, "x")
    with pytest.raises(RejectedRow, match="nor 0003") as caught:
        names.image(tmp_path, "train/0003.png", "x")
    assert caught.value.code == "missing-file"
