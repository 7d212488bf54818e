"""Tasks to a real Label Studio and changes back: tasks a second, seconds of a pull, and memory, at any size.

Starts the server in a folder of its own (or takes LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY), pushes `--tasks` tasks
with prelabels of two boxes, changes `--share` of them, and pulls: right after the push, with nothing new, and once
after as many changes again. The incremental pull is to grow with what changed, not with the project: run two sizes.

    python benchmarks/annotate [--tasks 30000] [--share 0.01] [--batch 500] [--keep FOLDER]
"""

import argparse
import contextlib
import json
import os
import resource
import socket
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from annotate.labelstudio.client import Client
from annotate.labelstudio.config import NO_DEFECTS, STATUS
from annotate.labelstudio.connection import KEY_VARIABLE, URL_VARIABLE, Connection, connection_of
from annotate.labelstudio.convert import whole_image
from annotate.labelstudio.push import RoutedImage
from annotate.labelstudio.server import Server, started
from annotate.labelstudio.sync import LabelStudioSync
from schemas.defect import Defect, DefectType
from schemas.geometry import Box
from schemas.records import ImageRecord, Prelabel, Prompt
from sdg_data.ids import content_id, image_id, prompt_id, split_of
from sdg_data.settings import AnnotateSettings, Settings
from sdg_data.store import images, prelabels, prompts
from sdg_data.store.connection import Store

AIMS = "aims: push >= 400 tasks/s, a pull of 300 changes < 15 s (on a machine that does nothing else)"


def fill(store: Store, count: int) -> list[RoutedImage]:
    """`count` images with prelabels of two boxes. No pixels: nothing here looks at any."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    routed = []
    for start in range(0, count, 5000):
        texts, records, answers = [], [], []
        for index in range(start, min(start + 5000, count)):
            text = f"a red fox and {index} green lanterns on a long wooden bridge at night, photorealistic"
            identity = prompt_id(text)
            texts.append(Prompt(id=identity, text=text, source="b", licence=None, split=split_of(identity, 0.04)))
            image = image_id(identity, "m", "r", 0, "{}")
            records.append(
                ImageRecord(
                    id=image, prompt_id=identity, model="m", revision="r", sample=0, seed=1, settings="{}",
                    blob=2 * image, media_type="image/png", width=1024, height=1024, bytes=1, licence="x",
                    source="generated", tool="b", seconds=None, created_at=now,
                )
            )  # fmt: skip
            boxes = (
                Defect(
                    box=Box(x0=200, y0=200, x1=500, y1=580), type=DefectType.ARTIFACT,
                    reason="left hand has six fused fingers", importance=80,
                ),
                Defect(
                    box=Box(x0=630, y0=390, x1=880, y1=840), type=DefectType.MISALIGNMENT,
                    reason="a lantern is missing on the right", importance=35,
                ),
            )  # fmt: skip
            answers.append(
                Prelabel(
                    id=content_id("prelabel", image), image_id=image, model="vlm", revision="r", template="t",
                    settings="{}", raw="", trace=None, defects=boxes, repairs=(), attempt=1, tokens_in=None,
                    tokens_out=None, cost=None, seconds=None, tool="b", created_at=now,
                )
            )  # fmt: skip
            routed.append(RoutedImage(image_id=image))
        with store.write() as tx:
            prompts.insert(tx, texts)
            images.insert(tx, records)
            prelabels.insert(tx, answers)
    return routed


def change(client: Client, numbers: list[int]) -> None:
    """Somebody says something about each of these tasks."""
    result = [whole_image(STATUS, "choices", {"choices": [NO_DEFECTS]})]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: client.create_annotation(number, result, lead_time=9.0), numbers))


@contextlib.contextmanager
def server(folder: Path, venv: str) -> Iterator[tuple[Connection, Server | None]]:
    """The environment's server, or one of our own."""
    if URL_VARIABLE in os.environ and KEY_VARIABLE in os.environ:
        yield connection_of(folder, 0), None
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with started(Server(folder, AnnotateSettings(port=port, venv=venv))) as own:
        yield own.connection, own


def cpu_seconds(own: Server | None) -> float:
    """What the server's process has computed so far: on a busy machine it says more than wall time."""
    running = None if own is None else own.running()
    if running is None:
        return 0.0
    fields = Path(f"/proc/{running.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> float:
    """The most memory that a process has used."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def main() -> None:
    """Run it and print one JSON object."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--tasks", type=int, default=3000)
    arguments.add_argument("--share", type=float, default=0.01)
    arguments.add_argument("--batch", type=int, default=500)
    arguments.add_argument("--venv", default=".venv-labelstudio")
    arguments.add_argument("--keep", type=Path)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        with server(folder, str(Path(given.venv).absolute())) as (connection, own), Client(connection) as client:
            measured: dict[str, float | int | str] = {"tasks": given.tasks, "load": os.getloadavg()[0]}
            routed = fill(Store(folder), given.tasks)
            settings = Settings(
                profile="mini",
                home=folder,
                annotate=AnnotateSettings(
                    project=f"Benchmark {given.tasks}", image_url="http://x/{blob}", batch_size=given.batch
                ),
            )
            work = LabelStudioSync(settings, client)
            _, place = work.init()

            def timed(name: str, begun: tuple[float, float, float]) -> None:
                ended = now()
                for what, start, end in zip(("_s", "_client_cpu_s", "_server_cpu_s"), begun, ended, strict=True):
                    measured[name + what] = round(end - start, 2)

            def now() -> tuple[float, float, float]:
                return time.perf_counter(), time.process_time(), cpu_seconds(own)

            begun = now()
            work.push_images(routed)
            timed("push", begun)
            measured["push_tasks_per_s"] = round(given.tasks / float(measured["push_s"]), 1)
            begun = now()
            measured["pushed_again"] = work.push_images(routed).sent
            timed("push_again", begun)
            changes = max(1, round(given.share * given.tasks))
            numbers = [task["id"] for task in client.page(place.server_id, [], fields="id", page=2 * changes)]
            measured["changes"] = changes
            change(client, numbers[:changes])
            for name, more in (("pull", 0), ("pull_nothing", 0), ("pull_again", changes)):
                change(client, numbers[changes : changes + more])
                begun = now()
                counts = work.pull().counts
                timed(name, begun)
                measured[f"{name}_new"] = counts["new"]
            measured["client_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
            running = None if own is None else own.running()
            if running is not None:
                measured["server_mb"] = round(memory_mb(running.pid))
    print(json.dumps(measured))
    print(AIMS)


if __name__ == "__main__":
    main()
