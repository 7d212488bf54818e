"""An image with the boxes of every source over it, as HTML: an SVG, a group for each source.

Colour is the type of a defect. Which source a box is of shows in its line (whole for gold, dashes of another length for
each of the others) and in the source's letter at its corner.

The page's script (`SCRIPT`) shows and hides groups and says what the box under the pointer is. Without it everything is
still there: the words are tooltips, and in the list beside.
"""

from schemas.defect import Defect
from sdg_data.dashboard.html import folded, text
from sdg_data.dashboard.pages.browse.queries import BoxLayer, ImageDetail

SMALL = 200
"""Pictures of fewer pixels are enlarged without smoothing."""

_LINES = ("none", "12 5", "3 4", "14 4 3 4", "7 7", "2 7", "20 5 5 5 5 5")
"""By layer, the lengths of dashes and gaps."""

SCRIPT = """
element.addEventListener('input', event => {
  if (event.target.classList.contains('zoomer'))
    element.querySelector('.stage').style.width = event.target.value + '%';
});
const say = (node) => {
  element.querySelectorAll('.lit').forEach(lit => lit.classList.remove('lit'));
  if (!node) return;
  const key = node.dataset.box;
  element.querySelectorAll('[data-box]').forEach(box => { if (box.dataset.box === key) box.classList.add('lit'); });
  const hint = element.querySelector('.hint');
  const line = element.querySelector('li[data-box="' + CSS.escape(key) + '"] .full');
  if (hint && line) hint.textContent = line.textContent;
};
const find = (event) => event.target.closest('[data-box]');
element.addEventListener('mouseover', event => { const node = find(event); if (node) say(node); });
element.addEventListener('focusin', event => { const node = find(event); if (node) say(node); });
element.addEventListener('change', event => {
  const layer = event.target.dataset.layer;
  if (layer === undefined) return;
  element.querySelectorAll('[data-group="' + CSS.escape(layer) + '"]').forEach(group => {
    group.style.display = event.target.checked ? '' : 'none';
  });
});
"""


def picture(detail: ImageDetail) -> str:
    """The image, its layers with a switch each, and the list of their defects, as HTML. The first layer is visible."""
    image, layers = detail.image, detail.layers
    switches = "".join(
        f'<label><input type="checkbox" data-layer="{position}"{" checked" if position == 0 else ""}>'
        f'<svg class="line" viewBox="0 0 34 8" width="34" height="8">'
        f'<path d="M0 4H34" style="{_line_of(position)}"/></svg>'
        f"<b>{letter_of(position)}</b> {text(layer.title)} <small>({len(layer.defects)})</small></label>"
        for position, layer in enumerate(layers)
    )
    height = round(1000 * image["height"] / image["width"])
    groups = "".join(_group(position, layer, height / 1000) for position, layer in enumerate(layers))
    lists = "".join(_list(position, layer) for position, layer in enumerate(layers))
    tiny = " tiny" if max(image["width"], image["height"]) < SMALL else ""
    return (
        f'<div class="detail"><div><div class="zoom"><div class="stage{tiny}"><img src="/blob/{text(image["blob"])}" '
        f'width="{image["width"]}" height="{image["height"]}" alt="{text(image["prompt"][:200])}">'
        f'<svg viewBox="0 0 1000 {height}" aria-label="boxes" role="group">{groups}</svg></div></div>'
        '<p class="note"><label>zoom <input type="range" class="zoomer" min="100" max="400" step="25" value="100" '
        'aria-label="zoom in percent"></label> '
        f'<a href="/blob/{text(image["blob"])}" target="_blank">the picture</a></p>'
        f'<div class="layers">{switches or "nobody has looked at this image yet"}</div>'
        '<div class="hint">Point at a box: its reason and importance.</div></div>'
        f"<div>{lists}</div></div>"
    )


def letter_of(position: int) -> str:
    """The letter of a layer: A for the first; after Z come AA, AB …"""
    return (letter_of(position // 26 - 1) if position >= 26 else "") + chr(ord("A") + position % 26)


def _line_of(position: int) -> str:
    """The line of a layer's boxes, as a style."""
    return f"stroke-dasharray:{_LINES[position % len(_LINES)]}"


def _group(position: int, layer: BoxLayer, aspect: float) -> str:
    line, letter = _line_of(position), letter_of(position)
    boxes = "".join(
        f'<rect class="{defect.type}" data-box="{position}-{index}" tabindex="0" role="img" style="{line}" '
        f'x="{defect.box.x0}" y="{defect.box.y0 * aspect:g}" width="{defect.box.width}" '
        f'height="{defect.box.height * aspect:g}" aria-label="{letter}: {text(defect_line(defect))}">'
        f"<title>{text(defect_line(defect))}</title></rect>"
        f'<text class="{defect.type}" x="{defect.box.x0 + 6 + 30 * position}" '
        f'y="{defect.box.y0 * aspect + 30:g}">{letter}</text>'
        for index, defect in enumerate(layer.defects)
    )
    hidden = "" if position == 0 else ' style="display:none"'
    return f'<g data-group="{position}" data-kind="{layer.kind}"{hidden}>{boxes}</g>'


def defect_line(defect: Defect) -> str:
    """A defect's type, importance and reason, for the title of its box."""
    return f"{defect.type}, importance {defect.importance}: {defect.reason[:300]}"


def _list(position: int, layer: BoxLayer) -> str:
    lines = "".join(_line(f"{position}-{index}", layer.title, defect) for index, defect in enumerate(layer.defects))
    hidden = "" if position == 0 else ' style="display:none"'
    defects = f"<ul class='defects'>{lines}</ul>" if lines else '<p class="none">no defects: a clean image</p>'
    return f'<div data-group="{position}"{hidden}><h3>{letter_of(position)} {text(layer.title)}</h3>{defects}</div>'


def _line(key: str, title: str, defect: Defect) -> str:
    hint = f"{title}: {defect.type}, importance {defect.importance} ({defect.tier})"
    return (
        f'<li data-box="{key}"><b class="{defect.type}">{defect.type}</b> {text(defect.subtype or "")} · importance '
        f"<b>{defect.importance}</b> ({defect.tier})<br>{folded(defect.reason)}"
        f'<span class="full" hidden>{text(hint)}&#10;{text(defect.reason)}</span></li>'
    )
