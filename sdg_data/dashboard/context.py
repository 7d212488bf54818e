"""What every page shares: the editions, the figures, the line that says how old the data is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gradio as gr

from sdg_data.blobs import Blobs
from sdg_data.dashboard import queries_health, shards
from sdg_data.dashboard.data import Figures
from sdg_data.dashboard.html import text
from sdg_data.dashboard.pixels import Pixels, judge
from sdg_data.dashboard.snapshots import Editions
from sdg_data.ingest.near_duplicates import near_prompts
from sdg_data.store.connection import Tx


@dataclass
class Shell:
    """Given to each page's `build`. `home` is where exports lie."""

    editions: Editions
    blobs: Blobs
    home: Path
    figures: Figures = field(default_factory=Figures)
    pixels: Pixels = field(init=False)
    _refresh: gr.Button = field(init=False)

    def __post_init__(self) -> None:
        self.pixels = Pixels(self.home, self.blobs)

    def rows(self, tx: Tx, name: str, parameters: Mapping[str, str]) -> Any:
        """The rows of any figure, None where there is no such figure."""
        if name == "exports":
            return shards.listed(self.home)
        if name in ("damaged", "flat", "near-pictures"):
            return getattr(judge(tx, self.pixels), name.removesuffix("-pictures"))
        if name == "near-prompts":
            train, test = queries_health.prompts_of_both(tx)
            return [{"test": one, "train": other} for one, other in near_prompts(test, train)]
        return self.figures.rows(tx, name, parameters) if name in self.figures.names else None

    def header(self) -> gr.HTML:
        """The line above a page: how old the data is, and a button that brings it up to date."""
        with gr.Row(elem_classes="sdg-header"):
            stamp = gr.HTML(self.stamp(), elem_classes="sdg", elem_id="stamp")
            self._refresh = gr.Button("Refresh", size="sm", scale=0, min_width=90, elem_id="refresh")
        return stamp

    def on_open(self, shown: Callable[[], Any], outputs: Sequence[Any]) -> None:
        """Call `shown` when the page opens and, on newer data, when Refresh is pressed."""

        def refreshed() -> Any:
            self.editions.refresh()
            return shown()

        blocks = gr.context.Context.root_block
        blocks.load(shown, None, list(outputs), show_progress="hidden", queue=False)
        self._refresh.click(refreshed, None, list(outputs), show_progress="minimal")

    def stamp(self) -> str:
        """How old the data is, and what went wrong with a newer edition."""
        edition = self.editions.current()
        trouble = "" if self.editions.trouble is None else f' <span class="warn">{text(self.editions.trouble)}</span>'
        if edition is None:
            return f'<span class="stamp">no store yet in {text(str(self.home))}</span>{trouble}'
        age = (datetime.now(UTC) - edition.taken_at).total_seconds()
        old = f"{age:.0f} s" if age < 120 else f"{age / 60:.0f} min" if age < 7200 else f"{age / 3600:.0f} h"
        news = "it has not changed since" if self.editions.is_current() else f"{old} ago; it has changed since: Refresh"
        return (
            f'<span class="stamp">{text(str(self.home))} as of {edition.taken_at:%Y-%m-%d %H:%M:%S} UTC, {news}</span>'
            f"{trouble}"
        )
