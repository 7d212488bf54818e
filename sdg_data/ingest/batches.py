"""The items of a source in lists that one transaction takes: as many as are quick to store, as few as memory holds."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def batched(
    items: Iterable[Item], bytes_of: Callable[[Item], int], *, most: int, most_bytes: int
) -> Iterator[list[Item]]:
    """Part the items into lists.

    Args:
        items: In the order of their source.
        bytes_of: How much memory an item takes.
        most: So many are a list.
        most_bytes: A list ends with the item that brings it to so many bytes.

    Yields:
        The lists; none is empty.
    """
    batch: list[Item] = []
    size = 0
    for item in items:
        batch.append(item)
        size += bytes_of(item)
        if len(batch) == most or size >= most_bytes:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
