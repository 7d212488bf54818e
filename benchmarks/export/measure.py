"""Contenders in turn: who does how much a second, by the clock and by CPU seconds."""

import json
import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Contender:
    """`work` says how much it did; `clear` is called before and after it, outside the time."""

    name: str
    work: Callable[[], float]
    clear: Callable[[], None] = lambda: None


def contest(contenders: list[Contender], unit: str, repeats: int) -> dict[str, dict[str, Any]]:
    """The best of each one's turns, by the clock. The turns alternate, so that a busy minute hits all alike."""
    best: dict[str, dict[str, Any]] = {}
    for turn in range(repeats):
        for contender in contenders:
            contender.clear()
            os.sync()  # whoever came before has its bytes on the disk now
            before, started = cpu_seconds(), time.perf_counter()
            done = contender.work()
            wall = time.perf_counter() - started
            cpu = cpu_seconds() - before
            if turn < repeats - 1:
                contender.clear()
            if contender.name not in best or wall < best[contender.name]["wall_s"]:
                best[contender.name] = {
                    f"{unit}/s": done / wall,
                    f"{unit}/cpu_s": done / cpu,
                    "wall_s": wall,
                    "cpu_s": cpu,
                }
    for contender in contenders:
        contender.clear()
        rounded = {key: round(number, 2) for key, number in best[contender.name].items()}
        print(json.dumps({"what": contender.name, **rounded}))
    return best


def ratio(rows: dict[str, dict[str, Any]], mine: str, theirs: str, unit: str, aim: str = "") -> float:
    """Print how much faster `mine` is, and return it (by the clock)."""
    clock, cpu = (rows[mine][f"{unit}/{per}"] / rows[theirs][f"{unit}/{per}"] for per in ("s", "cpu_s"))
    print(
        f"  {mine} / {theirs}: {clock:.2f} by the clock, {cpu:.2f} by CPU seconds{aim and f' (aim {aim})'}", flush=True
    )
    return float(clock)


def cpu_seconds() -> float:
    """Of this process so far, all its threads, and the children that have ended."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def flush(path: Path) -> None:
    """Wait until a file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def available_memory() -> int:
    """Bytes that the page cache may take."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise OSError("no MemAvailable in /proc/meminfo")
