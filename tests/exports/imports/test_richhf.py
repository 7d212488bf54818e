"""RichHF-18K's rows, written by the protobuf library and a bit-by-bit checksum, and what becomes of them."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from exports.dataset.image_extras import maps_of, scores_of
from exports.dataset.select import Selection
from exports.formats.contract import RejectedRow
from exports.imports.records import ExternalOptions
from exports.imports.richhf import RichHFOptions, misaligned_words, richhf_rows, split_of_file
from exports.imports.richhf_names import FileNames, read_prompts
from exports.imports.store_rows import import_rows
from exports.imports.tfrecord import DamagedRecord, example, records
from exports.read.reader import ShardReader
from exports.run import ExportResult
from schemas.geometry import Box
from schemas.records import Split
from sdg_data.blobs import Blobs
from sdg_data.cli import run
from sdg_data.errors import ConfigError, ExitCode
from sdg_data.store import failures, images, prompts
from sdg_data.store.connection import Store
from tests.exports.imports.test_tfrecord import reference
from tests.exports.worlds import png

PROMPT = "A red hat, two cats. Night!"
LABEL = "1 0 0 1 1 1"


def example_class() -> Any:
    """`tf.train.Example`, from its published definition."""
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto

    def message(name: str, *fields: tuple[str, int, int, int, str]) -> Any:
        made = file.message_type.add(name=name)
        for field, number, label, kind, type_name in fields:
            made.field.add(name=field, number=number, label=label, type=kind, type_name=type_name or None)
        return made

    many, one = kinds.LABEL_REPEATED, kinds.LABEL_OPTIONAL
    message("BytesList", ("value", 1, many, kinds.TYPE_BYTES, ""))
    message("FloatList", ("value", 1, many, kinds.TYPE_FLOAT, ""))
    message("Int64List", ("value", 1, many, kinds.TYPE_INT64, ""))
    feature = message(
        "Feature",
        ("bytes_list", 1, one, kinds.TYPE_MESSAGE, ".tensorflow.BytesList"),
        ("float_list", 2, one, kinds.TYPE_MESSAGE, ".tensorflow.FloatList"),
        ("int64_list", 3, one, kinds.TYPE_MESSAGE, ".tensorflow.Int64List"),
    )
    feature.oneof_decl.add(name="kind")
    for field in feature.field:
        field.oneof_index = 0
    features = message("Features", ("feature", 1, many, kinds.TYPE_MESSAGE, ".tensorflow.Features.FeatureEntry"))
    entry = features.nested_type.add(name="FeatureEntry")
    entry.field.add(name="key", number=1, label=one, type=kinds.TYPE_STRING)
    entry.field.add(name="value", number=2, label=one, type=kinds.TYPE_MESSAGE, type_name=".tensorflow.Feature")
    entry.options.map_entry = True
    message("Example", ("features", 1, one, kinds.TYPE_MESSAGE, ".tensorflow.Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


EXAMPLE = example_class()


def serialised(row: dict[str, Any]) -> bytes:
    made = EXAMPLE()
    for name, value in row.items():
        feature = made.features.feature[name]
        if isinstance(value, list):
            feature.int64_list.value.extend(value)
        elif isinstance(value, float):
            feature.float_list.value.append(value)
        else:
            feature.bytes_list.value.append(value.encode() if isinstance(value, str) else value)
    data: bytes = made.SerializeToString()
    return data


def framed(data: bytes) -> bytes:
    def check(part: bytes) -> bytes:
        crc = reference(part)
        return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(data))
    return length + check(length) + data + check(data)


def heat(*regions: tuple[int, int, int, int, int], side: int = 64) -> bytes:
    """A map as a PNG; regions are (x0, y0, x1, y1, value 0..255) in cells."""
    cells = np.zeros((side, side), np.uint8)
    for x0, y0, x1, y1, value in regions:
        cells[y0:y1, x0:x1] = value
    return png(cells)


def row(number: int, **changes: Any) -> dict[str, Any]:
    made = {
        "filename": f"train/image-{number}.png",
        "aesthetics_score": 0.25,
        "artifact_score": 0.5,
        "misalignment_score": 0.75,
        "overall_score": 1.0,
        "artifact_map": heat((16, 32, 32, 48, 255), (48, 0, 64, 8, 85)),
        "misalignment_map": heat(),
        "prompt_misalignment_label": LABEL,
        **changes,
    }
    return {name: value for name, value in made.items() if value is not None}


def picture(number: int) -> bytes:
    return png(np.full((40, 80, 3), number, np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of all rows, and their prompts."""
    made = tmp_path / "pickapic"
    made.mkdir()
    for number in range(20):
        (made / f"image-{number}.png").write_bytes(picture(number))
    names = {f"image-{number}.png": PROMPT for number in range(20)}
    (tmp_path / "prompts.json").write_text(json.dumps(names))
    return made


def written(tmp_path: Path, rows: list[dict[str, Any]], name: str = "train.tfrecord") -> Path:
    file = tmp_path / name
    file.write_bytes(b"".join(framed(serialised(row)) for row in rows))
    return file


def wanted(folder: Path, **changes: Any) -> RichHFOptions:
    options = ExternalOptions("RichHF-18K", folder, 0.0, "CC-BY-4.0", "sd")
    known = read_prompts(folder.parent / "prompts.json")
    return RichHFOptions(**{"options": options, "names": known, "split": Split.TRAIN, **changes})


def test_tfrecord_reads_what_protobuf_wrote(tmp_path: Path) -> None:
    rows = [row(1), row(2, extra=[5, -3, 2**40])]
    read_rows = list(records(written(tmp_path, rows)))
    assert [record == serialised(two) for record, two in zip(read_rows, rows, strict=True)] == [True, True]
    first, second = (example(record) for record in read_rows if isinstance(record, bytes))
    assert first["filename"] == [b"train/image-1.png"]
    assert first["misalignment_score"] == [0.75]
    assert first["artifact_map"] == [rows[0]["artifact_map"]]
    assert second["extra"] == [5, -3, 2**40]


def test_unpacked_lists_are_read_too() -> None:
    floats = b"\x0d" + struct.pack("<f", 0.5) + b"\x0d" + struct.pack("<f", 2.0)
    feature = b"\x12" + bytes([len(floats)]) + floats
    entry = b"\x0a\x01x\x12" + bytes([len(feature)]) + feature
    features = b"\x0a" + bytes([len(entry)]) + entry
    data = b"\x0a" + bytes([len(features)]) + features
    assert EXAMPLE.FromString(data).features.feature["x"].float_list.value == [0.5, 2.0]
    assert example(data) == {"x": [0.5, 2.0]}


def test_every_cut_of_an_example_is_damage_or_an_example() -> None:
    """Whatever the protobuf library refuses is refused here; nothing ends in another error."""
    data = serialised(row(1, artifact_map=b"m" * 200))
    refused = 0
    for end in range(len(data)):
        try:
            example(data[:end])
        except DamagedRecord:
            refused += 1
    assert refused == len(data) - 1  # only nothing at all is an Example


def test_damaged_records(tmp_path: Path) -> None:
    one, two, three = (framed(serialised(row(number))) for number in range(3))
    file = tmp_path / "train.tfrecord"
    flipped = bytearray(two)
    flipped[40] ^= 1
    file.write_bytes(one + flipped + three)
    read_rows = list(records(file))
    assert [isinstance(each, DamagedRecord) for each in read_rows] == [False, True, False]
    flipped = bytearray(two)
    flipped[1] ^= 1
    file.write_bytes(one + flipped + three)
    assert [isinstance(each, DamagedRecord) for each in records(file)] == [False, True]
    for end in (4, 30, len(two) - 2):
        file.write_bytes(one + two[:end])
        read_rows = list(records(file))
        assert len(read_rows) == 2
        assert isinstance(read_rows[1], DamagedRecord)
        assert "cut off" in str(read_rows[1])


def test_heat_becomes_boxes(folder: Path, tmp_path: Path, export: Callable[..., ExportResult]) -> None:
    file = written(
        tmp_path,
        [
            row(1),
            row(2, artifact_map=heat(), misalignment_map=heat((0, 0, 64, 32, 170), side=64)),
            row(3, artifact_map=heat(side=512), misalignment_map=heat(), prompt_misalignment_label="1 1 1 1 1 1"),
        ],
    )
    store, blobs = Store(tmp_path / "home", lock_timeout=5.0), Blobs(tmp_path / "home" / "blobs")
    counts = import_rows(store, blobs, "x", richhf_rows(file, wanted(folder)))
    assert (counts.read, counts.new, counts.labels, counts.failed) == (3, 3, 3, 0)
    again = import_rows(store, blobs, "x", richhf_rows(file, wanted(folder)))
    assert (again.new, again.already_there, again.labels) == (0, 3, 0)
    export(tmp_path / "out", world=(store, blobs), selection=Selection())
    examples = {example.image: example.sample for example in ShardReader(tmp_path / "out") if example.sample}
    first, second, third = (examples[picture(number)] for number in (1, 2, 3))
    assert {(d.type, d.box, d.importance, d.reason) for d in first.defects} == {
        ("artifact", Box(x0=250, y0=500, x1=500, y1=750), 100, "Marked as an artifact."),
        ("artifact", Box(x0=750, y0=0, x1=1000, y1=125), 33, "Marked as an artifact."),
    }
    assert [(d.type, d.box, d.importance, d.reason) for d in second.defects] == [
        ("misalignment", Box(x0=0, y0=0, x1=1000, y1=500), 67, "Misaligned with: red, hat.")
    ]
    assert third.defects == ()
    assert third.composition == "clean"
    assert json.loads(first.extras)["richhf"] == {
        "filename": "train/image-1.png", "aesthetics_score": 0.25, "artifact_score": 0.5, "misalignment_score": 0.75,
        "overall_score": 1.0, "prompt_misalignment_label": LABEL, "misaligned_words": ["red", "hat"], "threshold": 0.25,
    }  # fmt: skip
    for imported in (first, second, third):
        assert (imported.licence, imported.model, imported.source, imported.split) == (
            "CC-BY-4.0",
            "sd",
            "imported:RichHF-18K",
            "train",
        )
        assert imported.prompt == PROMPT


def test_maps_are_kept_where_asked(folder: Path, tmp_path: Path, export: Callable[..., ExportResult]) -> None:
    """As they are in the file, heat below the threshold included; without being asked nothing of them is kept."""
    file = written(tmp_path, [row(1, artifact_map=heat((16, 32, 32, 48, 255), (0, 0, 4, 4, 20)))])
    store, blobs = Store(tmp_path / "home", lock_timeout=5.0), Blobs(tmp_path / "home" / "blobs")
    import_rows(store, blobs, "x", richhf_rows(file, wanted(folder, keep_maps=True)))
    export(tmp_path / "out", world=(store, blobs), selection=Selection())
    (sample,) = (example.sample for example in ShardReader(tmp_path / "out") if example.sample)
    expected = np.zeros((64, 64))
    expected[32:48, 16:32], expected[:4, :4] = 1.0, 20 / 255
    assert np.array_equal(maps_of(sample, 64, 64)["artifact"], expected)
    assert not maps_of(sample, 64, 64)["misalignment"].any()
    assert scores_of(sample)["overall"] == 1.0


def test_parquet_rows_may_bring_image_and_prompt(folder: Path, tmp_path: Path) -> None:
    as_lists = np.zeros((8, 8))
    as_lists[2:4, 4:8] = 0.6
    whole = np.zeros((8, 8, 1), np.int64)
    whole[0:2, 0:2] = 51
    rows = [
        row(1, image={"bytes": picture(9), "path": "x.png"}, prompt=PROMPT, artifact_map={"bytes": heat(), "path": ""}),
        row(2, prompt=PROMPT, artifact_map={"bytes": heat((0, 0, 8, 8, 255)), "path": ""}),
    ]
    file = tmp_path / "train.parquet"
    pq.write_table(pa.Table.from_pylist(rows), file)
    options = wanted(folder, names=FileNames())
    clean, boxed = list(richhf_rows(file, options))
    assert not isinstance(clean, RejectedRow)
    assert not isinstance(boxed, RejectedRow)
    assert (clean.data, boxed.data) == (picture(9), picture(2))
    assert clean.annotation is not None
    assert clean.annotation.defects == ()
    tables = [row(1, prompt=PROMPT, artifact_map=as_lists.tolist(), misalignment_map=as_lists.tolist())]
    pq.write_table(pa.Table.from_pylist(tables), file)
    (read_rows,) = richhf_rows(file, options)
    assert not isinstance(read_rows, RejectedRow)
    assert read_rows.annotation is not None
    boxes = {
        (str(region.defect.type), region.defect.box, region.defect.importance)
        for region in read_rows.annotation.defects
    }
    where = Box(x0=500, y0=250, x1=1000, y1=500)
    assert boxes == {("artifact", where, 60), ("misalignment", where, 60)}
    integers = [row(1, prompt=PROMPT, artifact_map=whole.tolist(), misalignment_map=np.zeros((4, 4, 1), int).tolist())]
    pq.write_table(pa.Table.from_pylist(integers), file)
    (weak,) = richhf_rows(file, options)
    assert isinstance(weak, RejectedRow)
    assert (weak.code, "0.20" in weak.message) == ("weak-heat", True)


BAD = [
    ("missing-feature", {"artifact_score": None}),
    ("missing-feature", {"filename": None}),
    ("missing-feature", {"misalignment_map": None}),
    ("missing-feature", {"prompt_misalignment_label": None}),
    ("bad-feature", {"overall_score": float("nan")}),
    ("bad-feature", {"filename": b"\xff\xfe"}),
    ("outside-folder", {"filename": "../../etc/passwd"}),
    ("bad-map", {"artifact_map": b"no image"}),
    ("bad-map", {"artifact_map": heat()[:60]}),
    ("weak-heat", {"artifact_map": heat((0, 0, 8, 8, 30))}),
    ("bad-label", {"prompt_misalignment_label": "1 0"}),
    ("bad-label", {"prompt_misalignment_label": "1 0 0 1 1 2"}),
    ("missing-file", {"filename": "train/unknown.png"}),
]


def test_what_cannot_be_used_is_a_failure_with_its_reason(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.json").write_text(
        "\n".join(
            json.dumps({"filename": f"{name}.png", "caption": PROMPT})
            for name in ("image-1", "image-2", "image-4", "unknown")
        )
    )
    (folder / "image-4.png").write_bytes(b"no image")
    bad = [*BAD, ("no-prompt", {"filename": "train/image-3.png"}), ("undecodable", {"filename": "image-4.png"})]
    rows = [row(1, **changes) for _, changes in bad]
    file = written(tmp_path, [*rows, row(2)])
    flipped = bytearray(framed(serialised(row(5))))
    flipped[60] ^= 4
    file.write_bytes(file.read_bytes() + flipped + framed(b"\x0a\x7f"))
    store, blobs = Store(tmp_path / "home", lock_timeout=5.0), Blobs(tmp_path / "home" / "blobs")
    counts = import_rows(store, blobs, "x", richhf_rows(file, wanted(folder)))
    assert (counts.read, counts.new, counts.failed) == (len(bad) + 3, 1, len(bad) + 2)
    with store.read() as tx:
        stored = {failure.item_id.split(" ")[0]: failure.code for failure in failures.listed(tx, "import")}
    codes = [code for code, _ in bad]
    assert [stored[f"train.tfrecord:{number}"] for number in range(1, len(bad) + 1)] == codes
    assert stored[f"train.tfrecord:{len(bad) + 2}"] == stored[f"train.tfrecord:{len(bad) + 3}"] == "damaged-record"


@pytest.mark.parametrize("kind", ["tfrecord", "parquet"])
@pytest.mark.parametrize("order", [1, -1])
def test_a_picture_that_another_row_names_in_full(tmp_path: Path, kind: str, order: int) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "0001.png").write_bytes(picture(1))
    (folder / "0002.png").write_bytes(picture(2))
    names = ("0001.png", "part/0001.png", "part/0002.png")
    rows = [row(0, filename=name, prompt=PROMPT) for name in names[::order]]
    file = tmp_path / f"train.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    else:
        file.write_bytes(b"".join(framed(serialised(row)) for row in rows))
    options = RichHFOptions(ExternalOptions("RichHF-18K", folder, 0.0), FileNames(), Split.TRAIN)
    found = [row.code if isinstance(row, RejectedRow) else row.data for row in richhf_rows(file, options)]
    assert found[::order] == [picture(1), "ambiguous-name", picture(2)]


def test_the_publishers_example_of_words() -> None:
    text = "RichHF-18K: a dataset for rich human feedback on generative images."
    assert misaligned_words("x", "0 1 0 0 0 1 0 0 1 0", text) == [
        "RichHF-18K", "dataset", "for", "rich", "feedback", "on", "images",
    ]  # fmt: skip


def test_the_split_is_the_files(tmp_path: Path) -> None:
    assert split_of_file(Path("train.tfrecord"), None) == "train"
    assert split_of_file(Path("test-00000-of-00001.parquet"), None) == "test"
    assert split_of_file(Path("dev.tfrecord"), "test") == "test"
    for file, split in (("dev.tfrecord", None), ("train.tfrecord", "dev")):
        with pytest.raises(ConfigError, match="split"):
            split_of_file(Path(file), split)


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, [row(1), row(2), row(3, artifact_map=b"?")], "dev.tfrecord")
    asked = ["--home", str(tmp_path / "home"), "import", "richhf", str(file), "--images", str(folder), "--json"]
    asked += ["--prompts", str(tmp_path / "prompts.json"), "--licence", "MIT"]
    assert run(asked) == ExitCode.CONFIG
    assert "--split" in capsys.readouterr().err
    assert run([*asked, "--split", "test", "--source", "RichHF-18K"]) == ExitCode.PARTIAL
    said = json.loads(capsys.readouterr().out)
    assert (said["new"], said["failed_by_code"]) == (2, {"bad-map": 1})
    with Store(tmp_path / "home").read() as tx:
        assert (prompts.count(tx, split=Split.TEST), prompts.count(tx)) == (1, 1)
        assert {image.licence for image in images.page(tx)} == {"MIT"}
    assert run([*asked, "--split", "test", "--threshold", "0"]) == ExitCode.INPUT
    assert run([*asked[:4], str(tmp_path / "none"), "--split", "test"]) == ExitCode.INPUT
