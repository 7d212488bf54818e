"""Reading release files: which field counts, what is reported, and that order does not matter."""

import gzip
import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.answer.parse import render_answer
from sdg_data.errors import InputError
from sdg_data.metrics.protocol import Protocol
from sdg_data.metrics.release_files import SHOWN, ReleaseFile, Role
from sdg_data.metrics.tables import DefectTable, TableBuilder, join
from tests.sdg_data.metrics.support import some_defects

PAPER, RELEASE = Protocol


def item(x: int, **changes: Any) -> dict[str, Any]:
    return {"box_2d": [x, 0, x + 10, 10], "label": "artifact", "description": f"d{x}", "importance": 50, **changes}


def text(*items: Any) -> str:
    return f"<answer>{json.dumps(items)}</answer>"


def read(
    tmp_path: Path, lines: list[Any], role: Role = "gt", protocol: Protocol = PAPER
) -> tuple[DefectTable, ReleaseFile]:
    path = tmp_path / "rows.jsonl"
    rows = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    path.write_bytes(b"\n".join(rows) + b"\n")
    source = ReleaseFile(path, role, protocol)
    return source.read(), source


def reasons(table: DefectTable) -> dict[str, tuple[str, ...]]:
    return {key: table.reasons[table.offsets[n] : table.offsets[n + 1]] for n, key in enumerate(table.keys)}


@pytest.mark.parametrize("protocol", Protocol)
def test_the_field_that_counts(tmp_path: Path, protocol: Protocol) -> None:
    everything = {"ann_response": text(item(1)), "ann_translated_bboxes": [item(2)], "response": text(item(3))}
    rows = [
        {"filepath": "all", **everything},
        {"filepath": "no ann_response", **everything, "ann_response": None},
        {"filepath": "boxes", "ann_translated_bboxes": [item(2)]},
        {"filepath": "response", "response": text(item(3))},
    ]
    gt, _ = read(tmp_path, rows, "gt", protocol)
    first = "d1" if protocol is PAPER else "d2"
    assert reasons(gt) == {"all": (first,), "no ann_response": ("d2",), "boxes": ("d2",), "response": ("d3",)}
    pred, source = read(tmp_path, rows, "pred", protocol)
    assert reasons(pred) == {"all": ("d3",), "no ann_response": ("d3",), "boxes": (), "response": ("d3",)}
    assert source.report.failures == [{"filepath": "boxes", "code": "no-answer"}]
    assert source.report.answers == "response"


@pytest.mark.parametrize("protocol", Protocol)
def test_a_prediction_is_never_the_truth_that_was_copied_beside_it(tmp_path: Path, protocol: Protocol) -> None:
    copied = {"ann_response": text(item(1)), "ann_translated_bboxes": [item(1)]}
    silent = {"null": {"response": None}, "missing": {}, "a list": {"response": [item(1)]}}
    rows = [{"filepath": name, **copied, **answer} for name, answer in silent.items()]
    table, source = read(tmp_path, [*rows, {"filepath": "clean", **copied, "response": "[]"}], "pred", protocol)
    assert len(table.reasons) == 0
    assert (source.report.reasons["no-answer"], source.report.reasons["not-text"]) == (2, 1)
    assert [failure["filepath"] for failure in source.report.failures[:3]] == list(silent)


@pytest.mark.parametrize("protocol", Protocol)
def test_a_file_without_any_response_is_one_of_annotations(tmp_path: Path, protocol: Protocol) -> None:
    table, source = read(tmp_path, [{"filepath": "a", "ann_response": text(item(1))}], "pred", protocol)
    assert (reasons(table), source.report.answers) == ({"a": ("d1",)}, "annotations")


def test_an_empty_answer_is_an_answer_and_no_field_is_none(tmp_path: Path) -> None:
    rows = [
        {"filepath": "empty", "ann_response": "", "ann_translated_bboxes": [item(1)]},
        {"filepath": "none"},
        {"filepath": "number", "ann_response": 7},
        {"filepath": "object", "ann_translated_bboxes": {"box_2d": [0, 0, 1, 1]}},
        {"filepath": "list in the text's place", "ann_response": [item(1)]},
        {"filepath": "clean", "ann_translated_bboxes": []},
    ]
    table, source = read(tmp_path, rows)
    assert table.outcomes.tolist() == [1, 1, 1, 1, 1, 0]
    assert source.report.reasons == {"empty": 1, "no-answer": 1, "not-text": 3}


def test_a_list_of_boxes_cannot_break_out_of_its_text(tmp_path: Path) -> None:
    nasty = 'a </answer><answer>[] "quoted" ``` \\ \n é 手'
    for protocol in Protocol:
        table, _ = read(
            tmp_path, [{"filepath": "x", "ann_translated_bboxes": [item(1, description=nasty)]}], "gt", protocol
        )
        assert table.reasons == (nasty,)


def test_bad_lines_are_counted_and_named(tmp_path: Path) -> None:
    good = {"filepath": "good", "ann_response": "<answer>[]</answer>"}
    lines: list[Any] = [
        good,
        b"{broken",
        b"[]",
        b"7",
        {"file": "x"},
        {"filepath": 7},
        {"filepath": ""},
        b"",
        b"\xff\xfe{}",
    ]
    table, source = read(tmp_path, lines)
    assert table.keys == ("good",)
    report = source.report
    assert (report.rows, report.images, report.rejected) == (1, 1, 7)
    assert [(line["line"], line["code"]) for line in report.rejected_lines] == [
        (2, "not-json"), (3, "not-an-object"), (4, "not-an-object"), (5, "no-filepath"), (6, "no-filepath"),
        (7, "no-filepath"), (9, "not-json"),
    ]  # fmt: skip
    _, source = read(tmp_path, [good, *[b"?"] * 50])
    assert (source.report.rejected, len(source.report.rejected_lines)) == (50, SHOWN)


def test_lines_that_only_python_reads(tmp_path: Path) -> None:
    lines = [
        b"\xef\xbb\xbf" + json.dumps({"filepath": "byte order mark", "ann_response": text(item(1))}).encode(),
        b'{"filepath": "NaN", "score": NaN, "ann_response": "<answer>[]</answer>"}',
        b'{"filepath": "half \\ud83d", "ann_response": "<think>\\ud83d</think><answer>[]</answer>"}',
    ]
    table, source = read(tmp_path, lines)
    assert table.keys == ("byte order mark", "NaN", "half \ufffd")
    assert table.outcomes.tolist() == [0, 0, 0]
    assert (source.report.rejected, source.report.reasons) == (0, {})


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no row with a filepath in 2 lines"):
        read(tmp_path, [b"a", b"b"])
    with pytest.raises(InputError, match="cannot read"):
        ReleaseFile(tmp_path / "none.jsonl", "gt").read()
    with pytest.raises(InputError, match="cannot read"):
        ReleaseFile(tmp_path, "gt").read()


def test_repeated_rows_are_one_and_contradicting_ones_are_none(tmp_path: Path) -> None:
    rows = [
        {"filepath": "twice", "ann_response": text(item(1))},
        {"filepath": "contradiction", "ann_response": text(item(1))},
        {"filepath": "other", "ann_response": text(item(5))},
        {"filepath": "twice", "ann_response": "<think>other words</think>" + text(item(1))},
        {"filepath": "contradiction", "ann_response": text(item(2))},
        {"filepath": "contradiction", "ann_response": text(item(1))},
    ]
    for lines in (rows, rows[::-1]):
        table, source = read(tmp_path, list(lines))
        assert sorted(table.keys) == ["other", "twice"]
        assert reasons(table) == {"other": ("d5",), "twice": ("d1",)}
        assert (source.report.repeated, source.report.conflicting) == (1, ["contradiction"])
        assert source.report.images == 2


def test_one_image_spelt_in_two_ways_is_one_image(tmp_path: Path) -> None:
    rows = [
        {"filepath": "a/b.png", "ann_response": text(item(1))},
        {"filepath": "./a//b.png", "ann_response": text(item(1))},
        {"filepath": "a\\c.png", "ann_response": text(item(1))},
        {"filepath": "a/x/../c.png", "ann_response": text(item(2))},
    ]
    table, source = read(tmp_path, rows)
    assert table.keys == ("a/b.png",)
    assert (source.report.repeated, source.report.conflicting) == (1, ["a\\c.png"])


def test_the_generator(tmp_path: Path) -> None:
    rows = [
        {"filepath": "data/SDG/sana/test/test_000001.png", "ann_response": "<answer>[]</answer>"},
        {"filepath": "data/SDG/flux2/train/test_000001.png", "ann_response": "<answer>[]</answer>"},
        {"filepath": "data/SDG/flux2/train/a.png", "model": "mine", "ann_response": "<answer>[]</answer>"},
        {"filepath": "a.png", "ann_response": "<answer>[]</answer>"},
        {"filepath": "test/a.png", "generator": 7, "ann_response": "<answer>[]</answer>"},
    ]
    table, _ = read(tmp_path, rows)
    assert table.groups == ("sana", "flux2", "mine", "", "")


def test_quick_and_patient_reading_give_one_table(tmp_path: Path) -> None:
    rng = random.Random(1)
    images = [some_defects(rng) for _ in range(60)]
    rows = [
        # White space in the list is nothing, a fence is a repair: the patient parser reads every other answer.
        {"filepath": f"{n:02}", "ann_response": render_answer(boxes, "t").replace("[{", "```[{").replace("}]", "}]```")
         if n % 2 else render_answer(boxes, "t")}
        for n, boxes in enumerate(images)
    ]  # fmt: skip
    table, source = read(tmp_path, rows)
    expected = DefectTable.from_defects((f"{n:02}", boxes) for n, boxes in enumerate(images))
    assert source.report.repaired == sum(bool(boxes) for boxes in images[1::2])
    for name in ("outcomes", "offsets", "boxes", "labels", "importance", "subtypes"):
        assert np.array_equal(getattr(table, name), getattr(expected, name)), name
    assert (table.keys, table.reasons, table.names) == (expected.keys, expected.reasons, expected.names)


def test_release_keeps_labels_and_counts_what_it_drops(tmp_path: Path) -> None:
    rows = [
        {"filepath": "a", "response": text(item(1, label="Artifact"), item(2, label="both"), {"label": "artifact"})},
        {"filepath": "b", "response": text(item(3, label="zebra", importance=None), "x")},
    ]
    table, source = read(tmp_path, rows, "pred", RELEASE)
    assert [table.names[code] for code in table.labels] == ["Artifact", "both", "zebra"]
    assert np.isnan(table.importance).tolist() == [False, False, True]
    assert (source.report.dropped, source.report.misplaced) == (2, 0)


def test_joining_aligns_labels_of_two_vocabularies() -> None:
    builders = TableBuilder(), TableBuilder()
    builders[0].add_items("x", [item(1, label="zebra"), item(2, label="apple")])
    builders[1].add_items("x", [item(1, label="zebra"), item(2, label="both")])
    pairs = join(builders[0].finish(), builders[1].finish())
    assert [pairs.gt.names[code] for code in pairs.gt.labels] == ["zebra", "apple"]
    assert [pairs.pred.names[code] for code in pairs.pred.labels] == ["zebra", "both"]
    assert pairs.gt.names == pairs.pred.names
    assert pairs.gt.labels[0] == pairs.pred.labels[0]


def test_taking_rows_takes_their_defects() -> None:
    rng = random.Random(2)
    images = {f"{n}": some_defects(rng) for n in range(20)}
    table = DefectTable.from_defects(images.items())
    order = rng.sample(range(20), 12)
    part = table.take(order)
    expected = DefectTable.from_defects((str(n), images[str(n)]) for n in order)
    assert (part.keys, part.reasons) == (expected.keys, expected.reasons)
    assert np.array_equal(part.boxes, expected.boxes)
    assert np.array_equal(part.offsets, expected.offsets)
    assert part.images.tolist() == [n for n, row in enumerate(order) for _ in images[str(row)]]


ROWS = [{"filepath": f"{n}.png", "response": text(item(n))} for n in range(3)]
PLAIN = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("crlf.jsonl", PLAIN.replace(b"\n", b"\r\n")),
        ("cr.jsonl", PLAIN.replace(b"\n", b"\r")),
        ("bom.jsonl", b"\xef\xbb\xbf" + PLAIN),
        ("packed.jsonl.gz", gzip.compress(PLAIN)),
        ("end.jsonl", PLAIN.rstrip()),
    ],
)
def test_files_of_other_systems(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    source = ReleaseFile(tmp_path / name, "pred")
    assert reasons(source.read()) == {f"{n}.png": (f"d{n}",) for n in range(3)}
    assert source.report.rejected == 0


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (PLAIN.decode().encode("utf-16"), "the file is UTF-16 .*iconv"),
        (gzip.compress(PLAIN), r"packed \(gzip\).*Unpack"),
        (b"\x28\xb5\x2f\xfd" + PLAIN, r"packed \(zstd\)"),
        (json.dumps(ROWS).encode(), "no row with a filepath in 1 line .*jq"),
        (json.dumps(ROWS, indent=1).encode(), "no row with a filepath in .* lines .*jq"),
        (b'{"FilePath": "a.png", "Response": ""}\n', '"response": …}. The first one has: FilePath, Response'),
        (b"", "no row with a filepath in 0 lines"),
    ],
)
def test_what_is_no_file_of_rows_is_named(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "rows").write_bytes(data)
    with pytest.raises(InputError) as caught:
        ReleaseFile(tmp_path / "rows", "pred").read()
    assert re.search(words, f"{caught.value.message} {caught.value.hint}")
