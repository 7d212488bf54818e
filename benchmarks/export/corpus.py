"""A store of prelabelled images of about 1 MB, made quickly.

PNGs of 768², smooth colours with a little noise, which is what a photograph's PNG is to a decoder: 24 different ones
under many names and prompts.
"""

import io
import zlib
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from schemas.defect import Defect
from schemas.geometry import Box
from schemas.records import ImageRecord, Prelabel, Prompt
from sdg_data.blobs import Blobs
from sdg_data.ids import blob_name, content_id, image_id, prompt_id, split_of
from sdg_data.store import images, prelabels, prompts
from sdg_data.store.connection import Store

SIDE = 768
TAIL = b"\0\0\0\0IEND\xaeB`\x82"


def pictures(number: int) -> list[bytes]:
    """PNGs of about 1 MB."""
    made = []
    for seed in range(min(number, 24)):
        rng = np.random.default_rng(seed)
        smooth = ndimage.zoom(rng.uniform(0, 255, (24, 24, 3)), (SIDE / 24, SIDE / 24, 1), order=1)
        pixels = np.clip(smooth + rng.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="PNG", compress_level=4)
        made.append(buffer.getvalue())
    return made


def different(data: bytes, number: int) -> bytes:
    """The same picture under other bytes: a text chunk with the number before the end."""
    chunk = b"tEXt" + b"n\0" + f"{number:08d}".encode()
    return (
        data[: -len(TAIL)] + (len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big") + TAIL
    )


def build(home: Path, number: int) -> tuple[Store, Blobs]:
    """A store of prelabelled images."""
    store, blobs, base = Store(home), Blobs(home / "blobs"), pictures(number)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    box = Box(x0=100, y0=200, x1=300, y1=400)
    reason = "The left hand has six fingers, the last of which ends in a blur. " * 3
    defects = tuple(Defect(box=box, type="artifact", reason=reason, importance=60) for _ in range(3))
    with store.write() as tx:
        for start in range(0, number, 100):
            records: tuple[list[Prompt], list[ImageRecord], list[Prelabel]] = ([], [], [])
            for index in range(start, min(start + 100, number)):
                data = different(base[index % len(base)], index)
                path = Path(blobs.path(blob_name(data)))
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
                text = f"a photograph of subject {index}, highly detailed"
                identity = prompt_id(text)
                key = image_id(identity, "m", "r", 0, "{}")
                records[0].append(
                    Prompt(id=identity, text=text, source="b", licence=None, split=split_of(identity, 0.04))
                )
                records[1].append(
                    ImageRecord(
                        id=key, prompt_id=identity, model="m", revision="r", sample=0, seed=index, settings="{}",
                        blob=blob_name(data), media_type="image/png", width=SIDE, height=SIDE, bytes=len(data),
                        licence="Apache-2.0", source="generated", tool="b", seconds=None, created_at=now,
                    )
                )  # fmt: skip
                records[2].append(
                    Prelabel(
                        id=content_id("p", key), image_id=key, model="vlm", revision="r", template="t", settings="{}",
                        raw="", trace="### Step 1\n" + "words and more words " * 60, defects=defects, repairs=(),
                        attempt=1, tokens_in=None, tokens_out=None, cost=None, seconds=None, tool="b", created_at=now,
                    )
                )  # fmt: skip
            prompts.insert(tx, records[0])
            images.insert(tx, records[1])
            prelabels.insert(tx, records[2])
    return store, blobs
