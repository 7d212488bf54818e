"""A prelabel run that is killed once its n-th answer is in the journal: `killed.py HOME URL N CONCURRENCY [USD]`."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from annotate.machine.answer_log import AnswerLog
from annotate.machine.budget import Budget
from annotate.machine.prelabel import PrelabelStage
from annotate.machine.results import Result
from annotate.machine.stage import RequestLimits
from annotate.vlm.contract import Prices
from annotate.vlm.openai_chat import OpenAIBackend
from sdg_data.blobs import Blobs
from sdg_data.prompt_templates import DETECT, load_template
from sdg_data.store import calls
from sdg_data.store.connection import Store
from sdg_data.work import LocalExecutor
from tests.annotate.support import server_settings


def main(home: Path, url: str, fatal: int, concurrency: int, usd: float | None = None) -> None:
    append, lines = AnswerLog.append, 0

    def appended(self: AnswerLog[Any], line: Any) -> None:
        nonlocal lines
        append(self, line)
        lines += isinstance(line, Result)
        if lines == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    AnswerLog.append = appended  # type: ignore[method-assign]
    store = Store(home)
    prices = None if usd is None else Prices(10.0, 100.0)
    stage = PrelabelStage(
        store, Blobs(str(home / "blobs")), OpenAIBackend(server_settings(url)), load_template(DETECT),
        limits=RequestLimits(concurrency=concurrency, max_tokens=200), budget=Budget(usd, prices),
    )  # fmt: skip
    stage.recover()
    with store.read() as tx:
        stage.budget.spent = calls.spent(tx)
    LocalExecutor().execute(stage)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), *map(float, sys.argv[5:]))
