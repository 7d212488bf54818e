"""Drop-downs that filter, as several pages have them."""

from collections.abc import Iterable, Sequence
from typing import Any

import gradio as gr

ALL = "all"
"""The choice that does not filter."""


def choice(label: str, elem_id: str, values: Iterable[object], *, min_width: int = 120) -> gr.Dropdown:
    """A drop-down of `ALL` and these values; `ALL` is chosen."""
    options = [ALL, *(str(value) for value in values)]
    return gr.Dropdown(options, value=ALL, label=label, elem_id=elem_id, min_width=min_width, interactive=True)


def chosen(names: Sequence[str], values: Sequence[Any]) -> dict[str, str]:
    """What the controls are set to, by name; "" for those that do not filter."""
    return {name: "" if value in (None, ALL) else str(value) for name, value in zip(names, values, strict=True)}
