"""A detector's maps as files, and measured by `sdg eval heatmaps` against the shards' own defects."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from exports.files.options import ExportOptions
from exports.files.target import Target
from exports.read import ShardTable
from exports.read.decode import decode_rgb
from exports.run import run_export
from schemas.defect import Defect
from sdg_data.blobs import Blobs
from sdg_data.cli import run
from sdg_data.errors import ExitCode, InputError
from tests.exports.worlds import EVERYTHING, fill
from trainers.common.row_file import earlier_rows
from trainers.detector.heatmaps import BoxMaps
from trainers.detector.map_files import write_maps

SIDE = 16


class Oracle:
    """Knows the defects of the shards' pictures, is silent about the first, and counts what it is asked."""

    def __init__(self, table: ShardTable) -> None:
        places = range(len(table))
        self.defects = {decode_rgb(table.image(n)).tobytes(): table.sample(n).plain_defects for n in places}
        self.silent, self.asked = next(key for key, defects in self.defects.items() if defects), 0

    def __call__(self, asked: Sequence[tuple[Image.Image, str]]) -> list[tuple[Defect, ...] | None]:
        self.asked += len(asked)
        pictures = [image.tobytes() for image, _ in asked]
        return [None if picture == self.silent else self.defects[picture] for picture in pictures]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards and the `heatmaps` export of one small store."""
    home = tmp_path_factory.mktemp("maps")
    store, blobs = fill(home / "store", 12), Blobs(home / "store" / "blobs")
    for name in ("webdataset", "heatmaps"):
        options = ExportOptions(phash=False, heatmap_side=SIDE)
        run_export(
            store, blobs, Target(home / name), name="mini", selection=EVERYTHING, format_name=name, options=options
        )
    return home


def test_a_perfect_detector_but_for_its_silence(folder: Path, tmp_path: Path) -> None:
    data = str(folder / "webdataset")
    oracle = Oracle(ShardTable(data, split="train"))
    detector = BoxMaps(oracle, name="oracle", side=SIDE)
    assert write_maps(detector, data, tmp_path / "maps", split="train", batch=3, limit=4)["images"] == 4
    with (tmp_path / "maps" / "maps.jsonl").open("a") as file:
        file.write('{"key": "cut off')
    done = write_maps(detector, data, tmp_path / "maps", split="train", batch=3)
    rows = [json.loads(line) for line in (tmp_path / "maps" / "maps.jsonl").read_text().splitlines()]
    assert oracle.asked == done["images"] == len(rows) == len({row["key"] for row in rows})
    assert done["without a map"] == 1
    assert [row["reason"] for row in rows if row["artifact_heatmap"] is None] == ["its answer cannot be read"]

    out = tmp_path / "out.json"
    sides = ["--gt", str(folder / "heatmaps" / "mini-train.jsonl"), "--pred", str(tmp_path / "maps")]
    assert run(["eval", "heatmaps", *sides, "--json", str(out)]) == 0
    document = json.loads(out.read_text())
    silent = next(row["key"] for row in rows if row["artifact_heatmap"] is None)
    assert document["silent"] == {"artifact": [silent], "misalignment": [silent]}
    assert [failure["code"] for failure in document["failures"]["pred"]] == []
    truth = ShardTable(data, split="train")
    for kind, heat in document["heatmaps"].items():
        drawn = {sample.key for sample in truth if any(defect.type == kind for defect in sample.plain_defects)}
        assert heat["sim"]["images"] == len(drawn)
        assert heat["sim"]["mean"] == pytest.approx(len(drawn - {silent}) / len(drawn), abs=2e-3)


def test_another_detectors_folder_is_not_added_to(folder: Path, tmp_path: Path) -> None:
    data = str(folder / "webdataset")
    oracle = Oracle(ShardTable(data, split="train"))
    write_maps(BoxMaps(oracle, name="one", side=SIDE), data, tmp_path, split="train", limit=1)
    with pytest.raises(InputError, match="it holds the maps of one"):
        write_maps(BoxMaps(oracle, name="two", side=SIDE), data, tmp_path, split="train")


def test_a_last_row_that_was_cut_off_is_made_again(folder: Path, tmp_path: Path) -> None:
    """Beside a row whose reason holds a line mark of Unicode's, which is no end of a row."""
    data = str(folder / "webdataset")
    first, second = sorted(sample.key for sample in ShardTable(data, split="train"))[:2]
    whole = json.dumps({"key": first, "detector": "one", "reason": "one\u2028two"}, ensure_ascii=False) + "\n"
    (tmp_path / "maps.jsonl").write_text(whole + f'{{"key": "{second}', encoding="utf-8")
    rows = earlier_rows(tmp_path / "maps.jsonl", "key", maker="detector", name="one", what="maps")
    assert list(rows) == [first]
    assert (tmp_path / "maps.jsonl").read_text(encoding="utf-8") == whole


@pytest.mark.parametrize("row", ["{broken", '{"key": "a"}', "[]", '{"key": ["a"], "detector": "one"}', "{broken\n{"])
def test_a_file_that_holds_no_maps_is_left_alone(folder: Path, tmp_path: Path, row: str) -> None:
    (tmp_path / "maps.jsonl").write_text(row + "\n")
    detector = BoxMaps(lambda asked: [()] * len(asked), name="one", side=SIDE)
    with pytest.raises(InputError, match="holds no detector's maps"):
        write_maps(detector, str(folder / "webdataset"), tmp_path, split="train", limit=1)
    assert (tmp_path / "maps.jsonl").read_text() == row + "\n"


def test_the_command_names_what_is_no_detector(folder: Path, tmp_path: Path) -> None:
    arguments = ["--model", str(tmp_path), "--out", str(tmp_path / "out"), "--data", str(folder / "webdataset")]
    assert run(["train", "detector", "maps", *arguments]) == ExitCode.GENERATION
    assert run(["train", "detector", "maps", *arguments, "--revision", "x", "--device", "cpu"]) == ExitCode.GENERATION
