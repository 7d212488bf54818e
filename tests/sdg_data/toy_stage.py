"""A stage as simple as one can be, run as a process of its own, which kills itself (SIGKILL) where it is told to.

    python toy_stage.py --fill HOME      puts prompts into an empty store
    python toy_stage.py HOME [EVENT]     makes what is missing; prints how many events there were, if it lives

An event is a call made by sdg_data's own code (fsync, rename, DuckDB's execute and connect among them), or the return
from one, in whichever thread. Killing at a random event hits any place between two system calls.
"""

import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from PIL import Image

from schemas.records import ImageRecord, Prompt, Split
from sdg_data import ids
from sdg_data.blobs import Blobs
from sdg_data.errors import SdgError
from sdg_data.progress import Progress
from sdg_data.store import images, prompts
from sdg_data.store.connection import Store
from sdg_data.work import LocalExecutor, Plan

VARIANTS = (images.Variant("a", "r", "{}"), images.Variant("b", "r", "{}"))
PROMPTS = 9
Key = tuple[int, str, int]


class ToyStage:
    """Small pictures of one colour, which the seed gives; two variants and two samples of every prompt."""

    name = "toy"

    def __init__(self, home: Path) -> None:
        self.store = Store(home)
        self.blobs = Blobs(home / "blobs")
        self.wanted = images.WantedImages(VARIANTS, samples=2)

    def plan(self) -> Plan[Key]:
        with self.store.read() as tx:
            total = sum(images.count_missing(tx, self.wanted))
        return Plan(total, self._batches())

    def _batches(self) -> Iterator[list[Key]]:
        for table in images.missing(self.store, self.wanted, page_rows=12):
            rows = [(row["variant"], row["prompt_id"], row["sample"]) for row in table.to_pylist()]
            yield from (rows[start : start + 3] for start in range(0, len(rows), 3))

    def run(self, batch: Sequence[Key]) -> list[tuple[Key, bytes]]:
        return [(key, _picture(_identity(key))) for key in batch]

    def persist(self, results: Sequence[Any]) -> list[ImageRecord]:
        names = self.blobs.put_many(data for _, data in results)
        return [_record(key, name, len(data)) for (key, data), name in zip(results, names, strict=True)]

    def commit(self, results: Sequence[ImageRecord]) -> None:
        with self.store.write() as tx:
            images.insert(tx, results)

    def item_id(self, item: Key) -> str:
        return _identity(item)

    def lost(self, batch: Sequence[Key], code: str, message: str) -> list[ImageRecord]:
        raise AssertionError(f"{code} of {batch}: {message}")

    def refused(self, batch: Sequence[Key], error: SdgError) -> None:
        raise error

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"store": None}


def _identity(key: Key) -> str:
    variant, prompt, sample = key
    return ids.image_id(prompt, VARIANTS[variant].model, VARIANTS[variant].revision, sample, VARIANTS[variant].settings)


def _picture(identity: str) -> bytes:
    buffer = io.BytesIO()
    seed = ids.seed_of(identity)
    Image.new("RGB", (4, 4), (seed & 255, seed >> 8 & 255, seed >> 16 & 255)).save(buffer, "PNG")
    return buffer.getvalue()


def _record(key: Key, blob: str, size: int) -> ImageRecord:
    variant, prompt, sample = key
    identity = _identity(key)
    return ImageRecord(
        id=identity,
        prompt_id=prompt,
        model=VARIANTS[variant].model,
        revision=VARIANTS[variant].revision,
        sample=sample,
        seed=ids.seed_of(identity),
        settings=VARIANTS[variant].settings,
        blob=blob,
        media_type="image/png",
        width=4,
        height=4,
        bytes=size,
        licence="MIT",
        source="generated",
        tool="toy 1",
        seconds=None,
        created_at=datetime.now(UTC),
    )


def fill_prompts(home: Path) -> None:
    texts = [f"prompt {number}" for number in range(PROMPTS)]
    with Store(home).write() as tx:
        prompts.insert(
            tx,
            [Prompt(id=ids.prompt_id(t), text=t, source="toy", licence=None, split=Split.TRAIN) for t in texts],
        )


def main() -> None:
    if sys.argv[1] == "--fill":
        fill_prompts(Path(sys.argv[2]))
        return
    home, kill_at = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else -1
    ours = str(Path(ids.__file__).parent)
    events = 0

    def on_event(frame: FrameType, kind: str, argument: object) -> None:
        nonlocal events
        if kind in ("c_call", "c_return") and frame.f_code.co_filename.startswith(ours):
            events += 1
            if events == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    stage = ToyStage(home)
    threading.setprofile(on_event)
    sys.setprofile(on_event)
    stage.blobs.sweep_temporary()
    LocalExecutor().execute(stage, progress=Progress("toy", stream=io.StringIO()))
    sys.setprofile(None)
    print(events)


if __name__ == "__main__":
    main()
