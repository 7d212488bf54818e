"""`sdg images map`: images are looked at once, what cannot be is named, and alike pictures lie together."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from annotate.machine import map_images
from annotate.vlm.contract import EncodedImage, Identity
from annotate.vlm.families import fit_image
from schemas.records import ImageRecord, Tombstone, Withdrawn
from sdg_data import cli, image_maps
from sdg_data.blobs import Blobs
from sdg_data.errors import ExitCode
from sdg_data.picture import decode_image, decode_pixels
from sdg_data.store import images, tombstones
from sdg_data.store.connection import Store
from tests.exports.worlds import START, fill


class MeanColour:
    """Sees the mean colour; refuses batches of more than two, and what it was told to refuse."""

    def __init__(self, revision: str = "r1") -> None:
        self.identity = Identity("mini", "some/mean-colour", revision, {}, None)
        self.seen: list[bytes] = []
        self.refused: bytes | None = None

    def prepare(self, data: bytes, media_type: str) -> EncodedImage:
        return fit_image(data, media_type, family="qwen3-vl", max_side=64)

    def see(self, pictures: Sequence[EncodedImage]) -> NDArray[np.float32]:
        if len(pictures) > 2:
            raise RuntimeError("out of memory")
        if any(picture.data == self.refused for picture in pictures):
            raise ValueError("a shape that it does not take")
        self.seen += [picture.data for picture in pictures]
        return np.stack([decode_pixels(picture.data).mean(axis=(0, 1)) for picture in pictures]).astype(np.float32)


@pytest.fixture
def tower(monkeypatch: pytest.MonkeyPatch) -> MeanColour:
    made = MeanColour()
    monkeypatch.setattr(map_images, "make_tower", lambda *_, **__: made)
    return made


def stored(home: Path) -> list[ImageRecord]:
    with Store(home).read() as tx:
        return images.page(tx)


def run(home: Path, *arguments: str) -> int:
    return cli.run(["--home", str(home), "images", "map", *arguments])


def test_each_image_is_looked_at_once(
    tmp_path: Path, tower: MeanColour, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(map_images, "PART", 5)
    fill(tmp_path, 12)
    records, blobs = stored(tmp_path), Blobs(tmp_path / "blobs")
    assert run(tmp_path, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["map"], document["looked"], document["already"], document["placed"]) == ("mean-colour", 12, 0, 12)
    assert sorted(tower.seen) == sorted(blobs.get(record.blob) for record in records)
    places = image_maps.load(tmp_path, "mean-colour")
    assert sorted(places.image_ids) == sorted(record.id for record in records)
    colours = np.stack(
        [decode_pixels(blobs.get(r.blob)).mean(axis=(0, 1)) for r in sorted(records, key=lambda r: r.id)]
    )
    expected, _ = image_maps.project(colours.astype(np.float16).astype(np.float32))
    assert places.points == pytest.approx(expected, abs=1e-3)
    with Store(tmp_path).write() as tx:
        gone = Tombstone(kind=Withdrawn.IMAGE, item_id=records[0].id, reason="r", source="s", created_at=START)
        tombstones.insert(tx, [gone])
    assert run(tmp_path, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["looked"], document["already"], document["placed"]) == (0, 11, 11)
    assert len(tower.seen) == 12
    tower.identity = MeanColour("r2").identity
    assert run(tmp_path) == ExitCode.CONFIG
    assert "--name NAME" in capsys.readouterr().err
    assert run(tmp_path, "--name", "later") == 0
    assert image_maps.names(tmp_path) == ["later", "mean-colour"]


def test_what_cannot_be_looked_at_is_named(
    tmp_path: Path, tower: MeanColour, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, 12)
    records, blobs = stored(tmp_path), Blobs(tmp_path / "blobs")
    by_blob = {record.blob: record for record in records}
    assert len(by_blob) == 12
    missing, damaged, refused = (by_blob[name] for name in sorted(by_blob)[:3])
    for record, data in ((missing, None), (damaged, b"no picture")):
        path = blobs.local_path(record.blob)
        assert path is not None
        path.chmod(0o644)
        path.unlink() if data is None else path.write_bytes(data)
    tower.refused = blobs.get(refused.blob)
    assert run(tmp_path, "--json") == ExitCode.PARTIAL
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert (document["looked"], document["placed"]) == (9, 9)
    assert document["left_out"].keys() == {missing.id, damaged.id, refused.id}
    assert "a shape that it does not take" in document["left_out"][refused.id]
    assert said.err.count("left out:") == 3
    tower.refused = None
    assert run(tmp_path, "--json") == ExitCode.PARTIAL
    document = json.loads(capsys.readouterr().out)
    assert (document["looked"], document["already"], document["placed"]) == (1, 9, 10)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--method", "t-sne"), ExitCode.CONFIG, "pca or umap"),
        (("--model", "a", "--clip", "b"), ExitCode.CONFIG, "not both"),
        (("--name", "../x"), ExitCode.OK, ""),  # of a path its last part
        (("--name", "a b"), ExitCode.CONFIG, "no name for a map"),
        (("--name", ".."), ExitCode.CONFIG, "no name for a map"),
        (("--method", "umap"), ExitCode.MISSING_DEPENDENCY, "umap-learn"),
    ],
)
def test_options(
    tmp_path: Path,
    tower: MeanColour,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: ExitCode,
    words: str,
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "umap", None)
    fill(tmp_path, 12)
    assert run(tmp_path, *arguments) == code
    assert words in capsys.readouterr().err


def test_homes_without_a_store_or_images_say_so(
    tmp_path: Path, tower: MeanColour, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "nothing") != 0
    with Store(tmp_path).write():
        pass
    assert run(tmp_path) == ExitCode.INPUT
    assert "no image has been seen" in capsys.readouterr().err


def test_a_server_shows_no_vision_tower(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path, 2)
    config = tmp_path / "own.toml"
    config.write_text('[prelabel]\nbackend = "openai"\nmodel = "m"\nbase_url = "http://127.0.0.1:9/v1"\n')
    assert cli.run(["--home", str(tmp_path), "--config", str(config), "images", "map"]) == ExitCode.GENERATION
    assert "--clip" in capsys.readouterr().err


def noise(seed: int, side: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side + 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.slow
def test_the_toy_detectors_tower_sees_an_image_alike_whatever_stands_beside_it() -> None:
    from annotate.vlm.local import LocalBackend
    from sdg_data.settings import VlmSettings

    backend = LocalBackend(VlmSettings(), name="mini")
    pictures = [backend.prepare(noise(seed, side), "image/png") for seed, side in ((1, 64), (2, 64), (3, 96))]
    together = backend.see(pictures)
    assert together.ndim == 2
    assert np.isfinite(together).all()
    for row, picture in zip(together, pictures, strict=True):
        assert backend.see([picture])[0] == pytest.approx(row, abs=1e-4)
    assert np.abs(together[0] - together[1]).max() > 1e-3


@pytest.mark.slow
def test_clip_is_asked_for_its_image_features(tmp_path: Path) -> None:
    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    from annotate.vlm.clip import ClipTower
    from sdg_data.settings import VlmSettings

    part: dict[str, Any] = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "projection_dim": 8,
    }  # fmt: skip
    config = CLIPConfig(
        text_config={**part, "vocab_size": 99}, vision_config={**part, "image_size": 32, "patch_size": 8},
        projection_dim=8,
    )  # fmt: skip
    torch.manual_seed(0)
    model = CLIPModel(config).eval()
    model.save_pretrained(tmp_path)
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor.save_pretrained(tmp_path)
    tower = ClipTower(VlmSettings(backend="transformers", model=str(tmp_path), device="cpu"))
    seen = tower.see([tower.prepare(noise(seed, 40), "image/png") for seed in (1, 2)])
    assert seen.shape == (2, 8)
    pixels = processor(images=[decode_image(noise(2, 40))], return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        pooled = model.vision_model(pixel_values=pixels).pooler_output
        expected = model.visual_projection(pooled)[0].numpy()
    assert seen[1] == pytest.approx(expected, abs=1e-5)
