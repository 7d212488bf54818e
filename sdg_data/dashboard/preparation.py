"""What pages compute for a new snapshot before anybody asks: a thread that does it as soon as the snapshot is there."""

import logging
import threading
import time
from collections.abc import Sequence

import duckdb

from sdg_data.dashboard.context import PageContext
from sdg_data.dashboard.page import Page
from sdg_data.errors import SdgError

log = logging.getLogger(__name__)


class Preparation:
    """Calls each page's `prepare`, one after another, on every new snapshot. Its results are those of the cache.

    A snapshot that is published meanwhile is prepared next: what is under way is not begun anew, as its results may
    still be asked for.
    """

    def __init__(self, context: PageContext, pages: Sequence[Page]) -> None:
        self._context = context
        self._steps = [(page.title, page.prepare) for page in pages if page.prepare is not None]
        self._wanted = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._guard = threading.Lock()

    def start(self) -> None:
        """Prepare the snapshot that is there, and each later one."""
        self._context.snapshots.watch(self._begin)
        self._begin()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is left to prepare; False where that takes longer than `timeout` seconds."""
        return self._idle.wait(timeout)

    def _begin(self) -> None:
        with self._guard:
            self._wanted.set()
            if self._idle.is_set():
                self._idle.clear()
                threading.Thread(target=self._run, name="prepare", daemon=True).start()

    def _run(self) -> None:
        try:
            while True:
                with self._guard:
                    if not self._wanted.is_set():
                        self._idle.set()
                        return
                    self._wanted.clear()
                snapshots, began = self._context.snapshots, time.monotonic()
                prepared = snapshots.current()
                for title, prepare in self._steps:
                    try:
                        with snapshots.read() as tx:
                            if tx is not None:
                                prepare(self._context, tx)
                    except (SdgError, duckdb.Error) as error:  # whoever opens the page is told
                        log.warning("%s could not be prepared: %s", title, error)
                if prepared is not None:
                    snapshots.took_longer(prepared, time.monotonic() - began)
        finally:
            self._idle.set()
