"""Drop-downs that filter, as several pages have them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import gradio as gr

ALL = "all"
"""The choice that does not filter."""


def choice(label: str, elem_id: str, values: Iterable[object], *, min_width: int = 120) -> gr.Dropdown:
    """A drop-down of `ALL` and these values; `ALL` is chosen."""
    options = [ALL, *(str(value) for value in values)]
    return gr.Dropdown(options, value=ALL, label=label, elem_id=elem_id, min_width=min_width, interactive=True)


def set_to(options: Iterable[object], value: str) -> gr.Dropdown:
    """The change that gives a drop-down its options and what an address says of it, even if that is no option."""
    names = [str(option) for option in options]
    if value and value not in names:
        names.append(value)
    return gr.Dropdown(choices=[ALL, *names], value=value or ALL)


def remember(names: Sequence[str], defaults: Mapping[str, str]) -> str:
    """JavaScript that writes what the controls are set to into the page's address, in their order.

    What an address says beyond them stays, so that a link to a page can be shared and reloaded as it is seen.

    Args:
        names: The controls' names in the address. "+" is a control that holds a query string of its own.
        defaults: What is left out, by name.
    """
    return f"""(...values) => {{
      const names = {json.dumps(list(names))}, defaults = {json.dumps(dict(defaults))};
      const query = new URLSearchParams();
      new URLSearchParams(location.search).forEach((value, key) => {{
        if (key.startsWith('__')) query.set(key, value);  // gradio's own, such as the theme
      }});
      names.forEach((name, place) => {{
        const value = values[place] === null || values[place] === undefined ? '' : String(values[place]);
        if (name === '+') new URLSearchParams(value).forEach((more, key) => query.set(key, more));
        else if (value !== '' && value !== {json.dumps(ALL)} && value !== defaults[name]) query.set(name, value);
      }});
      const shown = document.querySelector('#detail [data-shown]');
      if (shown) query.set('image', shown.dataset.shown);
      const text = query.toString();
      history.replaceState(history.state, '', location.pathname + (text ? '?' + text : ''));
    }}"""


def chosen(names: Sequence[str], values: Sequence[Any]) -> dict[str, str]:
    """What the controls are set to, by name; "" for those that do not filter."""
    return {name: "" if value in (None, ALL) else str(value) for name, value in zip(names, values, strict=True)}
