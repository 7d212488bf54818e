"""`sdg annotate`: people correct the defects in a Label Studio. Names the commands; each is loaded when called."""

from __future__ import annotations

import typer

from sdg_data.cli import Lazy, lazy_group

ANNOTATE: dict[str, Lazy] = {}
app = typer.Typer(
    cls=lazy_group(ANNOTATE),
    help="People correct the defects in a Label Studio, in two rounds.",
    no_args_is_help=True,
    add_completion=False,
)


@app.callback()
def _annotate() -> None:
    """People correct the defects in a Label Studio, in two rounds."""
