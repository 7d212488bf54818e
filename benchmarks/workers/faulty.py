"""Work with a fault in it, for `ray_data.py`: in a module of its own, because workers import it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sdg_data.errors import GenerationError, SdgError
from sdg_data.work import Plan

BATCH = 4
RECORD = "x" * 1000


class Waiting:
    """Waits for each item, and does to item 10 what `fault` says."""

    def __init__(self, folder: str, fault: str, seconds: float) -> None:
        self._folder, self._fault, self._seconds = Path(folder), fault, seconds

    def compute(self, items: Sequence[int]) -> list[str]:
        """Records of items."""
        for item in items:
            with (self._folder / "computed").open("a", encoding="ascii") as lines:
                lines.write(f"{item}\n")
            time.sleep(self._seconds)
            if item == 10 and self._due():
                if self._fault.startswith("raises"):
                    raise GenerationError("out of order", item="item 10")
                os.kill(os.getpid(), signal.SIGKILL)
        return [RECORD for _ in items]

    def _due(self) -> bool:
        if self._fault.endswith("once"):
            with contextlib.suppress(FileExistsError):
                (self._folder / "tried").touch(exist_ok=False)
                return True
            return False
        return self._fault != "none"


class WaitingStage:
    """`Waiting` as a stage of ours."""

    name = "waiting"

    def __init__(self, waiting: Waiting, total: int) -> None:
        self._waiting, self._total = waiting, total
        self.records: dict[int, str] = {}
        self.failures: list[int] = []

    def plan(self) -> Plan[int]:
        """All items."""
        return Plan(self._total, (range(at, min(at + BATCH, self._total)) for at in range(0, self._total, BATCH)))

    def run(self, batch: Sequence[int]) -> Sequence[tuple[int, str | None]]:
        """Compute."""
        return list(zip(batch, self._waiting.compute(batch), strict=True))

    def persist(self, results: Sequence[Any]) -> Sequence[Any]:
        """Do nothing."""
        return results

    def commit(self, results: Sequence[tuple[int, str | None]]) -> None:
        """Keep what came; a failure has no record."""
        for item, record in results:
            if record is None:
                self.failures.append(item)
            else:
                self.records[item] = record

    def item_id(self, item: int) -> str:
        """Its number."""
        return f"item {item}"

    def lost(self, batch: Sequence[int], code: str, message: str) -> Sequence[tuple[int, None]]:
        """A failure each."""
        return [(item, None) for item in batch]

    def refused(self, batch: Sequence[int], error: SdgError) -> None:
        """End the run."""
        raise error


class RayDataWaiting:
    """`Waiting` as Ray Data takes it."""

    def __init__(self, *given: Any) -> None:
        self._waiting = Waiting(*given)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Compute."""
        items = [int(item) for item in batch["id"]]
        return {"id": items, "record": self._waiting.compute(items)}
