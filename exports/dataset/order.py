"""In which order samples are written: within a split by hash, so that shards come shuffled, behind a few leaders.

Columnar readers guess a table's columns from the first samples (`datasets` looks at five), and stumble over a later one
that fills a field which was null in all of these. So a split begins with samples that together fill every field that
any of its samples fills, as few as a greedy choice finds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

Fields = frozenset[str]
Item = TypeVar("Item")


def order_key(key: str, seed: int) -> str:
    """Where a sample stands: sha256 of `sdg-order:<seed>:<key>`, ascending."""
    return hashlib.sha256(f"sdg-order:{seed}:{key}".encode()).hexdigest()


def filled_fields(record: Mapping[str, Any]) -> Fields:
    """Paths of a sample's JSON that hold something: `lineage.review.id`, `defects[].subtype`. Not null, not empty."""
    return frozenset(_filled(record, ""))


def arranged(items: Iterable[Item], *, order: Callable[[Item], str], fields: Callable[[Item], Fields]) -> list[Item]:
    """Items of one split: the leaders, then the others by `order`."""
    ordered = sorted(items, key=order)
    first = _leaders([fields(item) for item in ordered])
    chosen = set(first)
    return [*(ordered[place] for place in first), *(one for place, one in enumerate(ordered) if place not in chosen)]


def _leaders(fields: Sequence[Fields]) -> list[int]:
    """Places, the one that adds the most first; of equal ones the earliest."""
    earliest: dict[Fields, int] = {}
    for place, one in enumerate(fields):
        earliest.setdefault(one, place)
    missing = set().union(*earliest)
    found: list[int] = []
    while missing:
        best = max(earliest, key=lambda one: (len(one & missing), -earliest[one]))
        found.append(earliest[best])
        missing -= best
    return found


def _filled(value: Any, path: str) -> Iterable[str]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _filled(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _filled(inner, f"{path}[]")
    elif value is not None:
        yield path
