"""Which images known-answer items are made from, and how items are mixed into what goes to people."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from annotate.known_answers.items import Base, NoItem, ShownPrelabels, make_item
from annotate.labelstudio.push import RoutedImage
from annotate.review.routing import fraction, overlap_of
from schemas.defect import Defect
from schemas.known_answers import KnownItem, KnownKind
from schemas.records import ImageRecord, Prelabel, Withdrawn
from sdg_data.blobs import Blobs
from sdg_data.ids import content_id
from sdg_data.settings import AnnotateSettings, RoutingSettings
from sdg_data.store import gold, images, known_answers, prelabels, prompts, tombstones
from sdg_data.store.connection import Store, Tx
from sdg_data.store.rows import select

_PAGE = 50
_ELSEWHERE = 500
"""Of so many prelabels false boxes are drawn."""
_FEW = 5


@dataclass
class PlanSummary:
    """Items that were made, by kind, and images that gave none, by reason with the first few of them."""

    made: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def refuse(self, reason: str, image_id: str) -> None:
        """Count an image that gives no item."""
        self.refused[reason] += 1
        if len(named := self.examples.setdefault(reason, [])) < _FEW:
            named.append(image_id)


def plan_items(
    store: Store,
    blobs: Blobs,
    settings: AnnotateSettings,
    *,
    count: int,
    kinds: Sequence[KnownKind],
    seed: int = 0,
) -> PlanSummary:
    """Make items, the kinds in turn, until there are so many new ones or no image is left.

    An image gives one item of a kind. Killed: run it again; what was made stays, and comes first.

    Args:
        store: The store; items are written in pages.
        blobs: The pictures.
        settings: Whose prelabels are shown, and how many images are blind.
        count: How many to make.
        kinds: Of which kinds.
        seed: Of the choice of images, and of all that is drawn.

    Returns:
        What was made, and why images gave nothing.
    """
    summary = PlanSummary()
    with store.read() as tx:
        known = known_answers.items(tx)
        position = max((item.position for item in known.values()), default=-1) + 1
        used = {(item.kind, item.base_id) for item in known.values()}
        shown = _shown(tx, settings)
        left = {kind: _candidates(tx, kind, seed, {base for other, base in used if other is kind}) for kind in kinds}
    sources = {kind: _bases(store, ids, settings) for kind, ids in left.items()}
    made: list[KnownItem] = []
    while sources and sum(summary.made.values()) < count:
        for kind in list(sources):
            if sum(summary.made.values()) >= count:
                break
            item = None
            while item is None and (base := next(sources[kind], None)) is not None:
                try:
                    item = make_item(base, kind, blobs, shown, seed=seed, position=position)
                except NoItem as reason:
                    summary.refuse(f"{kind.value}: {reason}", base.image.id)
            if item is None:
                del sources[kind]
                continue
            made.append(item)
            position += 1
            summary.made[kind.value] += 1
            if len(made) >= _PAGE:
                _keep(store, made)
                made = []
    _keep(store, made)
    return summary


def mix(
    tx: Tx, routed: Sequence[RoutedImage], settings: RoutingSettings, share: float
) -> tuple[list[RoutedImage], int]:
    """Mix items that nobody has seen into images that are about to go, so that they are `share` of all.

    Each stands at a place drawn by its id within its stretch of the list, and is blind and seen by several as its
    picture's id says, like any image.

    Args:
        tx: The store.
        routed: The images, in the order in which people shall see them.
        settings: How many people see an image.
        share: The items' share of all tasks, below 1.

    Returns:
        The images with the items among them, and how many items were lacking; none where none was ever made.
    """
    wanted = round(len(routed) * share / (1 - share)) if known_answers.exist(tx) else 0
    items = known_answers.unsent(tx)[:wanted] if wanted else []
    splits = prompts.by_ids(tx, [item.image.prompt_id for item in items])
    stretch = len(routed) / len(items) if items else math.inf
    placed: list[tuple[float, RoutedImage]] = [(float(index), image) for index, image in enumerate(routed)]
    for index, item in enumerate(items):
        place = (index + fraction("known-place", item.image.id)) * stretch - 0.5
        nearest = routed[min(max(round(place), 0), len(routed) - 1)]
        prompt = splits[item.image.prompt_id]
        overlap = overlap_of(settings, item.image.id, prompt.split)
        image = RoutedImage(image_id=item.image.id, blind=item.blind, priority=nearest.priority, overlap=overlap)
        placed.append((place, image))
    placed.sort(key=lambda pair: pair[0])
    return [image for _, image in placed], wanted - len(items)


def _keep(store: Store, items: Sequence[KnownItem]) -> None:
    if items:
        with store.write() as tx:
            known_answers.insert_items(tx, items)


def _candidates(tx: Tx, kind: KnownKind, seed: int, used: set[str]) -> list[str]:
    """The images that may give an item of this kind, in an order drawn from the seed; with gold first for planting."""
    settled = {row["image_id"] for row in select(tx, "SELECT image_id FROM gold")}
    rows = select(tx, f"SELECT id FROM images WHERE {tombstones.alive(Withdrawn.IMAGE, 'id')}")
    ids = [row["id"] for row in rows if row["id"] not in used and (kind is not KnownKind.GOLD or row["id"] in settled)]
    first = settled if kind is KnownKind.PLANTED else set()
    return sorted(ids, key=lambda key: (key not in first, content_id("known-base", seed, kind.value, key)))


def _bases(store: Store, ids: Sequence[str], settings: AnnotateSettings) -> Iterator[Base]:
    for start in range(0, len(ids), _PAGE):
        page = list(ids[start : start + _PAGE])
        with store.read() as tx:
            records = images.by_ids(tx, page)
            texts = prompts.by_ids(tx, list({image.prompt_id for image in records.values()}))
            settled = gold.of_images(tx, page)
            said = prelabels.of_images(tx, page, model=settings.prelabels_of or None)
        for key in page:
            image: ImageRecord = records[key]
            yield Base(
                image,
                texts[image.prompt_id].text,
                settled[key].defects if key in settled else None,
                said[key][-1] if key in said else None,
            )


def _shown(tx: Tx, settings: AnnotateSettings) -> ShownPrelabels:
    """The detector whose prelabels people see, and what it said of some images."""
    rows = select(
        tx,
        f"""
        SELECT id FROM prelabels WHERE (? = '' OR model = ?) AND {tombstones.alive(Withdrawn.PRELABEL, "id")}
        ORDER BY id LIMIT ?
        """,
        [settings.prelabels_of, settings.prelabels_of, _ELSEWHERE],
    )
    said: list[Prelabel] = list(prelabels.by_ids(tx, [row["id"] for row in rows]).values())
    newest = max(said, key=lambda prelabel: (prelabel.created_at, prelabel.id), default=None)
    elsewhere: list[Defect] = list(itertools.chain.from_iterable(prelabel.defects for prelabel in said))
    return ShownPrelabels(newest, elsewhere, settings.routing.blind_share)
