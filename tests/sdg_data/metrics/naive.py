"""SDG-Eval by loops and fractions only, written from SPEC section 3 apart from the product's code."""

import itertools
import math
import re
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from statistics import mean, median
from typing import Any

TYPES = ("artifact", "misalignment")


@dataclass
class Thing:
    """A defect in plain numbers."""

    box: tuple[float, float, float, float]
    label: str
    reason: str = "r"
    importance: float | None = 50


@dataclass
class Image:
    gt: list[Thing]
    pred: list[Thing]
    parsed: bool = True
    extra: dict[str, Any] = field(default_factory=dict)


def iou(a: Thing, b: Thing) -> Fraction:
    ax0, ay0, ax1, ay1 = map(Fraction, a.box)
    bx0, by0, bx1, by1 = map(Fraction, b.box)
    width, height = min(ax1, bx1) - max(ax0, bx0), min(ay1, by1) - max(ay0, by0)
    shared = max(width, Fraction(0)) * max(height, Fraction(0))
    union = (ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - shared
    return shared / union if union > 0 else Fraction(0)


def diou(a: Thing, b: Thing) -> Fraction:
    ax0, ay0, ax1, ay1 = map(Fraction, a.box)
    bx0, by0, bx1, by1 = map(Fraction, b.box)
    apart = ((ax0 + ax1) / 2 - (bx0 + bx1) / 2) ** 2 + ((ay0 + ay1) / 2 - (by0 + by1) / 2) ** 2
    diagonal = (max(ax1, bx1) - min(ax0, bx0)) ** 2 + (max(ay1, by1) - min(ay0, by0)) ** 2
    return iou(a, b) - apart / diagonal


def best_assignment(first: list[Thing], second: list[Thing], score: Any = iou) -> list[tuple[int, int]]:
    """The first of the best one-to-one assignments, tried out one by one."""
    if len(first) > len(second):
        return sorted((i, j) for j, i in best_assignment(second, first, score))
    best, chosen = None, ()
    for columns in itertools.permutations(range(len(second)), len(first)):
        total = sum((score(first[i], second[j]) for i, j in enumerate(columns)), Fraction(0))
        if best is None or total > best:
            best, chosen = total, columns
    return list(enumerate(chosen))


def greedy(image: Image, threshold: float) -> list[tuple[int, int]]:
    """The release's: (ground truth, prediction) pairs."""
    candidates = []
    for p, prediction in enumerate(image.pred):
        for g, truth in enumerate(image.gt):
            overlap = iou(truth, prediction)
            if float(overlap) >= threshold:
                candidates.append((overlap, p, g))
    pairs: list[tuple[int, int]] = []
    for _, p, g in sorted(candidates, reverse=True):
        a, b = image.gt[g].label, image.pred[p].label
        fits = a == b or (a == "both" and b in TYPES) or (b == "both" and a in TYPES)
        if fits and all(g != other and p != pair for other, pair in pairs):
            pairs.append((g, p))
    return pairs


def hungarian(image: Image, threshold: float) -> list[tuple[int, int]]:
    pairs = []
    for kind in TYPES:
        truths = [i for i, thing in enumerate(image.gt) if thing.label == kind]
        predictions = [i for i, thing in enumerate(image.pred) if thing.label == kind]
        chosen = best_assignment([image.gt[i] for i in truths], [image.pred[i] for i in predictions])
        pairs += [(truths[i], predictions[j]) for i, j in chosen]
    return [(g, p) for g, p in pairs if float(iou(image.gt[g], image.pred[p])) >= threshold]


def words(text: str) -> Counter[str]:
    return Counter(re.findall("[a-z0-9]+", text.lower()))


def without_tags(text: str) -> str:
    """Of a text: each "<" with at least one other character before the next ">" becomes a space, up to that ">"."""
    kept, at = "", 0
    while at < len(text):
        end = text.find(">", at) if text[at] == "<" else -1
        tag = end > at + 1
        kept += " " if tag else text[at]
        at = end + 1 if tag else at + 1
    return kept


def token_f1(a: str, b: str) -> float:
    x, y = words(without_tags(a)), words(without_tags(b))
    if not x and not y:
        return 1.0
    common = sum(min(x[word], y[word]) for word in x)
    return 2 * common / (sum(x.values()) + sum(y.values()))


def cosine(a: str, b: str) -> float:
    """Of ASCII texts."""
    x, y = words(a), words(b)
    if not x and not y:
        return 1.0
    if not x or not y:
        return 0.0
    dot = sum(x[word] * y[word] for word in x)
    return dot / math.sqrt(sum(c * c for c in x.values()) * sum(c * c for c in y.values()))


def share(above: float, below: float, undefined: float | None) -> float | None:
    return above / below if below else undefined


def evaluate(images: list[Image], protocol: str) -> dict[str, Any]:
    """The keys of the JSON that are figures."""
    paper = protocol == "paper"
    undefined = None if paper else 0.0
    match = hungarian if paper else greedy
    image_level = {}
    for scope in ("any", *TYPES):

        def concerns(thing: Thing, scope: str = scope) -> bool:
            return scope == "any" or thing.label in (scope, "both")

        table = Counter((any(map(concerns, image.gt)), any(map(concerns, image.pred))) for image in images)
        tp, fp, fn, tn = table[True, True], table[False, True], table[True, False], table[False, False]
        image_level[scope] = {
            "accuracy": share(tp + tn, len(images), undefined),
            "precision": share(tp, tp + fp, undefined),
            "recall": share(tp, tp + fn, undefined),
            "f1": share(2 * tp, 2 * tp + fp + fn, undefined),
            "clean_accuracy": share(tn, tn + fp, None),
        }
    boxes: dict[str, Any] = {}
    for threshold in (0.1, 0.5) if paper else (0.1, 0.2, 0.25, 0.3, 0.4, 0.5):
        counts = {scope: {"tp": 0, "fp": 0, "fn": 0} for scope in ("all", *TYPES)}
        for pair in images:
            pairs = match(pair, threshold)
            events = [("tp", pair.gt[g].label) for g, _ in pairs]
            events += [("fn", t.label) for g, t in enumerate(pair.gt) if g not in [g for g, _ in pairs]]
            events += [("fp", t.label) for p, t in enumerate(pair.pred) if p not in [p for _, p in pairs]]
            for event, label in events:
                counts["all"][event] += 1
                if label in TYPES:
                    counts[label][event] += 1
        boxes[str(threshold)] = {
            scope: {
                **c,
                "precision": share(c["tp"], c["tp"] + c["fp"], undefined),
                "recall": share(c["tp"], c["tp"] + c["fn"], undefined),
                "f1": share(2 * c["tp"], 2 * c["tp"] + c["fp"] + c["fn"], undefined),
            }
            for scope, c in counts.items()
        }
    at = 0.1 if paper else 0.5
    pairs = [(image, image.gt[g], image.pred[p]) for image in images for g, p in match(image, at)]

    def reasons(measure: Any) -> dict[str, Any]:
        tree: dict[str, Any] = {}
        for scope in ("all", *TYPES):
            values = [measure(g.reason, p.reason) for _, g, p in pairs if scope in ("all", g.label)]
            tree[scope] = {
                "pairs": len(values),
                "mean": mean(values) if values else undefined,
                "median": median(values) if values else undefined,
                "shares": {
                    str(edge): share(sum(value >= edge for value in values), len(values), undefined)
                    for edge in (0.3, 0.5, 0.7)
                },
            }
        sums = [
            sum(measure(g.reason, p.reason) for owner, g, p in pairs if owner is image)
            / max(len(image.gt), len(image.pred), 1)
            for image in images
        ]
        return {**tree, "detection_aware": mean(sums) if sums else undefined}

    importance = {}
    for kind in TYPES:
        values = [
            1 - abs(g.importance - p.importance) / 100
            for _, g, p in pairs
            if g.label == kind and g.importance is not None and p.importance is not None
        ]
        importance[kind] = mean(values) if values else None
    xs, ys = [len(image.gt) for image in images], [len(image.pred) for image in images]
    return {
        "protocol": protocol,
        "images": len(images),
        "image_level": image_level,
        "boxes": boxes,
        "description": {
            "threshold": at,
            "similarity": "lexical",
            **reasons(cosine),
            "token_f1": reasons(token_f1),
        },
        "importance": {"threshold": at, **importance},
        "count": {
            "mae": mean(abs(x - y) for x, y in zip(xs, ys, strict=True)) if images else undefined,
            "exact_match": mean(x == y for x, y in zip(xs, ys, strict=True)) if images else undefined,
            "correlation": pearson(xs, ys, undefined),
        },
    }


def pearson(xs: list[float], ys: list[float], undefined: float | None) -> float | None:
    if not xs or len(set(xs)) < 2 or len(set(ys)) < 2:
        return undefined
    x, y = mean(xs), mean(ys)
    above = sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True))
    return above / math.sqrt(sum((a - x) ** 2 for a in xs) * sum((b - y) ** 2 for b in ys))
