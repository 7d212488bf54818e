"""Tasks to a real Label Studio and changes back: tasks a second, seconds of a pull, and memory, at any size.

Starts the server in a folder of its own (or takes LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY), pushes `--tasks` tasks
with prelabels of two boxes, changes `--share` of them, and pulls: right after the push, with nothing new, and once
after as many changes again. The incremental pull is to grow with what changed, not with the project: run two sizes.

Beside it, on the same server: the same bodies by the SDK's own import, and as many changes by its own list of tasks
with the same filter; and, with `--older`, the benchmark of another checkout of this repository (`git worktree add`).
`--database` may be given several times: `sqlite`, or a PostgreSQL's address (LABEL_STUDIO_DB_PASSWORD).

    python benchmarks/annotate [--tasks 30000] [--share 0.01] [--batch 500] [--database ADDRESS]... [--older FOLDER]
"""

import argparse
import contextlib
import json
import os
import resource
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from annotate.labelstudio.client import Client, as_filter, condition
from annotate.labelstudio.config import NO_DEFECTS, STATUS, LabelConfig
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
def server(folder: Path, venv: str, database: str) -> Iterator[tuple[Connection, Server | None]]:
    """The environment's server, or one of our own."""
    if URL_VARIABLE in os.environ and KEY_VARIABLE in os.environ:
        yield connection_of(folder, 0), None
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with started(Server(folder, AnnotateSettings(port=port, venv=venv), database=database)) as own:
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


Clock = tuple[float, float, float]
Measured = dict[str, Any]


class Timer:
    """Wall time, and the CPU time of this process and of the server's."""

    def __init__(self, own: Server | None, measured: Measured) -> None:
        self._own, self.measured = own, measured

    @contextlib.contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Measure the block under this name."""
        begun = self._now()
        yield
        for what, start, end in zip(("_s", "_client_cpu_s", "_server_cpu_s"), begun, self._now(), strict=True):
            self.measured[name + what] = round(end - start, 2)

    def _now(self) -> Clock:
        return time.perf_counter(), time.process_time(), cpu_seconds(self._own)


def measure_ours(client: Client, folder: Path, timer: Timer, given: argparse.Namespace) -> list[list[dict[str, Any]]]:
    """Push, change and pull by this checkout; returns the bodies that were sent, a list for each request."""
    measured = timer.measured
    routed = fill(Store(folder), given.tasks)
    name = f"Benchmark {secrets.token_hex(4)}"
    annotate = AnnotateSettings(project=name, image_url="http://x/{blob}", batch_size=given.batch)
    work = LabelStudioSync(Settings(profile="mini", home=folder, annotate=annotate), client)
    _, place = work.init()
    sent: list[list[dict[str, Any]]] = []
    real = client.import_tasks

    def noted(project_id: int, tasks: Sequence[dict[str, Any]]) -> list[int]:
        sent.append(list(tasks))
        return real(project_id, tasks)

    client.import_tasks = noted  # type: ignore[method-assign]
    with timer.of("push"):
        work.push_images(routed)
    measured["push_tasks_per_s"] = round(given.tasks / float(measured["push_s"]), 1)
    with timer.of("push_again"):
        measured["pushed_again"] = work.push_images(routed).sent
    changes = max(1, round(given.share * given.tasks))
    numbers = [task["id"] for task in client.page(place.server_id, [], fields="id", page=2 * changes)]
    measured["changes"] = changes
    change(client, numbers[:changes])
    for step, more in (("pull", 0), ("pull_nothing", 0), ("pull_again", changes)):
        change(client, numbers[changes : changes + more])
        with timer.of(step):
            measured[f"{step}_new"] = work.pull().counts["new"]
    return sent


def measure_sdk(client: Client, sent: Sequence[Sequence[dict[str, Any]]], timer: Timer) -> None:
    """The same bodies and as many changes by label-studio-sdk alone."""
    from label_studio_sdk.client import LabelStudio

    make: Any = LabelStudio
    sdk = make(base_url=client.connection.url, api_key=client.connection.key, timeout=600)
    project = sdk.projects.create(title="SDK", label_config=LabelConfig().xml).id
    numbers: list[int] = []
    with timer.of("sdk_import"):
        for batch in sent:
            numbers += sdk.projects.import_tasks(project, request=list(batch), return_task_ids=True).task_ids
    client.count_tasks(project)
    assert client.server_time is not None
    began = as_filter(client.server_time)
    changes = int(timer.measured["changes"])
    change(client, numbers[:changes])
    changed = condition("updated_at", "greater_or_equal", "Datetime", began)
    query = json.dumps({"filters": {"conjunction": "and", "items": [changed]}, "ordering": ["tasks:id"]})
    with timer.of("sdk_list"):
        listed = list(sdk.tasks.list(project=project, fields="all", query=query, page_size=200))
    timer.measured["sdk_list_tasks"] = len(listed)


def measure_older(checkout: Path, connection: Connection, given: argparse.Namespace) -> Measured:
    """What the benchmark of another checkout says of its own client, on the same server."""
    environment = {
        **os.environ, "PYTHONPATH": str(checkout), URL_VARIABLE: connection.url, KEY_VARIABLE: connection.key,
    }  # fmt: skip
    command = [sys.executable, "benchmarks/annotate", "--tasks", str(given.tasks), "--share", str(given.share)]
    command += ["--batch", str(given.batch)]
    done = subprocess.run(command, cwd=checkout, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return {f"older_{name}": value for name, value in json.loads(done.stdout.splitlines()[0]).items()}


def ratios(measured: Measured) -> Measured:
    """This checkout's client by the SDK alone, and by the older client: CPU of the client, and wall time."""
    found = {}
    pairs = [("push", "sdk_import"), ("pull_again", "sdk_list")]
    pairs += [(step, f"older_{step}") for step in ("push", "pull", "pull_nothing", "pull_again")]
    for ours, theirs in pairs:
        for what in ("client_cpu_s", "s"):
            other = float(measured.get(f"{theirs}_{what}") or 0)
            if other:
                found[f"{ours}/{theirs} {what}"] = round(float(measured[f"{ours}_{what}"]) / other, 2)
    return found


def run(database: str, given: argparse.Namespace) -> Measured:
    """All of it on one database."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        venv = str(Path(given.venv).absolute())
        with server(folder, venv, database) as (connection, own), Client(connection) as client:
            measured: Measured = {"database": database.partition(":")[0], "tasks": given.tasks}
            measured["load"] = os.getloadavg()[0]
            timer = Timer(own, measured)
            sent = measure_ours(client, folder, timer, given)
            measured["client_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
            measure_sdk(client, sent, timer)
            if given.older is not None:
                measured |= measure_older(given.older.absolute(), connection, given)
            running = None if own is None else own.running()
            if running is not None:
                measured["server_mb"] = round(memory_mb(running.pid))
    return measured


def main() -> None:
    """Run it and print one JSON object a database, and its ratios."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--tasks", type=int, default=3000)
    arguments.add_argument("--share", type=float, default=0.01)
    arguments.add_argument("--batch", type=int, default=500)
    arguments.add_argument("--venv", default=".venv-labelstudio")
    arguments.add_argument("--database", action="append")
    arguments.add_argument("--older", type=Path)
    arguments.add_argument("--keep", type=Path)
    given = arguments.parse_args()
    for database in given.database or ["sqlite"]:
        measured = run(database, given)
        print(json.dumps(measured))
        print(json.dumps(ratios(measured)), flush=True)
    print(AIMS)


if __name__ == "__main__":
    main()
