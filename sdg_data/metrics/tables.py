"""Defects of many images as columns: what the evaluation computes on.

A million pydantic records would take minutes and gigabytes; these are a dozen arrays. `TableBuilder` makes a table from
items or `Defect`s, `join` brings two of them to the same images in the same order.
"""

import itertools
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.defect import DEFECT_TYPES, Defect, DefectType, Subtype
from schemas.geometry import GRID, Box

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

TYPES = tuple(DefectType)
LABELS = (*DEFECT_TYPES, "both")
"""The labels with a meaning; their places are their codes. Any other spelling follows in `DefectTable.labels`."""
ARTIFACT, MISALIGNMENT, BOTH = range(3)
SUBTYPES = tuple(Subtype)

PARSED, FAILED, DEGENERATE = range(3)
OUTCOMES = ("parsed", "failed", "degenerate")


@dataclass(frozen=True)
class DefectTable:
    """The defects of n images, N in all. The defects of image i are the rows `offsets[i]:offsets[i + 1]`.

    keys        the image's name, unique, n
    groups      the generator that made it, "" where unknown, n
    outcomes    (n,) PARSED, FAILED or DEGENERATE: only a parsed image claims something
    offsets     (n + 1,)
    boxes       (N, 4) x0, y0, x1, y1
    labels      (N,) place in `names`
    importance  (N,) NaN where there is none
    subtypes    (N,) place in `SUBTYPES`, -1 for none
    reasons     N texts
    names       the labels' spellings; the first three are `LABELS`
    """

    keys: tuple[str, ...]
    groups: tuple[str, ...]
    outcomes: Ints
    offsets: Ints
    boxes: Floats
    labels: Ints
    importance: Floats
    subtypes: Ints
    reasons: tuple[str, ...]
    names: tuple[str, ...] = LABELS

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def counts(self) -> Ints:
        """How many defects each image has, (n,)."""
        return np.diff(self.offsets)

    @property
    def images(self) -> Ints:
        """The row of the image that each defect is on, (N,)."""
        return np.repeat(np.arange(len(self.keys)), self.counts)

    def box_lists(self) -> Iterator[list[Box]]:
        """The boxes of each image, in order; those that are no valid `Box` (of the release, unchecked) are left out."""
        edges = self.boxes.tolist()
        for start, end in itertools.pairwise(self.offsets.tolist()):
            within = (map(int, box) for box in edges[start:end] if all(0 <= edge <= GRID for edge in box))
            yield [Box(x0=x0, y0=y0, x1=x1, y1=y1) for x0, y0, x1, y1 in within if x0 < x1 and y0 < y1]

    def take(self, rows: Sequence[int]) -> "DefectTable":
        """These images, in this order; every one at most once."""
        order = np.asarray(rows, dtype=np.int64)
        if np.array_equal(order, np.arange(len(self.keys))):
            return self
        counts = self.counts[order]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        picked = np.arange(offsets[-1]) + np.repeat(self.offsets[order] - offsets[:-1], counts)
        return DefectTable(
            keys=tuple(map(self.keys.__getitem__, rows)),
            groups=tuple(map(self.groups.__getitem__, rows)),
            outcomes=self.outcomes[order],
            offsets=offsets,
            boxes=self.boxes[picked],
            labels=self.labels[picked],
            importance=self.importance[picked],
            subtypes=self.subtypes[picked],
            reasons=tuple(map(self.reasons.__getitem__, picked.tolist())),
            names=self.names,
        )

    def relabelled(self, names: tuple[str, ...]) -> "DefectTable":
        """The same with labels counted in `names`, which has all of its own."""
        if names == self.names:
            return self
        places = np.array([names.index(name) for name in self.names], dtype=np.int64)
        return replace(self, labels=places[self.labels], names=names)

    @classmethod
    def from_defects(
        cls, images: Iterable[tuple[str, Sequence[Defect] | None]], *, groups: Mapping[str, str] | None = None
    ) -> "DefectTable":
        """A table of (key, defects); None for an image whose answer could not be read. `groups` by key."""
        builder = TableBuilder()
        for key, defects in images:
            builder.add_defects(key, defects, group=(groups or {}).get(key, ""))
        return builder.finish()


@dataclass
class TableBuilder:
    """Collects images one by one; `finish` gives the table."""

    keys: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    outcomes: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    coordinates: "array[float]" = field(default_factory=lambda: array("d"))
    labels: list[str] = field(default_factory=list)
    importance: "array[float]" = field(default_factory=lambda: array("d"))
    subtypes: list[tuple[int, str]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def add_items(
        self, key: str, items: Sequence[Mapping[str, Any]], *, group: str = "", outcome: int = PARSED
    ) -> None:
        """An image whose answer was read, DEGENERATE ones too; `items` as `schemas.answer.fast` gives them."""
        for item in items:
            self.coordinates.extend(item["box_2d"])
            self.labels.append(item["label"])
            self.importance.append(item["importance"])
            self.reasons.append(item["description"])
            if "subtype" in item:
                self.subtypes.append((len(self.reasons) - 1, item["subtype"]))
        self._end(key, group, outcome)

    def add_defects(self, key: str, defects: Sequence[Defect] | None, *, group: str = "") -> None:
        """Add an image with its defects; `defects` is None where its answer could not be read."""
        for defect in defects or ():
            box = defect.box
            self.coordinates.extend((box.x0, box.y0, box.x1, box.y1))
            self.labels.append(defect.type.value)
            self.importance.append(defect.importance)
            self.reasons.append(defect.reason)
            if defect.subtype is not None:
                self.subtypes.append((len(self.reasons) - 1, defect.subtype.value))
        self._end(key, group, FAILED if defects is None else PARSED)

    def add_unread(self, key: str, outcome: int, *, group: str = "") -> None:
        """Add an image whose answer makes no claim about defects.

        Args:
            key: The image's.
            outcome: FAILED where the answer could not be read, DEGENERATE where it only repeats itself.
            group: The image's generator, or another name to group by.
        """
        self._end(key, group, outcome)

    def _end(self, key: str, group: str, outcome: int) -> None:
        self.keys.append(key)
        self.groups.append(group)
        self.outcomes.append(outcome)
        self.ends.append(len(self.reasons))

    def finish(self) -> DefectTable:
        """Make the table of everything that was added, in the order in which it was added."""
        names = (*LABELS, *sorted(set(self.labels).difference(LABELS)))
        codes = {name: code for code, name in enumerate(names)}
        subtypes = np.full(len(self.reasons), -1, dtype=np.int64)
        subtype_codes = {subtype.value: code for code, subtype in enumerate(SUBTYPES)}
        for row, subtype in self.subtypes:
            subtypes[row] = subtype_codes[subtype]
        return DefectTable(
            keys=tuple(self.keys),
            groups=tuple(self.groups),
            outcomes=np.array(self.outcomes, dtype=np.int64),
            offsets=np.array([0, *self.ends], dtype=np.int64),
            boxes=np.frombuffer(self.coordinates, dtype=np.float64).reshape(len(self.reasons), 4),
            labels=np.array([codes[label] for label in self.labels], dtype=np.int64),
            importance=np.frombuffer(self.importance, dtype=np.float64),
            subtypes=subtypes,
            reasons=tuple(self.reasons),
            names=names,
        )


@dataclass(frozen=True)
class Pairs:
    """Two tables of the same images in the same order (ascending keys), and what did not pair up.

    missing      keys only the ground truth has
    extra        keys only the prediction has
    unreadable   keys left out because their ground truth could not be read, so that it claims nothing
    common       how many images both have, readable or not
    """

    gt: DefectTable
    pred: DefectTable
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    common: int = 0


def join(gt: DefectTable, pred: DefectTable, *, drop_unreadable: bool = True, fill_missing: bool = False) -> Pairs:
    """Bring both to the images they share, by key.

    Args:
        gt: The ground truth.
        pred: The predictions.
        drop_unreadable: Leave out images whose ground truth was not parsed; otherwise they have no boxes, as in the
            release.
        fill_missing: Keep images without a prediction as failed ones; they are listed as missing all the same.

    Returns:
        Both tables cut to the same images, in the same order.
    """
    known = set(pred.keys)
    missing = sorted(key for key in gt.keys if key not in known)
    if fill_missing:
        pred = _with_failures(pred, missing)
    rows_of_gt = dict(zip(gt.keys, range(len(gt)), strict=True))
    rows_of_pred = dict(zip(pred.keys, range(len(pred)), strict=True))
    unread = np.nonzero(gt.outcomes != PARSED)[0].tolist() if drop_unreadable else []
    unreadable = {gt.keys[row] for row in unread}
    shared = sorted((rows_of_gt.keys() & rows_of_pred.keys()) - unreadable)
    names = (*LABELS, *sorted({*gt.names, *pred.names}.difference(LABELS)))
    return Pairs(
        gt=gt.take([rows_of_gt[key] for key in shared]).relabelled(names),
        pred=pred.take([rows_of_pred[key] for key in shared]).relabelled(names),
        missing=tuple(missing),
        extra=tuple(sorted(key for key in rows_of_pred if key not in rows_of_gt)),
        unreadable=tuple(sorted(unreadable)),
        common=len(gt) - len(missing),
    )


def _with_failures(table: DefectTable, keys: Sequence[str]) -> DefectTable:
    return replace(
        table,
        keys=(*table.keys, *keys),
        groups=(*table.groups, *([""] * len(keys))),
        outcomes=np.concatenate([table.outcomes, np.full(len(keys), FAILED)]),
        offsets=np.concatenate([table.offsets, np.full(len(keys), table.offsets[-1])]),
    )
