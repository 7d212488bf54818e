"""A home with images of the drawn world, and ways to ask about them."""

import io
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from PIL import Image

from annotate.machine.stage import RequestLimits
from annotate.vlm.contract import EncodedImage, Question
from annotate.vlm.retrying import RetryPolicy
from schemas.geometry import ImageSize
from schemas.records import ImageRecord, Prompt
from sdg_data.blobs import Blobs
from sdg_data.ids import image_id, prompt_id, seed_of, split_of
from sdg_data.mini.render import render
from sdg_data.mini.world import parse_prompt, sample_prompts
from sdg_data.settings import VlmSettings
from sdg_data.store import images, prompts
from sdg_data.store.connection import Store

NOW = datetime(2026, 4, 1, tzinfo=UTC)
HURRIED = RetryPolicy(tries=3, first_pause=0.0, longest_pause=0.0)
QUICK = RequestLimits(concurrency=4, deadline=5.0, max_tokens=200, retry=HURRIED)
CLEAN = "<answer>[]</answer>"
ONE = (
    '<think>why</think><answer>[{"box_2d":[100,200,300,400],"label":"artifact","description":"a dent",'
    '"importance":40}]</answer>'
)


class Home:
    """A store and blobs with one clean render for each caption."""

    def __init__(self, folder: Path, captions: Sequence[str]) -> None:
        self.folder = folder
        self.store = Store(folder)
        self.blobs = Blobs(str(folder / "blobs"))
        self.image_of: dict[str, ImageRecord] = {}
        texts, records = [], []
        for index, caption in enumerate(captions):
            data = png(caption, index)
            identity = prompt_id(caption)
            texts.append(Prompt(id=identity, text=caption, source="t", licence=None, split=split_of(identity, 0.5)))
            image = image_id(identity, "m", "r", 0, "{}")
            record = ImageRecord(
                id=image, prompt_id=identity, model="m", revision="r", sample=0, seed=seed_of(image), settings="{}",
                blob=self.blobs.put(data), media_type="image/png", width=64, height=64, bytes=len(data), licence="x",
                source="generated", tool="t", seconds=None, created_at=NOW,
            )  # fmt: skip
            records.append(record)
            self.image_of[caption] = record
        with self.store.write() as tx:
            prompts.insert(tx, texts)
            images.insert(tx, records)


def captions(count: int, seed: int = 0) -> list[str]:
    return sample_prompts(count, seed)


def png(caption: str, seed: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(render(parse_prompt(caption), random.Random(seed))).save(buffer, "PNG")
    return buffer.getvalue()


def picture(width: int = 64, height: int = 64) -> EncodedImage:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (90, 120, 200)).save(buffer, "PNG")
    return EncodedImage(buffer.getvalue(), "image/png", ImageSize(width=width, height=height))


def question(text: str = "what?", caption: str = "a red circle") -> Question:
    return Question(text, picture(), caption)


def server_settings(url: str, **changes: object) -> VlmSettings:
    values = {"backend": "openai", "model": "m", "base_url": url, "max_tokens": 200, "deadline": 5.0}
    return VlmSettings(**{**values, **changes})
