"""What the page Map draws: the points of a map with a colour each, and the images inside a line drawn around some.

A map is made by `sdg images map` and is no part of a snapshot, so what is remembered of one hangs on its file too.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.defect import TIER_FLOORS
from sdg_data import image_maps, palette
from sdg_data.dashboard.context import PageContext
from sdg_data.dashboard.page import MOST, Parameters, Rows, Selected
from sdg_data.dashboard.pages.browse.filters import COMPOSITIONS
from sdg_data.errors import InputError
from sdg_data.store.connection import Tx
from sdg_data.store.rows import select

_NOBODY: Final = "nobody looked"
_COMPOSITION: Final = " ".join(f"WHEN {condition} THEN '{name}'" for name, condition in COMPOSITIONS.items())
_TIER: Final = " ".join(f"WHEN worst >= {floor} THEN '{tier}'" for tier, floor in TIER_FLOORS.items())
COLOURS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "composition": ("what is on the image", f"CASE {_COMPOSITION} ELSE '{_NOBODY}' END"),
        "tier": (
            "gravest defect",
            f"CASE WHEN worst IS NULL THEN if(label_source IS NULL, '{_NOBODY}', 'none') {_TIER} END",
        ),
        "model": ("generator", "model"),
        "state": ("review state", "state"),
        "label": ("whose label counts", f"coalesce(label_source, '{_NOBODY}')"),
        "split": ("split", "split"),
    }
)
"""By name, what points can be coloured by, and it as SQL over `dash_images`."""
_OWN: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "artifact only": (palette.TYPES["artifact"], palette.DARK["artifact"]),
        "misalignment only": (palette.TYPES["misalignment"], palette.DARK["misalignment"]),
        _NOBODY: ("#8a8f98", "#78808c"),
    }
)
"""Groups with a colour of their own, on a light and on a dark ground: those of a type, and what nobody looked at."""
OTHERS: Final = "others"
_CORNERS: Final = 400
"""A line drawn around points has at most so many corners in an address."""


@dataclass(frozen=True)
class MapPoints:
    """The points of a map whose images are in the snapshot.

    Attributes:
        places: The whole map.
        image_ids: Those with a point that is drawn.
        grid: Their places, (n, 2), 0 to `image_maps.SIDE`.
        groups: The names of the groups, the largest first.
        group: Of each point, the number of its group.
    """

    places: image_maps.Places
    image_ids: list[str]
    grid: NDArray[np.int32]
    groups: list[str]
    group: list[int]


def drawn(context: PageContext, tx: Tx, name: str, colour: str) -> MapPoints:
    """A map as it is drawn; remembered.

    Raises:
        InputError: There is no such map or colour.
    """
    if colour not in COLOURS:
        raise InputError(f"points are coloured by {', '.join(COLOURS)}", item=f"colour={colour[:40]}")

    def make() -> MapPoints:
        places = image_maps.load(context.home, name)
        rows = tx.execute(
            f"SELECT image_id, {COLOURS[colour][1]} FROM dash_images WHERE image_id IN (SELECT unnest(?::VARCHAR[]))",
            [list(places.image_ids)],
        ).fetchall()
        group_of = dict(rows)
        known = np.array([image in group_of for image in places.image_ids], np.bool_)
        image_ids = [image for image in places.image_ids if image in group_of]
        counted = [
            group for group, _ in sorted(Counter(group_of.values()).items(), key=lambda item: (-item[1], item[0]))
        ]
        most = len(palette.SERIES) + sum(group in _OWN for group in counted)
        groups = counted if len(counted) <= most else [*counted[: most - 1], OTHERS]
        number = {group: place for place, group in enumerate(groups)}
        return MapPoints(
            places,
            image_ids,
            places.grid()[known] if len(known) else places.grid(),
            groups,
            [number.get(group_of[image], len(groups) - 1) for image in image_ids],
        )

    return context.cached(tx, ("map", name, colour, _edition(context, name)), make)


def document(context: PageContext, tx: Tx, parameters: Parameters) -> dict[str, Any]:
    """What the page's script draws: columns of whole numbers, because a map has many points."""
    name = asked_map(context, parameters)
    if not name:
        return {}
    points = drawn(context, tx, name, parameters.get("colour") or "composition")
    step = max(1, -(-len(points.image_ids) // MOST))
    return {
        "map": name,
        "side": image_maps.SIDE,
        "images": len(points.image_ids),
        "groups": legend(points),
        "ids": points.image_ids[::step],
        "x": points.grid[::step, 0].tolist(),
        "y": points.grid[::step, 1].tolist(),
        "group": points.group[::step],
    }


def legend(points: MapPoints) -> Rows:
    """The groups of a map: name, number of images, and the colour on a light and on a dark ground."""
    rows, series = [], 0
    for place, group in enumerate(points.groups):
        name = palette.class_name("", series)
        light, dark = _OWN.get(group, (palette.colour("", series), palette.DARK[name]))
        series += group not in _OWN
        rows.append({"name": group, "images": points.group.count(place), "light": light, "dark": dark})
    return rows


def point_rows(context: PageContext, tx: Tx, parameters: Parameters) -> Rows:
    """The same as a table: the image, its place, and its group."""
    name = asked_map(context, parameters)
    if not name:
        return []
    points = drawn(context, tx, name, parameters.get("colour") or "composition")
    return [
        {"image": image, "x": int(x), "y": int(y), "group": points.groups[group]}
        for image, (x, y), group in zip(points.image_ids[:MOST], points.grid, points.group, strict=False)
    ]


def one_point(context: PageContext, tx: Tx, parameters: Parameters) -> Rows:
    """What is shown of the point under the pointer."""
    return select(
        tx,
        "SELECT image_id AS image, blob, model, left(prompt, 300) AS prompt, state FROM dash_images WHERE image_id = ?",
        [parameters.get("image", "")],
    )


def lasso_images(context: PageContext, tx: Tx, parameters: Parameters) -> Selected:
    """The images inside a line that was drawn around points of a map.

    Raises:
        InputError: The address names no map, or the line has fewer than three corners or too many.
    """
    name = parameters.get("map", "")
    corners = corners_of(parameters.get("points", ""))
    points = drawn(context, tx, name, "composition")
    within = image_maps.inside(corners, points.grid)
    chosen = [image for image, chosen in zip(points.image_ids, within, strict=True) if chosen]
    return Selected(f"inside the line drawn on the map {name}", chosen)


def corners_of(points: str) -> NDArray[np.float64]:
    """The corners (n, 2) in an address: whole numbers by commas, x and y in turn.

    Raises:
        InputError: They are none, or too few or too many.
    """
    parts = points.split(",")
    numbers = [
        int(part) for part in parts if part.lstrip("-").isascii() and part.lstrip("-").isdecimal() and len(part) < 8
    ]
    if len(numbers) != len(parts) or len(numbers) % 2 or not 3 <= len(numbers) // 2 <= _CORNERS:
        raise InputError(f"a line has 3 to {_CORNERS} corners: x0,y0,x1,y1,…", item=f"points={points[:40]}")
    return np.array(numbers, np.float64).reshape(-1, 2)


def asked_map(context: PageContext, parameters: Parameters) -> str:
    """The map that an address names, else the first; "" where there is none."""
    return parameters.get("map") or next(iter(image_maps.names(context.home)), "")


def _edition(context: PageContext, name: str) -> int:
    path = context.home / image_maps.MAPS / name / "places.parquet"
    return path.stat().st_mtime_ns if name in image_maps.names(context.home) else 0
