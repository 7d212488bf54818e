"""Drop-downs that filter, as several pages have them."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import gradio as gr

ALL, NONE = "all", "none"
"""The choices that stand for no choice: of a filter, and of something that may be left out."""


def choice(
    label: str, elem_id: str, values: Iterable[object], *, min_width: int = 120, unset: str = ALL
) -> gr.Dropdown:
    """A drop-down of `unset` (`ALL` or `NONE`) and these values; `unset` is chosen."""
    options = [unset, *(str(value) for value in values)]
    return gr.Dropdown(options, value=unset, label=label, elem_id=elem_id, min_width=min_width, interactive=True)


def set_to(options: Iterable[object], value: str, *, unset: str = ALL) -> gr.Dropdown:
    """The change that gives a drop-down its options and what an address says of it, even if that is no option."""
    names = [str(option) for option in options]
    if value and value not in names:
        names.append(value)
    return gr.Dropdown(choices=[unset, *names], value=value or unset)


def remember(names: Sequence[str], defaults: Mapping[str, str], *, words: Collection[str] = ()) -> str:
    """JavaScript that writes what the controls are set to into the page's address, in their order.

    What an address says beyond them stays, so that a link to a page can be shared and reloaded as it is seen.

    Args:
        names: The controls' names in the address. "+" is a control that holds a query string of its own.
        defaults: What is left out, by name.
        words: The controls into which anything may be written, "all" and "none" too.
    """
    return f"""(...values) => {{
      const names = {json.dumps(list(names))}, defaults = {json.dumps(dict(defaults))};
      const words = {json.dumps(list(words))}, unset = {json.dumps([ALL, NONE])};
      const query = new URLSearchParams();
      new URLSearchParams(location.search).forEach((value, key) => {{
        if (key.startsWith('__')) query.set(key, value);  // gradio's own, such as the theme
      }});
      names.forEach((name, place) => {{
        const value = values[place] === null || values[place] === undefined ? '' : String(values[place]);
        if (name === '+') new URLSearchParams(value).forEach((more, key) => query.set(key, more));
        else if (value !== '' && value !== defaults[name] && (words.includes(name) || !unset.includes(value)))
          query.set(name, value);
      }});
      const shown = document.querySelector('#detail [data-shown]');
      if (shown) query.set('image', shown.dataset.shown);
      const text = query.toString();
      history.replaceState(history.state, '', location.pathname + (text ? '?' + text : ''));
    }}"""


def chosen(names: Sequence[str], values: Sequence[Any], *, words: Collection[str] = ()) -> dict[str, str]:
    """What the controls are set to, by name; "" for those that do not filter. `words` is that of `remember`."""
    return {
        name: "" if value is None or (value in (ALL, NONE) and name not in words) else str(value)
        for name, value in zip(names, values, strict=True)
    }
