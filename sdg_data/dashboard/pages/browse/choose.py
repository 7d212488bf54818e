"""Chosen images: those behind a figure, those of a list in the home's folder, and those that are ticked in the browser.

The ticked ones are kept by the browser alone. A list is a text file with one id a line (`sdg_data.store.image_list`);
those in `HOME/lists` can be opened by their names, and the page's own list is a download of the same form.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from sdg_data.dashboard.context import PageContext
from sdg_data.dashboard.page import Parameters
from sdg_data.dashboard.pages.browse.filters import ImageFilter
from sdg_data.errors import InputError
from sdg_data.store import image_list
from sdg_data.store.connection import Tx

LISTS = "lists"
SELECT, LIST = "select", "list"

BAR = """
<div class="bar-of-choice" role="status"><b class="number">nothing</b> chosen
<button class="all">choose this page</button> <button class="save">save the list</button>
<button class="clear">choose none</button>
<span class="note">A list is what <code>sdg annotate push --images FILE</code> and
<code>sdg export run --images FILE</code> take. TXT above the images is the list of all that match.</span></div>
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


def lists(home: Path) -> dict[str, Path]:
    """The lists in the home's folder, by name."""
    return {path.stem: path for path in sorted((home / LISTS).glob("*.txt")) if path.is_file()}


def with_chosen(context: PageContext, tx: Tx, parameters: Parameters) -> tuple[ImageFilter, str]:
    """The filter of an address with the images of its list or selection, and what these are in words; "" for neither.

    Raises:
        SdgError: The address cannot be read, or names a list or a selection that does not exist.
    """
    wanted, titles = ImageFilter.from_parameters(parameters), []
    if parameters.get(LIST):
        name = parameters[LIST]
        path = lists(context.home).get(name)
        if path is None:
            raise InputError(f"there is no such list in {context.home / LISTS}", item=name[:80])
        ids = image_list.read(path)
        wanted = _within(wanted, ids)
        known = _known(tx, list(ids))
        rest = f", {len(ids) - known:,} of which are not in this snapshot" if known < len(ids) else ""
        titles.append(f"the list {name}: {len(ids):,} ids{rest}")
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


def _known(tx: Tx, ids: list[str]) -> int:
    rows = tx.execute("SELECT count(*) FROM dash_images WHERE image_id IN (SELECT unnest(?::VARCHAR[]))", [ids])
    return int(rows.fetchall()[0][0])
