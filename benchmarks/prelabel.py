"""How busy `sdg prelabel` keeps a server, and what it costs the client: 32 slots, 200 ms an answer, the whole stage.

The server runs in a process of its own and counts how long its slots were at work. The client is the real thing: store,
blobs, the OpenAI SDK, parsing, journal and transactions. Also measured: the tiny local detector, batched against one by
one, in one run.

    python benchmarks/prelabel.py [--items 2000] [--side 64] [--local]
"""

import argparse
import asyncio
import io
import json
import multiprocessing
import tempfile
import time
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from PIL import Image

from annotate.machine.budget import Budget
from annotate.machine.prelabel import PrelabelStage
from annotate.machine.stage import RequestLimits
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
ANSWER = (
    "<think>" + "The outline is broken where the shape meets the ground. " * 12 + "</think>"
    '<answer>[{"box_2d":[100,200,300,400],"label":"artifact","description":"a dent in the rim","importance":40},'
    '{"box_2d":[500,520,700,900],"label":"misalignment","description":"a star, not a square","importance":66}]</answer>'
)


def serve(pipe: Connection) -> None:
    """The server: SLOTS at once, SECONDS each; sends its port, then, when asked, (answers, first start, last end)."""
    payload = json.dumps(
        {
            "choices": [{"message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1500, "completion_tokens": 260},
        }
    ).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(payload)}\r\n\r\n".encode()
    slots = asyncio.Semaphore(SLOTS)
    times: list[tuple[float, float]] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
                length = next(int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
                await reader.readexactly(length)
                async with slots:
                    started = time.monotonic()
                    await asyncio.sleep(SECONDS)
                    times.append((started, time.monotonic()))
                writer.write(head + payload)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def main() -> None:
        server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=2**24)
        pipe.send(server.sockets[0].getsockname()[1])
        await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
        pipe.send((len(times), min(start for start, _ in times), max(end for _, end in times)))
        server.close()

    asyncio.run(main())


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


def hosted(items: int, side: int) -> None:
    """Busy share of the server's slots, and the client's CPU an item."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,))
    server.start()
    with tempfile.TemporaryDirectory() as folder:
        store, blobs = fill(Path(folder), items, side)
        url = f"http://127.0.0.1:{ours.recv()}/v1"
        settings = VlmSettings(backend="openai", model="m", base_url=url)
        stage = PrelabelStage(
            store, blobs, OpenAIBackend(settings), load_template(DETECT),
            limits=RequestLimits(concurrency=SLOTS), budget=Budget(None, None),
        )  # fmt: skip
        started, cpu = time.perf_counter(), time.process_time()
        LocalExecutor().execute(stage)
        stage.close()
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        ours.send(None)
        answers, first, last = ours.recv()
        server.join()
    assert (stage.made, answers) == (items, items), (stage.made, stage.failed, answers)
    busy = answers * SECONDS / (SLOTS * (last - first))
    print(
        f"server busy {100 * busy:.1f} % of {SLOTS} slots (>= 90 wanted); client {1000 * cpu / items:.2f} ms CPU an "
        f"item (<= 5 wanted); {items / seconds:.0f} images/s over the whole run of {seconds:.1f} s"
    )


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
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--side", type=int, default=64, help="of the images, in pixels")
    parser.add_argument("--local", metavar="FOLDER", help="also measure this model on this machine")
    given = parser.parse_args()
    hosted(given.items, given.side)
    if given.local:
        local(given.local, min(given.items, 64))
