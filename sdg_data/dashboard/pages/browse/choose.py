"""Chosen images: those behind a figure, those of a list in the home's folder, and those that are ticked in the browser.

The ticked ones are kept by the browser alone, until they are added to a list under a name: a tag. A list is a text
file with one id a line in `HOME/lists` (`sdg_data.store.kept_lists`), so every command with `--images` takes it, and
the store keeps its one writer.
"""

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sdg_data.dashboard.context import PageContext
from sdg_data.dashboard.html import browse_link, counted, link, text
from sdg_data.dashboard.page import Parameters
from sdg_data.dashboard.pages.browse.filters import ImageFilter
from sdg_data.dashboard.pages.browse.queries import image_ids, matching
from sdg_data.errors import InputError
from sdg_data.store import kept_lists
from sdg_data.store.connection import Tx

SELECT, LIST = "select", "list"
ADD, TAKE_OUT = "add", "take out"

BAR = """
<div class="bar-of-choice"><span role="status"><b class="number">nothing</b> chosen</span>
<button class="all">choose this page</button><button class="clear">choose none</button>
<button class="save">download the list</button>
<span class="tag"><label>Tag: <input class="name" list="list-names" maxlength="60" placeholder="hands-again"></label>
<button data-do="add">add the chosen</button><button data-do="add" data-all="1">add all that match</button>
<button data-do="take out">take the chosen out</button></span></div>
"""
SCRIPT = """
const KEY = 'sdg-chosen-images';
let chosen = new Set();
try { chosen = new Set(JSON.parse(sessionStorage.getItem(KEY) || '[]')); } catch { sessionStorage.removeItem(KEY); }
const cards = () => document.querySelectorAll('#cards [data-choose]');
const show = () => {
  cards().forEach(box => { box.checked = chosen.has(box.dataset.choose); });
  const number = element.querySelector('.number');
  const words = chosen.size === 0 ? 'nothing' : chosen.size === 1 ? '1 image' : chosen.size + ' images';
  if (number) number.textContent = words;
  sessionStorage.setItem(KEY, JSON.stringify([...chosen]));
};
document.addEventListener('change', event => {
  const id = event.target.dataset ? event.target.dataset.choose : undefined;
  if (id === undefined) return;
  if (event.target.checked) chosen.add(id); else chosen.delete(id);
  show();
});
element.addEventListener('click', event => {
  const button = event.target.closest('button');
  if (!button) return;
  if (button.dataset.do) {
    const name = element.querySelector('.name').value, all = button.dataset.all === '1';
    trigger('click', {do: button.dataset.do, name: name, all: all, ids: all ? [] : [...chosen]});
    return;
  }
  if (button.classList.contains('all')) cards().forEach(box => chosen.add(box.dataset.choose));
  if (button.classList.contains('clear')) chosen.clear();
  if (button.classList.contains('save')) {
    const text = '# chosen in the dashboards\\n' + [...chosen].map(id => id + '\\n').join('');
    const link = document.createElement('a');
    link.href = URL.createObjectURL(new Blob([text], {type: 'text/plain'}));
    link.download = 'images.txt';
    link.click();
    URL.revokeObjectURL(link.href);
  }
  show();
});
new MutationObserver(show).observe(document.querySelector('#cards'), {childList: true, subtree: true});
show();
"""


def render_lists(home: Path, said: str = "") -> str:
    """What a change of a list came to (HTML), and the names of the lists for the field beside the buttons."""
    options = "".join(f'<option value="{text(name)}"></option>' for name in kept_lists.by_name(home))
    return f'<datalist id="list-names">{options}</datalist>{said}'


def change_list(
    context: PageContext, tx: Tx, action: str, name: str, ids: Sequence[str] | None, parameters: Parameters
) -> str:
    """Add images to a list, or take them out of it; what came of it, and how it goes on, as HTML.

    Args:
        context: Of the page.
        tx: A connection to the snapshot.
        action: `ADD` or `TAKE_OUT`.
        name: The list's name.
        ids: The images; None: all that match the page's address.
        parameters: The page's address.

    Returns:
        A sentence, and the commands that take the list.

    Raises:
        InputError: It is neither of the two; or the name, the images or the list cannot be used.
    """
    if action == ADD:
        chosen = _matching(context, tx, parameters) if ids is None else _known(tx, ids)
        kept = kept_lists.add(context.home, name, chosen)
        left_out = len(dict.fromkeys(ids or ())) - len(chosen) if ids is not None else 0
        rest = f"; {counted(left_out, 'image')} not in this snapshot left out" if left_out else ""
        done = f"{counted(kept.changed, 'image')} added to {kept.name}{rest}"
    elif action == TAKE_OUT:
        kept = kept_lists.take_out(context.home, name, ids or ())
        done = f"{counted(kept.changed, 'image')} taken out of {kept.name}"
    else:
        raise InputError("a list is added to, or images are taken out of it", item=action[:40])
    if kept.path is None:
        return f'<div class="kept">{text(done)}, which is empty now and gone.</div>'
    shown = link(browse_link(**{LIST: kept.name}), "look at it")
    now = f"<p>{text(done)}: {counted(kept.total, 'image')} in it now, {shown}.</p>"
    return f'<div class="kept">{now}{commands(context.home, kept.path)}</div>'


def commands(home: Path, path: Path) -> str:
    """The commands that take a list, as HTML."""
    at, images = shlex.quote(str(home.absolute())), shlex.quote(str(path.absolute()))
    lines = (
        ("to people", f"sdg --home {at} annotate push --images {images}"),
        ("as a dataset", f"sdg --home {at} export run --images {images}"),
    )
    return (
        '<dl class="commands">'
        + "".join(f"<dt>{what}</dt><dd><code>{text(line)}</code></dd>" for what, line in lines)
        + "</dl>"
    )


def _matching(context: PageContext, tx: Tx, parameters: Parameters) -> list[str]:
    wanted, _ = with_chosen(context, tx, parameters)
    return image_ids(tx, matching(tx, wanted, sort=parameters.get("sort") or "prompt"))


def with_chosen(context: PageContext, tx: Tx, parameters: Parameters) -> tuple[ImageFilter, str]:
    """The filter of an address with the images of its list or selection, and what these are in words; "" for neither.

    Raises:
        SdgError: The address cannot be read, or names a list or a selection that does not exist.
    """
    wanted, titles = ImageFilter.from_parameters(parameters), []
    if parameters.get(LIST):
        name = parameters[LIST]
        ids = kept_lists.read(context.home, name)
        wanted = _within(wanted, ids)
        known = len(_known(tx, list(ids)))
        rest = f", {len(ids) - known:,} of which are not in this snapshot" if known < len(ids) else ""
        titles.append(f"the list {name}: {counted(len(ids), 'id')}{rest}")
    if parameters.get(SELECT):
        selection = context.selections.get(parameters[SELECT])
        if selection is None:
            raise InputError("there is no such selection", item=parameters[SELECT][:80])
        selected = selection(context, tx, parameters)
        wanted = _within(wanted, dict.fromkeys(selected.image_ids))
        titles.append(selected.title)
    return wanted, "; ".join(titles)


def rest_of(parameters: Parameters, known: Collection[str]) -> dict[str, str]:
    """What an address says beyond the controls: a selection with what it is made of."""
    return {name: value for name, value in parameters.items() if name not in known} if SELECT in parameters else {}


def _within(wanted: ImageFilter, ids: Mapping[str, object]) -> ImageFilter:
    if wanted.ids is None:
        return replace(wanted, ids=tuple(ids))
    return replace(wanted, ids=tuple(image_id for image_id in wanted.ids if image_id in ids))


def _known(tx: Tx, ids: Sequence[str]) -> list[str]:
    """Those of the ids that are in the snapshot, each once, in their order."""
    rows = tx.execute(
        "SELECT image_id FROM dash_images WHERE image_id IN (SELECT unnest(?::VARCHAR[]))", [list(ids)]
    ).fetchall()
    known = {image_id for (image_id,) in rows}
    return [image_id for image_id in dict.fromkeys(ids) if image_id in known]
