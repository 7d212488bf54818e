"""A columnar format that another package adds: one module and an entry point; card, Croissant and verify know it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from exports.dataset.select import Selection
from exports.files.manifest import Manifest
from exports.files.target import Target
from exports.formats import FORMATS, format_names, load_format
from exports.run import ExportResult, run_export
from exports.verify import verify
from sdg_data.blobs import Blobs
from sdg_data.cli import run
from sdg_data.errors import ConfigError
from sdg_data.store.connection import Store

MODULE = '''
"""Keys, prompts and how many defects, with the image; a prompt is cut off after `longest` letters."""

import pyarrow as pa

from exports.files.arrow_schema import IMAGE_TYPE, parquet_schema
from exports.files.options import ExportOptions
from exports.files.parquet import write_parquet
from exports.files.shards import image_bytes
from exports.formats.contract import Format, StoredRow, parquet_columns
from exports.formats.file_types import parquet_rows

COLUMNS = [("image", IMAGE_TYPE), ("key", pa.string()), ("prompt", pa.string()), ("defects", pa.int64())]


class Options(ExportOptions):
    longest: int = 20


def write(job, options):
    def row(entry):
        sample = job.buffer.sample(entry)
        image = {"bytes": image_bytes(job, entry), "path": f"{entry.key}.png"}
        return {
            "image": image, "key": entry.key, "prompt": sample.prompt[: options.longest], "defects": len(sample.defects)
        }

    return write_parquet(job, options, parquet_schema(COLUMNS, ("image",)), row, kind="counts")


def columns(job):
    return parquet_columns(COLUMNS, ("image",))


def read_back(target, manifest, entry):
    if not entry.path.endswith(".parquet"):
        return None
    longest = manifest.settings["options"]["longest"]
    return (_stored(entry, row, images, longest) for row, images in parquet_rows(target, entry.path))


def _stored(entry, row, images, longest):
    where = f"{entry.path} ({row['key']})"
    problem = f"{where}: its prompt is too long" if len(row["prompt"]) > longest else None
    return StoredRow(where, images=images, problem=problem)


FORMAT = Format("Counts of defects, with the image", write, columns, read_back, Options)
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package `counting` whose metadata name its format."""
    site = tmp_path / "site"
    metadata = site / "counting-1.0.dist-info"
    metadata.mkdir(parents=True)
    (site / "counting_format.py").write_text(MODULE)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: counting\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[sdg_data.export_formats]\ncounts = counting_format:FORMAT\n")
    monkeypatch.syspath_prepend(str(site))


@pytest.mark.usefixtures("package")
def test_it_is_written_described_and_verified(
    world: tuple[Store, Blobs], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert format_names() == [*FORMATS, "counts"]
    out = tmp_path / "out"
    store = world[0]
    words = ["--home", str(store.home), "export", "run", "--format", "counts", "--output", str(out), "--no-phash"]
    assert run([*words, "--set", "longest=5"]) == 0
    rows = [row for path in sorted(out.glob("data/*.parquet")) for row in pq.read_table(path).to_pylist()]
    assert len(rows) == 16  # the gold of the world
    assert {len(row["prompt"]) for row in rows} == {5}
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["settings"]["options"]["longest"] == 5

    card = (out / "README.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    features = front["dataset_info"]["features"]
    assert [(feature["name"], feature["dtype"]) for feature in features] == [
        ("image", "image"),
        ("key", "string"),
        ("prompt", "string"),
        ("defects", "int64"),
    ]
    assert {files["path"] for files in front["configs"][0]["data_files"]} == {
        "data/train-*.parquet",
        "data/test-*.parquet",
    }
    assert "Exported as `counts` (Counts of defects, with the image)" in card
    (records,) = json.loads((out / "croissant.json").read_text())["recordSet"]
    assert [field["name"] for field in records["field"]] == ["key", "prompt", "defects"]

    report = verify(Target(out))
    assert report.problems == []
    assert report.checked["images"] == 16 + 3  # and the card's pictures
    path = out / "data/train-00000-of-00001.parquet"
    table = pq.read_table(path)
    longer = pa.array([f"{text}, and more" for text in table["prompt"].to_pylist()])
    pq.write_table(table.set_column(2, "prompt", longer), path)
    assert sum("its prompt is too long" in problem for problem in verify(Target(out)).problems) == len(longer)
    capsys.readouterr()


@pytest.mark.usefixtures("package")
def test_a_wrong_option_and_an_own_one_elsewhere(world: tuple[Store, Blobs], tmp_path: Path) -> None:
    words = ["--home", str(world[0].home), "export", "run", "--output", str(tmp_path / "out"), "--format"]
    assert run([*words, "counts", "--set", "longest=short"]) == 3
    assert run([*words, "counts", "--set", "longest"]) == 3
    assert run([*words, "hf", "--set", "longest=5"]) == 3


def test_a_format_that_is_not_installed_is_checked_by_its_files(
    export: Callable[..., ExportResult], tmp_path: Path
) -> None:
    """Somebody without the package can still see whether files, images and rows are what was written."""
    out = tmp_path / "out"
    export(out, "hf")
    text = (out / "manifest.json").read_text().replace('"format": "hf"', '"format": "elsewhere"')
    (out / "manifest.json").write_bytes(Manifest.model_validate_json(text).text())
    report = verify(Target(out))
    assert report.problems == []
    assert (report.checked["samples"], report.checked["images"]) == (0, 24 + 3)
    (part,) = out.glob("data/test-*.parquet")
    shutil.copy(next(out.glob("data/train-*.parquet")), part)
    assert any("the manifest says" in problem for problem in verify(Target(out)).problems)


def test_a_script_adds_one_by_a_line(
    world: tuple[Store, Blobs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FORMATS, "mine", "exports.formats.hf:FORMAT")
    assert load_format("mine") is load_format("hf")
    result = run_export(
        *world, Target(tmp_path / "out"), format_name="mine", name="mini", selection=Selection(sample=2)
    )
    assert result.manifest.format == "mine"
    monkeypatch.setitem(FORMATS, "broken", "no.such.module:FORMAT")
    with pytest.raises(ConfigError, match=r"'broken' cannot be loaded: No module named 'no'"):
        load_format("broken")
    with pytest.raises(ConfigError, match="there is no format 'csv'"):
        load_format("csv")


def test_manifests_keep_the_order_of_the_options() -> None:
    """The options are one record from several groups; its order is part of a manifest's bytes."""
    assert list(load_format("hf").options().model_dump()) == [
        "shard_bytes",
        "axis_order",
        "template",
        "trace",
        "system",
        "heatmap_side",
        "margin",
        "phash",
    ]
