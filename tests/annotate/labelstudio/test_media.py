"""Images as files that Label Studio may serve: links to blobs whose content is what their name says."""

from pathlib import Path

import pytest

from annotate.labelstudio.media import serve
from schemas.records import ImageRecord
from sdg_data.blobs import Blobs
from sdg_data.errors import BlobCorrupt
from sdg_data.ids import image_id, seed_of
from tests.annotate.support import NOW


def stored(blobs: Blobs, data: bytes) -> ImageRecord:
    image = image_id("0" * 32, "m", "r", 0, "{}")
    return ImageRecord(
        id=image, prompt_id="0" * 32, model="m", revision="r", sample=0, seed=seed_of(image), settings="{}",
        blob=blobs.put(data), media_type="image/png", width=64, height=64, bytes=len(data), licence="x",
        source="generated", tool="t", seconds=None, created_at=NOW,
    )  # fmt: skip


def test_a_blob_is_linked_and_a_swapped_one_is_not(tmp_path: Path) -> None:
    blobs, media = Blobs(str(tmp_path / "blobs")), tmp_path / "media"
    good, swapped = stored(blobs, b"one picture"), stored(blobs, b"another picture")
    Path(blobs.path(swapped.blob)).chmod(0o600)
    Path(blobs.path(swapped.blob)).write_bytes(b"one picture")
    assert serve(blobs, media, [good]) == 1
    (file,) = (path for path in media.rglob("*") if path.is_file())
    assert file.samefile(blobs.path(good.blob))
    with pytest.raises(BlobCorrupt):
        serve(blobs, media, [swapped])
    assert [path for path in media.rglob("*") if path.is_file()] == [file]
    assert serve(blobs, media, [good]) == 0
