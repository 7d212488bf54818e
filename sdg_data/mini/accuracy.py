"""How well the oracle reads: its statements against injected defects, and its false ones on clean renders."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass

from schemas.defect import Defect
from sdg_data.mini.inject import CorruptedImage, sample_corrupted
from sdg_data.mini.oracle import find_defects
from sdg_data.mini.render import render
from sdg_data.mini.world import sample_scene

Oracle = Callable[..., tuple[Defect, ...]]


@dataclass(frozen=True)
class Accuracy:
    """Counts over `scenes` corrupted and as many clean scenes.

    `found`: injected defects met one-to-one by a statement of the right type at IoU >= 0.5; `missed` the others;
    `false` statements on corrupted scenes that met none; `false_on_clean` statements on clean scenes;
    `same_subtype`: of the found ones, those whose subtype is right too. `kinds`: (missed, injected) by kind.
    """

    scenes: int
    found: int
    missed: int
    false: int
    false_on_clean: int
    same_subtype: int
    kinds: dict[str, tuple[int, int]]

    @property
    def recall(self) -> float:
        """The share of the injected defects that the oracle found, 0..1."""
        return self.found / (self.found + self.missed)

    @property
    def precision(self) -> float:
        """Share of statements on corrupted scenes that are true."""
        return self.found / (self.found + self.false)

    def as_dict(self) -> dict[str, object]:
        """The counts and rates as a dictionary that can be written as JSON."""
        return {**asdict(self), "recall": round(self.recall, 4), "precision": round(self.precision, 4)}


def match(labels: tuple[Defect, ...], stated: tuple[Defect, ...], threshold: float = 0.5) -> list[Defect | None]:
    """Pair each label with the statement that meets it (right type, IoU >= threshold), one-to-one; None: none does.

    Labels of one scene are far apart by construction, so the best free statement is the right one.
    """
    left = list(stated)
    pairs: list[Defect | None] = []
    for label in labels:
        fitting = [each for each in left if each.type == label.type and each.box.iou(label.box) >= threshold]
        best = max(fitting, key=lambda each: (each.subtype == label.subtype, each.box.iou(label.box)), default=None)
        if best is not None:
            left.remove(best)
        pairs.append(best)
    return pairs


def measure(scenes: int, seed: int, oracle: Oracle = find_defects) -> Accuracy:
    """Corrupt `scenes` random scenes and render as many clean ones from `seed`, and count what the oracle says."""
    rng = random.Random(seed)
    injected: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    hits = false = same = 0
    for _ in range(scenes):
        corrupted: CorruptedImage = sample_corrupted(rng)
        stated = oracle(corrupted.pixels, corrupted.prompt)
        pairs = match(corrupted.defects, stated)
        for kind, label, pair in zip(corrupted.kinds, corrupted.defects, pairs, strict=True):
            injected[kind.value] += 1
            missed[kind.value] += pair is None
            same += pair is not None and pair.subtype == label.subtype
        met = sum(pair is not None for pair in pairs)
        hits += met
        false += len(stated) - met
    false_on_clean = 0
    for _ in range(scenes):
        scene = sample_scene(rng)
        false_on_clean += len(oracle(render(scene, rng), scene.prompt))
    return Accuracy(
        scenes=scenes,
        found=hits,
        missed=missed.total(),
        false=false,
        false_on_clean=false_on_clean,
        same_subtype=same,
        kinds={kind: (missed[kind], injected[kind]) for kind in sorted(injected)},
    )
