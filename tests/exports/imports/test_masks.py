"""Mask corpora: regions become boxes, and nothing is clean that its source does not call clean."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from exports.imports.masks import MaskOptions, mask_rows, regions_of
from exports.imports.records import ExternalOptions
from exports.imports.richhf_names import FileNames
from exports.imports.rows import LABELS
from exports.imports.store_rows import UNIT, import_rows
from schemas.defect import DefectType
from sdg_data.blobs import Blobs
from sdg_data.cli import run
from sdg_data.errors import InputError
from sdg_data.ingest.report import ImportReport
from sdg_data.store import gold, images, prompts
from sdg_data.store.connection import Store
from tests.exports.worlds import png

SIDE = 100


def picture(folder: Path, name: str) -> str:
    """A picture that no other name has."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    pixels[:, : 1 + sum(map(ord, name)) % (SIDE - 1)] = 200
    path.write_bytes(png(pixels))
    return name


def mask(path: Path, *boxes: tuple[int, int, int, int], side: int = SIDE, value: int = 255, mode: str = "L") -> None:
    """A mask with rectangles x0, y0, x1, y1; the far corner is the first pixel outside."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((side, side), np.uint8)
    for x0, y0, x1, y1 in boxes:
        pixels[y0:y1, x0:x1] = value
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, "PNG")
    path.write_bytes(buffer.getvalue())


class Imported:
    """What became of a corpus: defects by picture, and what was refused by code."""

    def __init__(self, home: Path, source: Path, names: list[str], **options: Any) -> None:
        store = Store(home)
        external = ExternalOptions(where="masks", folder=None, test_share=0.0)
        known = FileNames({name: f"picture {name}" for name in names})
        with ImportReport(str(source), unit=UNIT) as report:
            rows = mask_rows(source, MaskOptions(external, known, **options))
            import_rows(store, Blobs(home / "blobs"), str(source), rows, report=report)
            report.check()
            tallies = report.tallies
        self.images = tallies[UNIT].refused_by_code
        self.boxes = tallies[LABELS].refused_by_code if LABELS in tallies else {}
        with store.read() as tx:
            texts = {image.id: prompts.by_ids(tx, [image.prompt_id])[image.prompt_id].text for image in images.page(tx)}
            self.gold = {
                texts[label.image_id].removeprefix("picture "): [
                    (str(defect.type), (defect.box.x0, defect.box.y0, defect.box.x1, defect.box.y1), defect.reason)
                    for defect in label.defects
                ]
                for label in gold.page(tx)
            }


def test_regions_become_boxes_and_crumbs_are_counted(tmp_path: Path) -> None:
    names = [picture(tmp_path / "images", name) for name in ("train/a.png", "b.png")]
    mask(tmp_path / "masks" / "low-level-edge_shape" / "train" / "a.png", (10, 20, 30, 50), (60, 60, 80, 70))
    mask(tmp_path / "masks" / "style" / "train" / "a.png", (0, 0, 3, 3), (40, 0, 50, 10))
    for category in ("low-level-edge_shape", "style"):
        mask(tmp_path / "masks" / category / "b.png")
    result = Imported(tmp_path / "home", tmp_path, names, types={"style": DefectType.MISALIGNMENT})
    assert result.gold == {
        "train/a.png": [
            ("artifact", (100, 200, 300, 500), "Marked as low level edge shape."),
            ("artifact", (600, 600, 800, 700), "Marked as low level edge shape."),
            ("misalignment", (400, 0, 500, 100), "Marked as style."),
        ],
        "b.png": [],
    }
    assert result.images == {}
    assert result.boxes == {"small-region": 1}


def test_only_a_full_set_of_empty_masks_says_clean(tmp_path: Path) -> None:
    names = [picture(tmp_path / "images", f"{name}.png") for name in ("none", "some", "crumb", "clean", "other", "bad")]
    for name in ("some", "clean", "other", "bad"):
        mask(tmp_path / "masks" / "texture" / f"{name}.png")
    mask(tmp_path / "masks" / "texture" / "crumb.png", (0, 0, 2, 2))
    for name in ("crumb", "clean"):
        mask(tmp_path / "masks" / "edge" / f"{name}.png")
    mask(tmp_path / "masks" / "edge" / "other.png", (10, 10, 90, 20))
    (tmp_path / "masks" / "edge" / "bad.png").write_bytes(b"no picture")
    mask(tmp_path / "masks" / "edge" / "stray.png", (0, 0, 9, 9))
    result = Imported(tmp_path / "home", tmp_path, names)
    assert result.gold == {"clean.png": [], "other.png": [("artifact", (100, 100, 900, 200), "Marked as edge.")]}
    assert result.images == {"no-mask": 1, "doubtful-clean": 1, "no-claim": 1, "bad-mask": 1}
    assert result.boxes == {"small-region": 1, "mask-without-image": 1}


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB"])
def test_masks_of_any_kind_and_of_another_scale(tmp_path: Path, mode: str) -> None:
    name = picture(tmp_path / "images", "a.png")
    mask(tmp_path / "masks" / "edge" / "a.png", (50, 50, 100, 100), side=200, mode=mode)
    result = Imported(tmp_path / "home", tmp_path, [name])
    assert [box for _, box, _ in result.gold["a.png"]] == [(250, 250, 500, 500)]


def test_a_mask_that_is_transparent_in_places_is_refused(tmp_path: Path) -> None:
    names = [picture(tmp_path / "images", name) for name in ("solid.png", "clear.png", "index.png")]
    for name in names:
        mask(tmp_path / "masks" / "edge" / name, (10, 10, 30, 30), mode="RGBA")
    alpha = np.zeros((SIDE, SIDE, 4), np.uint8)
    alpha[10:30, 10:30, 3] = 255
    Image.fromarray(alpha).save(tmp_path / "masks" / "edge" / "clear.png")
    Image.fromarray(alpha[..., 3]).convert("P").save(tmp_path / "masks" / "edge" / "index.png", transparency=0)
    result = Imported(tmp_path / "home", tmp_path, names)
    assert result.gold == {"solid.png": [("artifact", (100, 100, 300, 300), "Marked as edge.")]}
    assert result.images == {"bad-mask": 2}


def test_a_mask_of_another_shape_and_a_picture_without_a_prompt_are_refused(tmp_path: Path) -> None:
    names = [picture(tmp_path / "images", name) for name in ("wide.png", "silent.png", "good.png")]
    wide = np.full((50, 100), 255, np.uint8)
    for name in names:
        mask(tmp_path / "masks" / "edge" / name, (0, 0, 50, 50))
    (tmp_path / "masks" / "edge" / "wide.png").write_bytes(png(np.repeat(wide[..., None], 3, axis=2)))
    result = Imported(tmp_path / "home", tmp_path, ["wide.png", "good.png"])
    assert set(result.gold) == {"good.png"}
    assert result.images == {"size-differs": 1, "no-prompt": 1}


def test_touching_corners_are_one_region() -> None:
    marked = np.zeros((6, 8), bool)
    marked[0:3, 0:3] = marked[3:6, 3:6] = True
    marked[0, 7] = True
    assert regions_of(marked, 4) == ([[0, 0, 6, 6]], [1])


def test_synthscars(tmp_path: Path) -> None:
    folder = tmp_path / "SynthScars" / "train"
    names = [picture(folder / "images", f"{number}.png") for number in range(5)]
    hand = {
        "sentence": "left hand",
        "explanation": "The left hand has six fingers.",
        "segmentation": [[10, 20, 30, 20, 30, 60, 10, 60], [30, 40, 50, 40, 50, 50]],
    }
    entries = [
        {"0": {"img_file_name": names[0], "caption": "an analysis", "refs": [hand, {**hand, "explanation": ""}]}},
        {"1": {"img_file_name": names[1], "caption": "an analysis", "refs": []}},
        {"2": {"img_file_name": names[2], "caption": "an analysis"}},
        {"3": {"img_file_name": names[3], "refs": [hand, {**hand, "segmentation": [[1, 2]]}]}},
        {"4": {"img_file_name": "../../secret.png", "refs": [hand]}},
        "nothing",
    ]
    file = folder / "annotations" / "train.json"
    file.parent.mkdir()
    file.write_text(json.dumps(entries))
    result = Imported(tmp_path / "home", file, [*names, "../../secret.png"])
    assert result.gold == {
        "0.png": [
            ("artifact", (100, 200, 500, 600), "The left hand has six fingers."),
            ("artifact", (100, 200, 500, 600), "left hand"),
        ],
        "1.png": [],
    }
    assert result.images == {"no-annotations": 1, "bad-box": 1, "outside-folder": 1, "bad-row": 1}
    assert result.boxes == {"bad-box": 1, "image-refused": 2}


def test_what_is_no_mask_corpus_is_an_error(tmp_path: Path) -> None:
    options = MaskOptions(ExternalOptions(where="masks", folder=None, test_share=0.0), FileNames())
    (tmp_path / "no.json").write_text("{}")
    for source in (tmp_path, tmp_path / "no.json", tmp_path / "absent"):
        with pytest.raises(InputError):
            list(mask_rows(source, options))


def test_a_corpus_is_named_from_within_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "set" / "images", "a.png")
    mask(tmp_path / "set" / "masks" / "style" / "a.png", (10, 10, 50, 50))
    (tmp_path / "prompts.json").write_text(json.dumps({"a.png": "a red barn"}))
    monkeypatch.chdir(tmp_path / "set")
    home = tmp_path / "home"
    assert run(["--home", str(home), "import", "masks", ".", "--prompts", str(tmp_path / "prompts.json")]) == 0
    with Store(home).read() as tx:
        assert [image.source for image in images.page(tx)] == ["imported:set"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture(tmp_path / "set" / "images", "a.png")
    mask(tmp_path / "set" / "masks" / "style" / "a.png", (10, 10, 50, 50))
    (tmp_path / "prompts.json").write_text(json.dumps({"a.png": "a red barn"}))
    command = ["--home", str(tmp_path / "home"), "import", "masks", str(tmp_path / "set")]
    command += ["--prompts", str(tmp_path / "prompts.json")]
    assert run([*command, "--category", "style=bad"]) == 3
    assert run([*command, "--category", "style=misalignment", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["new"] == 1
