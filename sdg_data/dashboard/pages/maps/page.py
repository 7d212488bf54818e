"""Map: every image as a point, alike ones near each other; what is drawn around opens in Browse."""

from typing import Any
from urllib.parse import urlencode

import gradio as gr

from sdg_data import image_maps
from sdg_data.dashboard.context import PageContext
from sdg_data.dashboard.controls import remember
from sdg_data.dashboard.html import counted, figure, nothing, text
from sdg_data.dashboard.page import MOST, Page, Parameters
from sdg_data.dashboard.pages.maps.points import (
    COLOURS,
    MapPoints,
    asked_map,
    document,
    drawn,
    lasso_images,
    legend,
    one_point,
    point_rows,
)
from sdg_data.dashboard.pages.maps.script import SCRIPT
from sdg_data.errors import SdgError

_NAMES = ("map", "colour")
_MISSING = ("No map has been made yet. Look at the images with the detector's vision tower:", "sdg images map")


def build(context: PageContext) -> None:
    """Make the page's components inside its Blocks."""
    stamp = context.header()
    with gr.Row(elem_classes="sdg-controls"):
        which = gr.Dropdown([], label="Map", elem_id="which", interactive=True, min_width=180)
        colour = gr.Dropdown(
            [(words, name) for name, (words, _) in COLOURS.items()],
            value="composition",
            label="Colour",
            elem_id="colour",
            interactive=True,
            min_width=180,
        )
    body = gr.HTML(elem_id="map", elem_classes="sdg", js_on_load=SCRIPT)

    def on_open(request: gr.Request | None = None) -> tuple[Any, ...]:
        asked = dict(request.query_params) if request is not None else {}
        names = image_maps.names(context.home)
        name = asked_map(context, asked)
        shade = asked["colour"] if asked.get("colour") in COLOURS else "composition"
        choices = names if not name or name in names else [*names, name]
        return gr.Dropdown(choices=choices, value=name or None), shade, context.stamp(), show(name, shade)

    def show(name: str | None, shade: str | None) -> str:
        return render(context, {"map": name or "", "colour": shade or "composition"})

    def on_refresh(name: str | None, shade: str | None) -> tuple[str, str]:
        return context.stamp(), show(name, shade)

    controls = [which, colour]
    context.on_open(on_open, [*controls, stamp, body], again=(on_refresh, controls, [stamp, body]))
    for control in controls:
        control.input(show, controls, body, show_progress="hidden", queue=False).then(
            None, controls, None, js=remember(_NAMES, {"colour": "composition"})
        )


def render(context: PageContext, parameters: Parameters) -> str:
    """The map's frame as HTML: its points come by the page's script."""
    name = asked_map(context, parameters)
    if not name:
        return nothing(*_MISSING)
    with context.snapshots.read() as tx:
        if tx is None:
            return nothing("There is no store yet. Import prompts first:", "sdg prompts import prompts.txt")
        try:
            points = drawn(context, tx, name, parameters["colour"])
        except SdgError as error:
            return f'<p class="warn">{text(error)}</p>'
    return _frame(name, points, {**parameters, "map": name})


def _frame(name: str, points: MapPoints, parameters: Parameters) -> str:
    about = points.places.about
    count = len(points.image_ids)
    lacking = len(points.places.image_ids) - count
    parts = [
        f"{counted(count, 'image')} as {about.model} sees them ({about.seen_as})",
        f"right: {about.axes[0]}; up: {about.axes[1]}",
    ]
    if lacking:
        parts.append(f"{counted(lacking, 'image')} of the map not in this snapshot")
    if count > MOST:
        parts.append(f"one point of {-(-count // MOST)} is drawn, all of them can be drawn around")
    keys = "".join(
        f'<li><i class="key by-day" style="background:{shade["light"]}"></i>'
        f'<i class="key by-night" style="background:{shade["dark"]}"></i>{text(shade["name"])} '
        f"<small>{shade['images']:,}</small></li>"
        for shade in legend(points)
    )
    address = text(f"/data/map.json?{urlencode(parameters)}")
    plane = (
        f'<div class="map" data-map="{address}"><div class="plane"><canvas class="points" role="img" '
        f'aria-label="map of {counted(count, "image")}; the download CSV has the same as a table"></canvas>'
        '<canvas class="line" aria-hidden="true"></canvas></div>'
        f'<div class="beside"><h3>{text(COLOURS[parameters["colour"]][0])}</h3><ul class="legend">{keys}</ul>'
        '<p class="inside" role="status">Nothing is drawn around yet.</p>'
        '<p><button class="step clear">clear the line</button><button class="step whole">all of the map</button></p>'
        '<p class="note">Draw a line around points: they open in Browse, where they can be tagged. Click a point to '
        'see its image here. The wheel brings it nearer.</p><div class="under"></div></div></div>'
    )
    return figure("map-points", f"Map {name}", plane, note="; ".join(parts), parameters=parameters)


PAGE = Page(
    title="Map",
    path="map",
    build=build,
    figures={"map": document, "map-points": point_rows, "map-point": one_point},
    selections={"lasso": lasso_images},
)
