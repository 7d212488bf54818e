"""An image with the boxes of every source over it, as HTML: an SVG in thousandths, a group for each source.

The page's script (`SCRIPT`) shows and hides groups and tells what the box under the pointer is; without it everything
is still there, the words as tooltips and in the list beside.
"""

from sdg_data.dashboard.html import folded, text
from sdg_data.dashboard.queries_browse import Layer, Story

SMALL = 200
"""Pictures of fewer pixels are enlarged without smoothing."""

SCRIPT = """
const say = (node) => {
  element.querySelectorAll('.lit').forEach(one => one.classList.remove('lit'));
  if (!node) return;
  const key = node.dataset.box;
  element.querySelectorAll('[data-box]').forEach(one => { if (one.dataset.box === key) one.classList.add('lit'); });
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
  element.querySelectorAll('[data-group="' + CSS.escape(layer) + '"]').forEach(one => {
    one.style.display = event.target.checked ? '' : 'none';
  });
});
"""


def picture(story: Story) -> str:
    """The image, its layers with a switch each, and the list of their defects. The first layer is shown."""
    shown = story.image
    layers = story.layers
    switches = "".join(
        f'<label><input type="checkbox" data-layer="{place}"{" checked" if place == 0 else ""}>'
        f"{text(layer.title)} <small>({len(layer.defects)})</small></label>"
        for place, layer in enumerate(layers)
    )
    groups = "".join(_group(place, layer) for place, layer in enumerate(layers))
    lists = "".join(_list(place, layer) for place, layer in enumerate(layers))
    tiny = " tiny" if max(shown["width"], shown["height"]) < SMALL else ""
    return (
        f'<div class="detail"><div><div class="stage{tiny}"><img src="/blob/{text(shown["blob"])}" '
        f'width="{shown["width"]}" height="{shown["height"]}" alt="{text(shown["prompt"][:200])}">'
        f'<svg viewBox="0 0 1000 1000" preserveAspectRatio="none">{groups}</svg></div>'
        f'<div class="layers">{switches or "nobody has looked at this image yet"}</div>'
        '<div class="hint">Point at a box: its reason and importance.</div></div>'
        f"<div>{lists}</div></div>"
    )


def _group(place: int, layer: Layer) -> str:
    boxes = "".join(
        f'<rect class="{one.type}" data-box="{place}-{index}" tabindex="0" x="{one.box.x0}" y="{one.box.y0}" '
        f'width="{one.box.width}" height="{one.box.height}">'
        f"<title>{text(f'{one.importance}: {one.reason[:300]}')}</title></rect>"
        for index, one in enumerate(layer.defects)
    )
    hidden = "" if place == 0 else ' style="display:none"'
    return f'<g data-group="{place}" data-kind="{layer.kind}"{hidden}>{boxes}</g>'


def _list(place: int, layer: Layer) -> str:
    lines = "".join(
        f'<li data-box="{place}-{index}"><b class="{one.type}">{one.type}</b> '
        f"{text(one.subtype or '')} · importance <b>{one.importance}</b> ({one.tier})<br>{folded(one.reason)}"
        f'<span class="full" hidden>{text(f"{layer.title}: {one.type}, importance {one.importance} ({one.tier})")}'
        f"&#10;{text(one.reason)}</span></li>"
        for index, one in enumerate(layer.defects)
    )
    hidden = "" if place == 0 else ' style="display:none"'
    body = f"<ul class='defects'>{lines}</ul>" if lines else '<p class="none">no defects: a clean image</p>'
    return f'<div data-group="{place}"{hidden}><h3>{text(layer.title)}</h3>{body}</div>'
