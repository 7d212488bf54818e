"""Making known-answer items: pictures of their own, with what is right about them and a prelabel that may be wrong.

An item is made from an image of the dataset, whose prompt, model and licence it shows, so that nothing tells it from
its neighbours; its bytes, and therefore its id and its file's name, are its own. Three kinds:

    gold      the image itself, whose defects people settled in review; one level of one pixel differs
    mini      the prompt's scene of the mini world, drawn anew with defects that `sdg_data.mini.inject` puts in
    planted   the image with a defect planted in it (`planting`), beside what gold knows of the image, if anything

Who copies the machine is only found where the machine is wrong. So the prelabel of an item is the truth as a detector
would box it, with one fault in most: it leaves a defect out, or has a box on nothing, which is borrowed from what the
detector said of another image.
"""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from PIL import Image

from annotate.known_answers.planting import CannotPlant, Pixels, Planting, plant
from annotate.review.routing import is_blind
from schemas.defect import Defect
from schemas.geometry import GRID, Box
from schemas.known_answers import PLANTED_SOURCE, KnownItem, KnownKind, KnownTruth
from schemas.records import ImageRecord, Prelabel
from sdg_data.blobs import Blobs
from sdg_data.errors import BlobCorrupt, BlobMissing
from sdg_data.ids import canonical_json, content_id
from sdg_data.mini.inject import CannotDraw, Kind, corrupt
from sdg_data.mini.render import render
from sdg_data.mini.world import SIZE, parse_prompt
from sdg_data.picture import PictureError, decode_pixels
from sdg_data.store.rows import this_tool

RIGHT, LEAVES_OUT = 0.15, 0.45
"""Shares of the items whose prelabel is right, and leaves a defect out; the others' has a box on nothing."""
CLEAN = 0.2
"""Share of the drawn items without any defect: whoever finds something everywhere is wrong there."""
LOOSE = 0.05
"""Standard deviation of a prelabel's edges around the truth's, as a share of the box's side."""
_FREE = 0.1
"""An invented box overlaps no true one by a larger IoU."""
_TRIES = 50
_FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "image/png": ("PNG", {}),
    "image/jpeg": ("JPEG", {"quality": 92}),
    "image/webp": ("WEBP", {"lossless": True}),
}


class NoItem(Exception):
    """No item of this kind can be made from this image; the message says why."""


@dataclass(frozen=True)
class Base:
    """An image of the dataset from which an item may be made.

    Attributes:
        image: Its record.
        prompt: Its prompt.
        gold: Its settled defects; None: nobody settled them.
        prelabel: What the detector said of it, if it was asked; its defects are used in planted items.
    """

    image: ImageRecord
    prompt: str
    gold: tuple[Defect, ...] | None
    prelabel: Prelabel | None


@dataclass(frozen=True)
class ShownPrelabels:
    """How prelabels of items are made: as which detector's, and what false boxes are drawn from."""

    like: Prelabel | None
    elsewhere: Sequence[Defect]
    blind_share: float


@dataclass(frozen=True)
class _Made:
    pixels: Pixels
    truth: KnownTruth
    planted: dict[str, Any]


def make_item(
    base: Base, kind: KnownKind, blobs: Blobs, shown: ShownPrelabels, *, seed: int, position: int
) -> KnownItem:
    """Make an item and store its picture. The same arguments make the same item.

    Args:
        base: What it is made from.
        kind: How its answer is known.
        blobs: Where the base's bytes are, and the item's go.
        shown: How prelabels are made.
        seed: Of all that is drawn.
        position: Its place in the order of handing out.

    Raises:
        NoItem: The image does not give such an item.
    """
    rng = random.Random(content_id("known-item", seed, kind.value, base.image.id))
    if base.image.media_type not in _FORMATS:
        raise NoItem(f"pictures are not written as {base.image.media_type}")
    made = _MAKERS[kind](base, blobs, rng)
    image = _picture(base.image, made, blobs)
    blind = is_blind(image.id, shown.blind_share) or shown.like is None
    prelabel, truth = (None, made.truth) if blind else _prelabel(image, base, made.truth, shown, rng)
    return KnownItem(
        image=image,
        kind=kind,
        base_id=base.image.id,
        planted=canonical_json(made.planted),
        truth=truth,
        blind=blind and is_blind(image.id, shown.blind_share),
        prelabel=prelabel,
        position=position,
        created_at=datetime.now(UTC),
    )


# --- pictures with their truth


def _gold(base: Base, blobs: Blobs, rng: random.Random) -> _Made:
    if base.gold is None:
        raise NoItem("it has no gold")
    pixels = _decoded(base, blobs).copy()
    row, column = rng.randrange(pixels.shape[0]), rng.randrange(pixels.shape[1])
    pixels[row, column, 2] ^= 1  # other bytes, hence another name, and nothing that anybody sees
    return _Made(pixels, KnownTruth(defects=base.gold), {"changed": [column, row]})


def _mini(base: Base, blobs: Blobs, rng: random.Random) -> _Made:
    try:
        scene = parse_prompt(base.prompt)
    except ValueError as error:
        raise NoItem("its prompt is not of the mini world") from error
    if (base.image.width, base.image.height) != (SIZE, SIZE):
        raise NoItem("it is not as large as the mini world")
    if rng.random() < CLEAN:
        return _Made(render(scene, rng), KnownTruth(defects=()), {"kinds": []})
    for _ in range(_TRIES):
        kinds = rng.sample(list(Kind), rng.choice((1, 1, 2)))
        try:
            drawn = corrupt(scene, kinds, rng)
        except CannotDraw:
            continue
        return _Made(drawn.pixels, KnownTruth(defects=drawn.defects), {"kinds": [kind.value for kind in drawn.kinds]})
    raise NoItem("its scene has no room for a defect")


def _planted(base: Base, blobs: Blobs, rng: random.Random) -> _Made:
    pixels = _decoded(base, blobs)
    known = base.gold or ()
    said = () if base.prelabel is None else base.prelabel.defects
    beside = tuple(defect.box for defect in known or said)
    for planting in rng.sample(list(Planting), len(Planting)):
        try:
            planted = plant(pixels, planting, rng, beside=beside)
        except CannotPlant:
            continue
        truth = KnownTruth(defects=(*known, planted.defect), complete=base.gold is not None, weighed=False)
        return _Made(planted.pixels, truth, planted.settings)
    raise NoItem("a planted defect is seen nowhere in it")


_MAKERS = {KnownKind.GOLD: _gold, KnownKind.MINI: _mini, KnownKind.PLANTED: _planted}


def _decoded(base: Base, blobs: Blobs) -> Pixels:
    try:
        return decode_pixels(blobs.get(base.image.blob))
    except PictureError as error:
        raise NoItem(f"its picture cannot be read ({error.code})") from error
    except (BlobMissing, BlobCorrupt) as error:
        raise NoItem("its bytes are missing or damaged") from error


def _picture(base: ImageRecord, made: _Made, blobs: Blobs) -> ImageRecord:
    """The item's own record: the base's words, and a source that says what it is."""
    name, options = _FORMATS[base.media_type]
    buffer = io.BytesIO()
    Image.fromarray(made.pixels).save(buffer, name, **options)
    data = buffer.getvalue()
    blob = blobs.put(data)
    settings = canonical_json({"base": base.id, **made.planted})
    return base.model_copy(
        update={
            "id": content_id("known-picture", base.id, blob),
            "revision": "planted",
            "seed": None,
            "settings": settings,
            "blob": blob,
            "width": made.pixels.shape[1],
            "height": made.pixels.shape[0],
            "bytes": len(data),
            "source": PLANTED_SOURCE,
            "tool": this_tool(),
            "seconds": None,
            "created_at": datetime.now(UTC),
        }
    )


# --- what the machine is made to say


def _prelabel(
    image: ImageRecord, base: Base, truth: KnownTruth, shown: ShownPrelabels, rng: random.Random
) -> tuple[Prelabel, KnownTruth]:
    """A prelabel with at most one fault, and the truth with that fault in it."""
    assert shown.like is not None
    boxes, truth = boxes_with_a_fault(truth, shown.elsewhere, rng)
    if not truth.complete and base.prelabel is not None:
        boxes = [*base.prelabel.defects, *boxes]
    prelabel = shown.like.model_copy(
        update={
            "id": content_id("known-prelabel", image.id),
            "image_id": image.id,
            "raw": "",
            "trace": None,
            "defects": tuple(boxes),
            "repairs": (),
            "attempt": 1,
            "tokens_in": None,
            "tokens_out": None,
            "cost": None,
            "seconds": None,
            "tool": this_tool(),
        }
    )
    return prelabel, truth


def boxes_with_a_fault(
    truth: KnownTruth, elsewhere: Sequence[Defect], rng: random.Random
) -> tuple[list[Defect], KnownTruth]:
    """What a prelabel is made to say: the truth as a detector boxes it, and in most cases one fault.

    Args:
        truth: What is right.
        elsewhere: What the detector said of other images; false boxes are borrowed from it.
        rng: Where all is drawn from.

    Returns:
        The boxes, and the truth with the fault in it.
    """
    boxes = [_loosened(defect, rng) for defect in truth.defects]
    lot = rng.random()
    if RIGHT <= lot < RIGHT + LEAVES_OUT and truth.defects:
        # Where the truth is not complete, only the planted defect, the last, is known to be one.
        index = rng.randrange(len(boxes)) if truth.complete else len(boxes) - 1
        boxes.pop(index)
        return boxes, truth.model_copy(update={"missed_by_prelabel": truth.defects[index]})
    if lot >= RIGHT and truth.complete and (invented := _invented(truth, elsewhere, rng)) is not None:
        boxes.insert(rng.randrange(len(boxes) + 1), invented)
        return boxes, truth.model_copy(update={"invented_by_prelabel": invented})
    return boxes, truth


def _invented(truth: KnownTruth, elsewhere: Sequence[Defect], rng: random.Random) -> Defect | None:
    """What the detector said of another image, where nothing is wrong in this one; None: everything overlaps."""
    for _ in range(_TRIES if elsewhere else 0):
        borrowed = rng.choice(elsewhere)
        if all(borrowed.box.iou(defect.box) < _FREE for defect in truth.defects):
            return borrowed
    return None


def _loosened(defect: Defect, rng: random.Random) -> Defect:
    box = defect.box
    x0, x1 = _edges(box.x0, box.x1, rng)
    y0, y1 = _edges(box.y0, box.y1, rng)
    return defect.model_copy(update={"box": Box(x0=x0, y0=y0, x1=x1, y1=y1)})


def _edges(low: int, high: int, rng: random.Random) -> tuple[int, int]:
    spread = LOOSE * (high - low)
    first = min(max(round(rng.gauss(low, spread)), 0), GRID - 1)
    return first, min(max(round(rng.gauss(high, spread)), first + 1), GRID)
