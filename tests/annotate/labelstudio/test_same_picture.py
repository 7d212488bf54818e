"""One picture, wherever it is shown: an import of every kind of file, read back by everything that decodes."""

import base64
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from annotate.labelstudio.media import serve
from annotate.vlm.contract import Question
from annotate.vlm.families import fit_image
from exports.read import ShardReader
from schemas.records import Annotation, ImageRecord
from sdg_data.blobs import Blobs
from sdg_data.cli import run
from sdg_data.ids import content_id
from sdg_data.ingest.near_duplicates import perceptual_hash
from sdg_data.picture import decode_pixels
from sdg_data.sheets.cells import image_of_url
from sdg_data.store import annotations, images
from sdg_data.store.connection import Store
from tests.browser import chromium, needs_chromium
from tests.sdg_data.picture.cases import CASES

SUFFIXES = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}
CANVAS = """async (url) => {
  const image = new Image();
  image.src = url;
  await image.decode();
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const pen = canvas.getContext('2d', {willReadFrequently: true});
  pen.drawImage(image, 0, 0);
  return [canvas.width, canvas.height, Array.from(pen.getImageData(0, 0, canvas.width, canvas.height).data)];
}"""


class Imported:
    """A home with every case, one image each, called clean by somebody; `pixels` by image id."""

    def __init__(self, folder: Path) -> None:
        source = folder / "pictures"
        source.mkdir()
        for number, (name, case) in enumerate(CASES.items()):
            (source / f"{number}.{SUFFIXES[case.media_type]}").write_bytes(case.data)
            (source / f"{number}.txt").write_text(f"case {number}: {name}")
        self.home = folder / "home"
        assert run(["--home", str(self.home), "images", "import", str(source)]) == 0
        self.store, self.blobs = Store(self.home), Blobs(self.home / "blobs")
        with self.store.write() as tx:
            self.records = images.page(tx)
            annotations.insert(tx, [clean(record) for record in self.records])
        self.pixels = {record.id: decode_pixels(self.blobs.get(record.blob)) for record in self.records}
        self.media = folder / "media"


def clean(image: ImageRecord) -> Annotation:
    return Annotation(
        id=content_id("annotation", image.id), image_id=image.id, prelabel_id=None, parent_id=None, annotator="anna",
        round=1, status="clean", defects=(), note=None, source="test", seconds=None, tool="test",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Imported:
    return Imported(tmp_path_factory.mktemp("same"))


def naive(data: bytes) -> Any:
    """A decoder that applies no rule at all."""
    with Image.open(BytesIO(data)) as image:
        assert image.mode in ("RGB", "L", "P", "1")
        return np.asarray(image.convert("RGB"))


def test_records_have_the_size_of_the_picture(imported: Imported) -> None:
    assert len(imported.records) == len(CASES)
    for record in imported.records:
        assert (record.height, record.width) == imported.pixels[record.id].shape[:2]


def test_sheets_show_it(imported: Imported) -> None:
    for record in imported.records:
        assert np.array_equal(np.asarray(image_of_url(imported.blobs, record)), imported.pixels[record.id])


def test_models_are_sent_it(imported: Imported) -> None:
    for record in imported.records:
        sent = fit_image(imported.blobs.get(record.blob), record.media_type, family="qwen3-vl", max_side=4096)
        assert (sent.size.width, sent.size.height) == (record.width, record.height)
        assert np.array_equal(naive(sent.data), imported.pixels[record.id])
        assert Question(text="?", image=sent, prompt="?").image.data == sent.data


def test_label_studio_is_given_it(imported: Imported) -> None:
    for record in imported.records:
        url = serve(imported.blobs, imported.media, record)
        file = imported.media / url.removeprefix("/data/local-files/?d=")
        assert np.array_equal(naive(file.read_bytes()), imported.pixels[record.id])


def test_near_duplicates_are_found_however_they_are_stored(imported: Imported) -> None:
    def hashed(name: str) -> int:
        return perceptual_hash(CASES[name].data)

    assert hashed("PNG RGB of 16 bits").bit_count() > 8
    assert (hashed("PNG RGB of 16 bits") ^ hashed("PNG RGB")).bit_count() <= 4
    assert (hashed("PNG 6") ^ hashed("JPEG 6")).bit_count() <= 4
    assert (hashed("PNG 6") ^ hashed("PNG 1")).bit_count() > 4


def test_readers_of_an_export_see_it(imported: Imported, tmp_path: Path) -> None:
    arguments = ["--home", str(imported.home), "export", "run", "--format", "webdataset", "--unreviewed"]
    assert run([*arguments, "--output", str(tmp_path / "shards")]) == 0
    for decode in ("numpy", "pil"):
        examples = list(ShardReader(tmp_path / "shards", decode=decode, rank=0, world=1))
        assert {example.key for example in examples} == set(imported.pixels)
        for example in examples:
            assert np.array_equal(np.asarray(example.image), imported.pixels[example.key])
            assert (example.sample.height, example.sample.width) == np.asarray(example.image).shape[:2]


def test_trainers_see_it(imported: Imported) -> None:
    pytest.importorskip("torch")
    from sdg_data.prompt_templates import load_template
    from trainers.detector.chat import Chat

    chat = Chat(None, load_template("detect-1"), "qwen3-vl", 4096, False)
    for record in imported.records:
        data = imported.blobs.get(record.blob)
        assert np.array_equal(np.asarray(chat.picture(data)), imported.pixels[record.id])
        assert np.array_equal(naive(chat.png(data)), imported.pixels[record.id])


@pytest.mark.slow
@needs_chromium
def test_chromium_shows_it_in_label_studio_and_in_the_dashboard(imported: Imported) -> None:
    pytest.importorskip("gradio")
    from starlette.testclient import TestClient

    from sdg_data.dashboard.app import make_app

    dashboard = TestClient(make_app(imported.home, imported.blobs), base_url="http://127.0.0.1")
    with chromium() as browser:
        page = browser.new_page()

        def shown(data: bytes, media_type: str) -> Any:
            width, height, values = page.evaluate(CANVAS, f"data:{media_type};base64,{base64.b64encode(data).decode()}")
            return np.array(values, np.uint8).reshape(height, width, 4)[..., :3]

        for record in imported.records:
            url = serve(imported.blobs, imported.media, record)
            file = imported.media / url.removeprefix("/data/local-files/?d=")
            kind = {".jpg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}[file.suffix]
            assert np.array_equal(shown(file.read_bytes(), kind), imported.pixels[record.id])
            answer = dashboard.get(f"/blob/{record.blob}")
            assert np.array_equal(shown(answer.content, answer.headers["content-type"]), imported.pixels[record.id])
