"""How busy `sdg prelabel` keeps a server, and what it costs the client: 32 slots, 200 ms an answer, the whole stage.

The server runs in a process of its own and counts how long its slots were at work. The client is the real thing: store,
blobs, upload, parsing, journal and transactions. Several ways to send the images are measured one after another, in
turns, and "before" is how they were sent once: each decoded first, then base64, text and JSON whole, by the SDK. Also
measured: the tiny local detector, batched against one by one, in one run.

    python benchmarks/prelabel.py [--items 3000] [--side 1024] [--ways before,inline,file] [--rounds 1] [--local FOLDER]
"""

import argparse
import asyncio
import base64
import io
import json
import multiprocessing
import tempfile
import time
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from annotate.machine.budget import Budget
from annotate.machine.prelabel import PrelabelStage
from annotate.machine.stage import RequestLimits
from annotate.vlm.contract import Answer, EncodedImage, Question
from annotate.vlm.families import fit_image
from annotate.vlm.openai_chat import OpenAIBackend
from schemas.records import ImageRecord, Prompt
from sdg_data.blobs import Blobs
from sdg_data.ids import image_id, prompt_id
from sdg_data.prompt_templates import DETECT, load_template
from sdg_data.settings import VlmSettings
from sdg_data.store import images, prompts
from sdg_data.store.connection import Store
from sdg_data.work import LocalExecutor

SLOTS, SECONDS = 32, 0.2
BEFORE = 150
"""Images at the most for the old way, which takes minutes for thousands."""
ANSWER = (
    "<think>" + "The outline is broken where the shape meets the ground. " * 12 + "</think>"
    '<answer>[{"box_2d":[100,200,300,400],"label":"artifact","description":"a dent in the rim","importance":40},'
    '{"box_2d":[500,520,700,900],"label":"misalignment","description":"a star, not a square","importance":66}]</answer>'
)


_BODY = json.dumps(
    {
        "choices": [{"message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1500, "completion_tokens": 260},
    }
).encode()
PAYLOAD = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(_BODY)}\r\n\r\n".encode() + _BODY


class Slots(asyncio.BufferedProtocol):
    """One connection of the server: a body is counted and thrown away, then waits for a slot."""

    slots: asyncio.Semaphore
    times: list[tuple[float, float]]

    def __init__(self) -> None:
        self.buffer, self.head, self.left = bytearray(1 << 18), bytearray(), 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        self.transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:
        """Where the next bytes go."""
        return self.buffer

    def buffer_updated(self, count: int) -> None:
        """Count the bytes that came; the last ones of a body start its answer."""
        if self.left:
            self.left -= count
        else:
            self.head += self.buffer[:count]
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                return
            lines = self.head[:end].decode().lower().split("\r\n")
            length = next(int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
            self.left = length - (len(self.head) - end - 4)
            self.head.clear()
        if not self.left:
            self.task = asyncio.ensure_future(self.answer())

    async def answer(self) -> None:
        """Wait for a slot, work, and reply."""
        async with self.slots:
            started = time.monotonic()
            await asyncio.sleep(SECONDS)
            self.times.append((started, time.monotonic()))
        self.transport.write(PAYLOAD)  # type: ignore[attr-defined]


def serve(pipe: Connection) -> None:
    """The server: SLOTS at once, SECONDS each; sends its port, then, when asked, (answers, first start, last end)."""

    async def main() -> None:
        Slots.slots = asyncio.Semaphore(SLOTS)
        server = await asyncio.get_running_loop().create_server(Slots, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        while True:
            Slots.times = []
            if await asyncio.get_running_loop().run_in_executor(None, pipe.recv) is None:
                return
            times = Slots.times
            pipe.send((len(times), min(start for start, _ in times), max(end for _, end in times), time.process_time()))

    asyncio.run(main())


class Before(OpenAIBackend):
    """How images were sent before: decoded, encoded whole, and through the SDK."""

    sdk: Any = None

    def prepare(self, data: bytes, media_type: str) -> EncodedImage:
        """Decode each image, to be sure of it."""
        return fit_image(data, media_type, family="qwen3-vl", max_side=1024, check=True)

    async def ask(self, question: Question) -> Answer:
        """Send the image as text inside of the SDK's JSON."""
        import httpx2
        import openai

        self.sdk = self.sdk or openai.AsyncOpenAI(api_key="none", base_url=self._settings.base_url, max_retries=0)
        started = time.monotonic()
        image = f"data:image/png;base64,{base64.b64encode(question.image.data).decode()}"
        messages = json.loads(json.dumps(self._messages(question)))
        messages[0]["content"][0 if question.image_first else 1]["image_url"]["url"] = image
        response = await self.sdk.post(
            "/chat/completions",
            cast_to=httpx2.Response,
            body={"model": "m", "messages": messages, "max_tokens": 2048, "temperature": 0.0},
        )
        return self._answer(str(self._settings.base_url), response.text, time.monotonic() - started)

    async def close(self) -> None:
        """Close the SDK's connections."""
        await self.sdk.close()


WAYS: dict[str, dict[str, Any]] = {
    "before": {},
    "inline": {},
    "file": {"send_images": "file", "server": "vllm"},
    "jpeg": {"image_format": "jpeg"},
    "webp": {"image_format": "webp"},
}


def fill(home: Path, items: int, side: int) -> tuple[Store, Blobs]:
    """A home with so many images of noise; all of one content, which changes nothing for the client."""
    store, blobs = Store(home), Blobs(str(home / "blobs"))
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    name, size = blobs.put(buffer.getvalue()), len(buffer.getvalue())
    texts, records = [], []
    for number in range(items):
        text = f"a photograph of the number {number} painted on a wall, in the evening light"
        identity = prompt_id(text)
        texts.append(Prompt(id=identity, text=text, source="b", licence=None, split="train"))
        records.append(
            ImageRecord(
                id=image_id(identity, "m", "r", 0, "{}"), prompt_id=identity, model="m", revision="r", sample=0, seed=0,
                settings="{}", blob=name, media_type="image/png", width=side, height=side, bytes=size, licence="x",
                source="generated", tool="t", seconds=None, created_at=datetime.now(UTC),
            )
        )  # fmt: skip
    with store.write() as tx:
        prompts.insert(tx, texts)
        images.insert(tx, records)
    print(f"{items} images of {side} px, {size / 1000:.1f} kB each")
    return store, blobs


def hosted(items: int, side: int, ways: list[str], rounds: int, under_way: int) -> None:
    """Busy share of the server's slots, and the client's CPU an item, by the way that images are sent.

    `under_way`: questions at once, of which the server works on SLOTS and the others are on their way.
    """
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    port, server_cpu = ours.recv(), 0.0
    for way, items in [(way, min(items, BEFORE) if way == "before" else items) for _ in range(rounds) for way in ways]:
        settings = VlmSettings(backend="openai", model="m", base_url=f"http://127.0.0.1:{port}/v1", **WAYS[way])
        with tempfile.TemporaryDirectory() as folder:
            store, blobs = fill(Path(folder), items, side)
            stage = PrelabelStage(
                store, blobs, (Before if way == "before" else OpenAIBackend)(settings), load_template(DETECT),
                limits=RequestLimits(concurrency=under_way), budget=Budget(None, None),
            )  # fmt: skip
            started, cpu = time.perf_counter(), time.process_time()
            LocalExecutor().execute(stage)
            stage.close()
            seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        ours.send(way)
        answers, first, last, total = ours.recv()
        assert (stage.made, answers) == (items, items), (stage.made, stage.failed, answers)
        print(
            f"{way}: server busy {100 * answers * SECONDS / (SLOTS * (last - first)):.1f} % of {SLOTS} slots; client "
            f"{1000 * cpu / items:.2f} ms CPU an item, server {1000 * (total - server_cpu) / items:.2f}; "
            f"{items / seconds:.0f} images/s over the whole run of {seconds:.1f} s",
            flush=True,
        )
        server_cpu = total
    ours.send(None)
    server.join()


def local(model: str, items: int) -> None:
    """A model on this machine: the same questions one at a time and in batches, in one process."""
    from annotate.machine.prelabel import ask_about
    from annotate.vlm.local import LocalBackend
    from annotate.vlm.registry import template_for
    from sdg_data.mini.world import sample_prompts

    settings = VlmSettings(backend="transformers", model=model, device="cpu", max_tokens=128, batch_size=16)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")

    async def ask(backend: LocalBackend, *, together: bool) -> float:
        template = template_for(backend, settings, "detect-short-1")
        picture = backend.prepare(buffer.getvalue(), "image/png")
        questions = [ask_about(backend, template, text, picture) for text in sample_prompts(items, 0)]
        await backend.ask(questions[0])
        started = time.perf_counter()
        if together:
            await asyncio.gather(*(backend.ask(question) for question in questions))
        else:
            for question in questions:
                await backend.ask(question)
        seconds = time.perf_counter() - started
        await backend.close()
        return items / seconds

    single = asyncio.run(ask(LocalBackend(settings), together=False))
    batched = asyncio.run(ask(LocalBackend(settings), together=True))
    print(f"local {model}: {single:.2f} images/s one by one, {batched:.2f} in batches of {settings.batch_size}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=3000)
    parser.add_argument("--side", type=int, default=1024, help="of the images, in pixels")
    parser.add_argument("--ways", default="before,inline,file", help=f"of {', '.join(WAYS)}")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--under-way", type=int, default=48, help=f"questions at once, for a server of {SLOTS} slots")
    parser.add_argument("--local", metavar="FOLDER", help="also measure this model on this machine")
    given = parser.parse_args()
    hosted(given.items, given.side, given.ways.split(","), given.rounds, given.under_way)
    if given.local:
        local(given.local, min(given.items, 64))
