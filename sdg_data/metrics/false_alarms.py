"""False alarms where there is nothing to find: on clean images, and on real photographs.

A clean image is one on which the ground truth has no box. A photograph is told by the name that stands for its
generator: `sdg images import FOLDER --model photograph`. Photographs that the ground truth calls clean are counted
apart too, because no image model made what a detector of image models' faults marks there.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from schemas.defect import DEFECT_TYPES
from sdg_data.metrics.matching import Assignment
from sdg_data.metrics.protocol import Protocol
from sdg_data.metrics.tables import BOTH, SUBTYPES, DefectTable, Pairs

Floats = NDArray[np.float64]

PHOTOGRAPHS = frozenset({"photograph", "photographs", "photo", "photos", "camera", "real"})
"""Names of a "generator" that made photographs, in any case."""
GROUPS = ("clean", "photographs")
UNNAMED = "no subtype"


def columns(pairs: Pairs, matches: Assignment, protocol: Protocol) -> Mapping[str, Floats]:
    """What the metrics of false alarms are made of.

    Args:
        pairs: Ground truth and predictions.
        matches: Not looked at: on these images nothing matches.
        protocol: Not looked at either.

    Returns:
        For each of GROUPS `GROUP/images`, and for each scope `GROUP/SCOPE/boxes` and `GROUP/SCOPE/alarmed` (has such a
        box), a number for each image.
    """
    made: dict[str, Floats] = {}
    drawn = {
        scope: np.bincount(pairs.pred.images, _in_scope(pairs.pred, scope), len(pairs.pred)).astype(np.float64)
        for scope in ("all", *DEFECT_TYPES)
    }
    for group, members in _members(pairs).items():
        made[f"{group}/images"] = members.astype(np.float64)
        for scope, boxes in drawn.items():
            made[f"{group}/{scope}/boxes"] = np.where(members, boxes, 0.0)
            made[f"{group}/{scope}/alarmed"] = (members & (boxes > 0)).astype(np.float64)
    return made


def by_subtype(pairs: Pairs) -> dict[str, dict[str, int]]:
    """How many boxes of each subtype were predicted where there is nothing: group -> subtype -> boxes."""
    subtypes = pairs.pred.subtypes
    named = {}
    for group, members in _members(pairs).items():
        here = subtypes[members[pairs.pred.images]] % (len(SUBTYPES) + 1)
        number = np.bincount(here, minlength=len(SUBTYPES) + 1).tolist()
        names = (*(subtype.value for subtype in SUBTYPES), UNNAMED)
        named[group] = {name: boxes for name, boxes in zip(names, number, strict=True) if boxes}
    return named


def _members(pairs: Pairs) -> dict[str, NDArray[np.bool_]]:
    clean = pairs.gt.counts == 0
    cameras = {group for group in set(pairs.gt.groups) if group.lower() in PHOTOGRAPHS}
    photographs = np.array([group in cameras for group in pairs.gt.groups], dtype=np.bool_)
    return {"clean": clean, "photographs": clean & photographs}


def _in_scope(table: DefectTable, scope: str) -> Floats:
    if scope == "all":
        return np.ones(len(table.labels))
    code = DEFECT_TYPES.index(scope)
    here: Floats = ((table.labels == code) | (table.labels == BOTH)).astype(np.float64)
    return here
