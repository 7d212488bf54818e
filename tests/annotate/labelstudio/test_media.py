"""Images as files that Label Studio may serve: links to blobs that browsers show as we do, else our own rendering."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from annotate.labelstudio.media import serve
from schemas.records import ImageRecord
from sdg_data.blobs import Blobs
from sdg_data.errors import BlobCorrupt
from sdg_data.ids import image_id, seed_of
from sdg_data.picture import PictureError
from tests.annotate.support import NOW

PREFIX = "/data/local-files/?d="


def stored(blobs: Blobs, data: bytes, media_type: str = "image/png") -> ImageRecord:
    image = image_id("0" * 32, "m", "r", 0, "{}")
    return ImageRecord(
        id=image, prompt_id="0" * 32, model="m", revision="r", sample=0, seed=seed_of(image), settings="{}",
        blob=blobs.put(data), media_type=media_type, width=64, height=64, bytes=len(data), licence="x",
        source="generated", tool="t", seconds=None, created_at=NOW,
    )  # fmt: skip


def png(grey: int) -> bytes:
    file = BytesIO()
    Image.new("RGB", (64, 64), (grey, grey, grey)).save(file, "PNG")
    return file.getvalue()


def sideways() -> bytes:
    """A JPEG, 32 wide and 16 high as stored, its left half red, that EXIF turns a quarter clockwise (6)."""
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :16] = (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = 6
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=100, subsampling=0, exif=exif)
    return file.getvalue()


def files(media: Path) -> list[Path]:
    return sorted(path for path in media.rglob("*") if path.is_file())


def test_a_blob_is_linked_and_a_swapped_one_is_not(tmp_path: Path) -> None:
    blobs, media = Blobs(str(tmp_path / "blobs")), tmp_path / "media"
    good, swapped = stored(blobs, png(1)), stored(blobs, png(2))
    Path(blobs.path(swapped.blob)).chmod(0o600)
    Path(blobs.path(swapped.blob)).write_bytes(png(1))
    url = serve(blobs, media, good)
    (file,) = files(media)
    assert file.samefile(blobs.path(good.blob))
    assert media / url.removeprefix(PREFIX) == file
    with pytest.raises(BlobCorrupt):
        serve(blobs, media, swapped)
    assert files(media) == [file]
    assert serve(blobs, media, good) == url


def test_a_photo_that_lies_on_its_side_is_given_upright(tmp_path: Path) -> None:
    blobs, media = Blobs(str(tmp_path / "blobs")), tmp_path / "media"
    photo = stored(blobs, sideways(), "image/jpeg")
    old = media / "images" / photo.blob[:2] / f"{photo.blob}.jpg"  # as earlier versions linked it, for tasks of theirs
    old.parent.mkdir(parents=True)
    old.hardlink_to(blobs.path(photo.blob))
    url = serve(blobs, media, photo)
    file = media / url.removeprefix(PREFIX)
    assert files(media) == sorted([old, file])
    assert file.suffix == ".png"
    with Image.open(file) as shown:
        assert shown.format == "PNG"
        assert shown.size == (16, 32)
        assert shown.getpixel((8, 2)) == (254, 0, 0)  # the left half is on top
        assert shown.getpixel((8, 29)) == (0, 0, 0)
    assert blobs.get(photo.blob) == sideways()
    file.chmod(0o600)
    file.write_bytes(b"kept")
    assert serve(blobs, media, photo) == url
    assert file.read_bytes() == b"kept"  # made once


def test_bytes_that_give_no_picture_are_refused(tmp_path: Path) -> None:
    blobs, media = Blobs(str(tmp_path / "blobs")), tmp_path / "media"
    with pytest.raises(PictureError):
        serve(blobs, media, stored(blobs, b"<html>"))
    assert not files(media)
