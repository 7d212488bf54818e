"""Where one writer ends: records a second of the store's single writer, by records a transaction, and with others.

    python -m benchmarks.writers [--stored 100000] [--records 2000] [--seconds 5] [--json FILE]

A record is an image's row as `generate` writes it; a transaction is what a stage's commit is: it opens the file,
inserts and closes it. Figures are records a second, by this process's CPU and by the clock. Then several processes
write one record a transaction into the same store, each waiting its turn for the file; what they come to together is
what a service in front of the store would have to beat.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from schemas.records import ImageRecord, Prompt, Split
from sdg_data import ids
from sdg_data.store import images, prompts
from sdg_data.store.connection import Store

SETTINGS = json.dumps({"steps": 50, "guidance": 4.0, "width": 1024, "height": 1024, "dtype": "bfloat16"})
PAGE = 20_000


def records(first: int, number: int) -> list[ImageRecord]:
    """Rows of images that were never made."""
    rows = []
    for place in range(first, first + number):
        prompt = ids.prompt_id(f"prompt {place}")
        identity = ids.image_id(prompt, "m", "r", 0, SETTINGS)
        rows.append(
            ImageRecord(
                id=identity,
                prompt_id=prompt,
                model="m",
                revision="r",
                sample=0,
                seed=ids.seed_of(identity),
                settings=SETTINGS,
                blob=ids.blob_name(identity.encode()),
                media_type="image/png",
                width=1024,
                height=1024,
                bytes=1_500_000,
                licence="Apache-2.0",
                source="generated",
                tool="benchmark",
                seconds=1.0,
                created_at=datetime.now(UTC),
            )
        )
    return rows


def fill(home: Path, first: int, number: int, *, rows: bool) -> None:
    """Put prompts into the store, and their images if asked to."""
    for start in range(first, first + number, PAGE):
        count = min(PAGE, first + number - start)
        texts = [f"prompt {place}" for place in range(start, start + count)]
        with Store(home).write() as tx:
            prompts.insert(
                tx,
                [Prompt(id=ids.prompt_id(t), text=t, source="b", licence=None, split=Split.TRAIN) for t in texts],
            )
            if rows:
                images.insert(tx, records(start, count))


def cpu() -> float:
    """CPU seconds of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def alone(home: Path, first: int, number: int, each: int) -> dict[str, Any]:
    """Write records in transactions of `each`."""
    store, waiting = Store(home), records(first, number)
    taken: list[float] = []
    before, started = cpu(), time.perf_counter()
    for start in range(0, number, each):
        begun = time.perf_counter()
        with store.write() as tx:
            images.insert(tx, waiting[start : start + each])
        taken.append(time.perf_counter() - begun)
    wall, used = time.perf_counter() - started, cpu() - before
    return {
        "writers": 1,
        "records_a_transaction": each,
        "records_per_second": round(number / wall, 1),
        "records_per_cpu_second": round(number / used, 1),
        "transaction_ms_median": round(1000 * statistics.median(taken), 1),
    }


def _write_for(home: Path, first: int, seconds: float, answers: Any) -> None:
    store = Store(home)
    taken: list[float] = []
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        (row,) = records(first + len(taken), 1)
        begun = time.perf_counter()
        with store.write() as tx:
            images.insert(tx, [row])
        taken.append(time.perf_counter() - begun)
    answers.put(taken)


def together(home: Path, first: int, writers: int, seconds: float) -> dict[str, Any]:
    """Have several processes write one record a transaction."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    processes = [
        context.Process(target=_write_for, args=(home, first + 100_000 * place, seconds, answers))
        for place in range(writers)
    ]
    for process in processes:
        process.start()
    taken = sorted(second for _ in processes for second in answers.get())
    for process in processes:
        process.join()
    return {
        "writers": writers,
        "records_a_transaction": 1,
        "records_per_second": round(len(taken) / seconds, 1),
        "transaction_ms_median": round(1000 * statistics.median(taken), 1),
        "transaction_ms_99_percent": round(1000 * taken[int(0.99 * (len(taken) - 1))], 1),
    }


def main() -> None:
    """Measure, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stored", type=int, default=100_000, help="images that are there already")
    parser.add_argument("--records", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=5.0, help="of the runs with several writers")
    parser.add_argument("--writers", default="2,4")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        fill(home, 0, given.stored, rows=True)
        first = given.stored
        fill(home, first, 4 * given.records, rows=False)
        for each in (1, 16, 128, 1024):
            number = min(given.records, 200 * each)
            rows.append({"stored": given.stored, **alone(home, first, number, each)})
            print(json.dumps(rows[-1]), flush=True)
            first += number
        for writers in map(int, filter(None, given.writers.split(","))):
            fill_for = 1_000_000 * (1 + writers)
            for place in range(writers):
                fill(home, fill_for + 100_000 * place, 500, rows=False)
            rows.append({"stored": given.stored, **together(home, fill_for, writers, given.seconds)})
            print(json.dumps(rows[-1]), flush=True)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
