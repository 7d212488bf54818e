"""What every page is given: snapshots, blobs, remembered results, and the line that says how old the data is."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from sdg_data.blobs import Blobs
from sdg_data.dashboard.cache import Cache, Result
from sdg_data.dashboard.html import text
from sdg_data.dashboard.jobs import Jobs
from sdg_data.dashboard.snapshots import Snapshots, snapshot_id
from sdg_data.store.connection import Tx

if TYPE_CHECKING:
    from sdg_data.dashboard.page import Selection


@dataclass
class PageContext:
    """Given to each page's `build` and to its figures.

    Attributes:
        snapshots: The copies of the store.
        blobs: Where the pictures are.
        home: The folder of the store and of its exports.
        selections: Of all pages, by name.
        cache: Results of snapshots.
        jobs: What is computed while pages ask again.
    """

    snapshots: Snapshots
    blobs: Blobs
    home: Path
    selections: "Mapping[str, Selection]" = field(default_factory=dict)
    cache: Cache = field(default_factory=Cache)
    jobs: Jobs = field(default_factory=Jobs)
    _refresh: gr.Button = field(init=False)

    def cached(self, tx: Tx, key: Hashable, compute: Callable[[], Result]) -> Result:
        """What `compute` returns, remembered under `key` for as long as `tx` reads the same snapshot."""
        return self.cache.get((snapshot_id(tx), key), compute)

    def remembers(self, tx: Tx, key: Hashable) -> bool:
        """Whether `cached` would compute nothing."""
        return (snapshot_id(tx), key) in self.cache

    def waited(self, tx: Tx, key: Hashable, compute: Callable[[Tx], object]) -> float | None:
        """`Jobs.waited` for something that `compute` leaves in `cached`, of the last snapshot."""

        def compute_of_last() -> None:
            with self.snapshots.read() as own:  # `tx` is closed with its request
                if own is not None:
                    compute(own)

        return self.jobs.waited((snapshot_id(tx), key), compute_of_last)

    def header(self) -> gr.HTML:
        """Put the line above a page: how old the data is, and a button that brings it up to date.

        Returns:
            The component with the line, an output of `on_open`, which has to be called after this.
        """
        with gr.Row(elem_classes="sdg-header"):
            stamp = gr.HTML(self.stamp(), elem_classes="sdg", elem_id="stamp")
            self._refresh = gr.Button("Refresh", size="sm", scale=0, min_width=90, elem_id="refresh")
        return stamp

    def on_open(
        self,
        show: Callable[..., Any],
        outputs: Sequence[Any],
        *,
        again: "tuple[Callable[..., Any], Sequence[Any], Sequence[Any]] | None" = None,
    ) -> Any:
        """Call `show` when the page opens and, on newer data, when Refresh is pressed.

        Args:
            show: Returns the outputs; it may ask for the `gr.Request`, whose query is the page's address.
            outputs: The components.
            again: What Refresh does instead, for a page with controls: the function, what it reads, what it changes.

        Returns:
            The event of the opening, for its `.then`.
        """

        renew, inputs, changed = again or (show, (), outputs)

        def refresh_and_show(*values: Any) -> Any:
            self.snapshots.refresh()
            return renew(*values)

        blocks = gr.context.Context.root_block
        self._refresh.click(refresh_and_show, list(inputs), list(changed), show_progress="minimal")
        return blocks.load(show, None, list(outputs), show_progress="hidden", queue=False)

    def stamp(self) -> str:
        """How old the data is, and why there is no newer snapshot if making one failed; HTML."""
        problem = self.snapshots.problem
        warning = "" if problem is None else f' <span class="warn">{text(problem)}</span>'
        snapshot = self.snapshots.current()
        if snapshot is None:
            return f'<span class="stamp">no store yet in {text(str(self.home))}</span>{warning}'
        age = max(0.0, (datetime.now(UTC) - snapshot.taken_at).total_seconds())
        old = f"{age:.0f} s" if age < 120 else f"{age / 60:.0f} min" if age < 7200 else f"{age / 3600:.0f} h"
        news = (
            "it has not changed since" if self.snapshots.is_current() else f"{old} ago; it has changed since: Refresh"
        )
        return (
            f'<span class="stamp">{text(str(self.home))} as of {snapshot.taken_at:%Y-%m-%d %H:%M:%S} UTC, {news}</span>'
            f"{warning}"
        )
