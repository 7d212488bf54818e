"""The figures of a dataset card, counted from the samples and, for people's agreement, from the store."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

from schemas.defect import DEFECT_TYPES, Defect, DefectType, ImportanceTier, tier
from schemas.records import Annotation
from schemas.sample import Composition, Sample
from sdg_data.metrics.agreement import agreement
from sdg_data.metrics.ceiling import prelabels_of
from sdg_data.store import first_verdicts, snapshot
from sdg_data.store.connection import Store

CEILING_IOU = "0.5"
_PAGE = 2000


@dataclass
class Statistics:
    """Counts behind the card's three figures and its licences, by model and by type; `add` counts one sample."""

    images: Counter[str] = field(default_factory=Counter)
    defects: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    composition: Counter[str] = field(default_factory=Counter)
    tiers: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    licences: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    subtyped: int = 0
    traced: int = 0
    expanded: int = 0

    def add(self, sample: Sample) -> None:
        """Count a sample and its defects in all tables."""
        self.images[sample.model] += 1
        self.composition[sample.composition] += 1
        self.licences[sample.model][sample.licence] += 1
        self.traced += sample.trace is not None
        for defect in sample.defects:
            self.defects[sample.model][defect.type] += 1
            self.tiers[defect.type][tier(defect.importance)] += 1
            self.subtyped += defect.subtype is not None
            self.expanded += defect.expanded_reason is not None

    @property
    def models(self) -> list[str]:
        """The names of the models that made the images, in alphabetical order."""
        return sorted(self.images)

    def per_image(self, kind: DefectType) -> list[float]:
        """Mean defects of a type per image, by model in order."""
        return [self.defects[model][kind] / self.images[model] for model in self.models]

    def shares(self) -> list[float]:
        """Percent of images that are clean, artifact only, misalignment only, both."""
        total = sum(self.images.values())
        return [100 * self.composition[kind] / total for kind in Composition]

    def by_tier(self, kind: DefectType) -> list[int]:
        """The number of defects of a type in each tier of importance, critical first."""
        return [self.tiers[kind][name] for name in ImportanceTier]


def people(store: Store, keys: Iterable[str]) -> dict[str, Any]:
    """How well people agree on these images, and what prelabels changed. Values are None where nothing was measured.

    `ceiling`: micro BoxF1@0.5 by type, between each pair of independent first-round annotators of an image. `modes`: of
    first verdicts that were blind (their image has a prelabel, which was not shown), prelabelled, or on an image
    without a prelabel, how many there are, their mean defects and median seconds.
    """
    shared: dict[str, dict[str, list[Defect]]] = {}
    modes: dict[str, list[Annotation]] = {"blind": [], "prelabelled": [], "no prelabel": []}
    ordered = list(keys)
    with Store(snapshot.snapshot_path(store.home).parent).read() as tx:
        for start in range(0, len(ordered), _PAGE):
            page = first_verdicts.of_images(tx, ordered[start : start + _PAGE])
            machine = prelabels_of(tx, [annotation for first in page.values() for annotation in first])
            for first in page.values():
                for annotation in first:
                    mode = "prelabelled" if annotation.prelabel_id is not None else "blind"
                    modes[mode if annotation.id in machine else "no prelabel"].append(annotation)
                if len(first) > 1:
                    shared[first[0].image_id] = {
                        version.annotator: [item.defect for item in version.defects] for version in first
                    }
    agreed = agreement(shared, resamples=0)
    return {
        "ceiling": {
            "images": agreed.images,
            **{kind: agreed.box_f1[CEILING_IOU][kind].value for kind in DEFECT_TYPES},
        },
        "modes": {
            name: {
                "annotations": len(done),
                "defects": fmean(len(annotation.defects) for annotation in done) if done else None,
                "seconds": median(times) if (times := [o.seconds for o in done if o.seconds is not None]) else None,
            }
            for name, done in modes.items()
        },
    }
