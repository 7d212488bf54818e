"""The order of a split's samples: shuffled by hash, with a few that fill every field in front.

Columnar readers guess a table's columns from the first samples (`datasets` looks at five) and fail at a later sample
that fills a field which was null in all of these. So a split begins with a few samples that together fill every field
that any of its samples fills, chosen greedily. The others follow in the order of a hash: shards are shuffled already.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

Fields = frozenset[str]
_Item = TypeVar("_Item")


def order_key(key: str, seed: int) -> str:
    """The hash by which samples ascend: sha256 of `sdg-order:<seed>:<key>`, 64 hex digits."""
    return hashlib.sha256(f"sdg-order:{seed}:{key}".encode()).hexdigest()


def filled_fields(record: Mapping[str, Any]) -> Fields:
    """Paths of a sample's JSON that hold something: `lineage.review.id`, `defects[].subtype`. Not null, not empty."""
    return frozenset(_filled(record, ""))


def schema_examples_first(
    items: Iterable[_Item], *, order: Callable[[_Item], str], fields: Callable[[_Item], Fields]
) -> list[_Item]:
    """Put one split's samples in order.

    Args:
        items: The samples, or whatever stands for them.
        order: A sample's `order_key`.
        fields: A sample's `filled_fields`.

    Returns:
        The samples that show every field, then the others by `order`.
    """
    ordered = sorted(items, key=order)
    first = _schema_examples([fields(item) for item in ordered])
    chosen = set(first)
    rest = (item for index, item in enumerate(ordered) if index not in chosen)
    return [*(ordered[index] for index in first), *rest]


def _schema_examples(fields: Sequence[Fields]) -> list[int]:
    """Indices, the sample that adds the most fields first; of equal ones the earliest."""
    earliest: dict[Fields, int] = {}
    for index, filled in enumerate(fields):
        earliest.setdefault(filled, index)
    missing = set().union(*earliest)
    chosen: list[int] = []
    while missing:
        best = max(earliest, key=lambda filled: (len(filled & missing), -earliest[filled]))
        chosen.append(earliest[best])
        missing -= best
    return chosen


def _filled(value: Any, path: str) -> Iterable[str]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _filled(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _filled(inner, f"{path}[]")
    elif value is not None:
        yield path
