"""Images that cannot be exported: left out, counted and named; all others are exported, in every format."""

import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from exports.dataset.select import Selection
from exports.files.target import Target
from exports.formats import FORMATS
from exports.run import ExportResult
from exports.verify import verify
from schemas.records import ImageRecord
from sdg_data.blobs import Blobs
from sdg_data.cli import run
from sdg_data.errors import ExitCode, InputError
from sdg_data.ids import blob_name
from sdg_data.picture import DAMAGED, UNSUPPORTED
from sdg_data.store import failures, images, prelabels, prompts
from sdg_data.store.connection import Store
from tests.exports.worlds import fill, machine, picture, png, record

WHOLE = 6


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(1).pixels).save(buffer, format=kind)
    return buffer.getvalue()


def bad_images() -> list[tuple[str, bytes, dict[str, Any]]]:
    """(code, stored bytes, what the record says otherwise) of each kind."""
    whole = png(picture(1).pixels)
    crc = bytearray(whole)
    crc[whole.index(b"IDAT") + 20] ^= 1
    return [
        (UNSUPPORTED, b"<html>404</html>", {"media_type": "image/png", "width": 64, "height": 64}),
        (DAMAGED, whole[: len(whole) // 2], {}),
        (DAMAGED, bytes(crc), {}),
        (DAMAGED, encoded("JPEG")[:-200], {"media_type": "image/jpeg"}),
        (DAMAGED, encoded("WEBP")[:-50], {"media_type": "image/webp"}),
        (UNSUPPORTED, encoded("BMP"), {"media_type": "image/png"}),
        (UNSUPPORTED, b"<svg></svg>", {"media_type": "image/svg+xml"}),
        ("other-size", whole, {"width": 65}),
        ("other-size", whole, {"bytes": len(whole) + 1}),
        ("other-type", encoded("WEBP"), {"media_type": "image/png"}),
        (DAMAGED, b"", {"bytes": 0}),
    ]


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Blobs, Counter[str]]:
    """Six images in order and one of every bad kind, one more missing and one damaged; with their codes."""
    home = tmp_path_factory.mktemp("broken")
    store, blobs = fill(home, WHOLE), Blobs(home / "blobs")
    codes: Counter[str] = Counter()
    with store.write() as tx:
        for number, (code, data, said) in enumerate(bad_images(), start=100):
            image, prompt = record(f"prompt {number}", png(picture(1).pixels), number)
            fields = {"blob": blob_name(data), "bytes": max(len(data), 1), **said}
            image = ImageRecord.model_validate(image.model_dump() | fields | {"bytes": max(fields["bytes"], 1)})
            blobs.put(data)
            add(tx, image, prompt, number)
            codes[code if fields["bytes"] else "other-size"] += 1
        for number in (200, 201):
            data = png(picture(number).pixels)
            image, prompt = record(f"prompt {number}", data, number)
            add(tx, image, prompt, number)
    blobs.put(png(picture(201).pixels))
    Path(blobs.path(blob_name(png(picture(201).pixels)))).write_bytes(b"?")
    codes += Counter({"missing-blob": 1, "corrupt-blob": 1})
    return store, blobs, codes


def add(tx: Any, image: ImageRecord, prompt: Any, number: int) -> None:
    prompts.insert(tx, [prompt])
    images.insert(tx, [image])
    prelabels.insert(tx, [machine(image, picture(1).defects, number)])


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_leaves_them_out(
    broken: tuple[Store, Blobs, Counter[str]], export: Callable[..., ExportResult], tmp_path: Path, name: str
) -> None:
    store, blobs, codes = broken
    done = export(tmp_path, name, world=(store, blobs), heatmap_side=8, phash=name == "hf")
    assert Counter(error.code for error in done.left_out) == codes
    assert done.manifest.samples == WHOLE
    note = done.manifest.notes["left_out"]
    assert note["images"] == codes.total()
    assert note["codes"] == dict(sorted(codes.items()))
    assert set(note["keys"]) == {error.key for error in done.left_out}
    assert f"{codes.total()} selected images are left out" in (tmp_path / "README.md").read_text()
    assert verify(Target(tmp_path)).problems == []
    with store.read() as tx:
        assert failures.count_by_code(tx, "export") == dict(codes)  # once, however many exports


def test_the_command_says_so_and_ends_with_10(
    broken: tuple[Store, Blobs, Counter[str]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    store, _, codes = broken
    words = ["export", "run", "--select", "prelabel:vlm", "--output", str(tmp_path / "out"), "--no-phash"]
    assert run(["--home", str(store.home), *words]) == ExitCode.PARTIAL
    assert f"{codes.total()} images are left out" in capsys.readouterr().err


def test_none_that_can_be_read_is_an_error(
    broken: tuple[Store, Blobs, Counter[str]], export: Callable[..., ExportResult], tmp_path: Path
) -> None:
    store, _, _ = broken
    with pytest.raises(InputError, match=r"none of the .* selected images can be read"):
        export(tmp_path / "out", world=(store, Blobs(tmp_path / "empty")), selection=Selection(source="prelabel:vlm"))
    assert not (tmp_path / "out" / "manifest.json").exists()
