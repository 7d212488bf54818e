"""A worker process of this machine: `python -m sdg_data.workers.process NAME PLACE FD`, as `process_pool` starts it.

It ends at once when its connection does, whatever it is at: a driver that was killed leaves no process behind that
keeps a GPU.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

from sdg_data.workers.worker import DEPTH, Lines, Worker


def main() -> None:
    """Receive the stage, then batches, and send what becomes of them, until the connection ends."""
    name, place, descriptor = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides what Ctrl-C means
    connection = Connection(int(descriptor))
    sending = threading.Lock()

    def send(message: Any) -> None:
        with sending:
            connection.send(message)

    def answer(ticket: int, batch: Sequence[Any]) -> None:
        send(worker.work(ticket, batch))

    try:
        worker = Worker(name, connection.recv_bytes(), Lines.of_this_process())
        send(worker.ready(place))
        with ThreadPoolExecutor(DEPTH, thread_name_prefix="work") as pool:
            while True:
                ticket, batch = connection.recv()
                pool.submit(answer, ticket, batch)
    except (EOFError, ConnectionError):
        os._exit(0)


if __name__ == "__main__":
    main()
