"""An image with the boxes of every source over it, as HTML: an SVG in thousandths, a group for each source.

The page's script (`SCRIPT`) shows and hides groups and says what the box under the pointer is. Without it everything is
still there: the words are tooltips, and in the list beside.
"""

from schemas.defect import Defect
from sdg_data.dashboard.html import folded, text
from sdg_data.dashboard.pages.browse.queries import BoxLayer, ImageDetail

SMALL = 200
"""Pictures of fewer pixels are enlarged without smoothing."""

SCRIPT = """
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
        f"{text(layer.title)} <small>({len(layer.defects)})</small></label>"
        for position, layer in enumerate(layers)
    )
    groups = "".join(_group(position, layer) for position, layer in enumerate(layers))
    lists = "".join(_list(position, layer) for position, layer in enumerate(layers))
    tiny = " tiny" if max(image["width"], image["height"]) < SMALL else ""
    return (
        f'<div class="detail"><div><div class="stage{tiny}"><img src="/blob/{text(image["blob"])}" '
        f'width="{image["width"]}" height="{image["height"]}" alt="{text(image["prompt"][:200])}">'
        f'<svg viewBox="0 0 1000 1000" preserveAspectRatio="none">{groups}</svg></div>'
        f'<div class="layers">{switches or "nobody has looked at this image yet"}</div>'
        '<div class="hint">Point at a box: its reason and importance.</div></div>'
        f"<div>{lists}</div></div>"
    )


def _group(position: int, layer: BoxLayer) -> str:
    boxes = "".join(
        f'<rect class="{defect.type}" data-box="{position}-{index}" tabindex="0" '
        f'x="{defect.box.x0}" y="{defect.box.y0}" width="{defect.box.width}" height="{defect.box.height}">'
        f"<title>{text(f'{defect.importance}: {defect.reason[:300]}')}</title></rect>"
        for index, defect in enumerate(layer.defects)
    )
    hidden = "" if position == 0 else ' style="display:none"'
    return f'<g data-group="{position}" data-kind="{layer.kind}"{hidden}>{boxes}</g>'


def _list(position: int, layer: BoxLayer) -> str:
    lines = "".join(_line(f"{position}-{index}", layer.title, defect) for index, defect in enumerate(layer.defects))
    hidden = "" if position == 0 else ' style="display:none"'
    defects = f"<ul class='defects'>{lines}</ul>" if lines else '<p class="none">no defects: a clean image</p>'
    return f'<div data-group="{position}"{hidden}><h3>{text(layer.title)}</h3>{defects}</div>'


def _line(key: str, title: str, defect: Defect) -> str:
    hint = f"{title}: {defect.type}, importance {defect.importance} ({defect.tier})"
    return (
        f'<li data-box="{key}"><b class="{defect.type}">{defect.type}</b> {text(defect.subtype or "")} · importance '
        f"<b>{defect.importance}</b> ({defect.tier})<br>{folded(defect.reason)}"
        f'<span class="full" hidden>{text(hint)}&#10;{text(defect.reason)}</span></li>'
    )
