"""Remember the last results, because a page is opened more often than the store changes."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

Result = TypeVar("Result")


class Cache:
    """The last `size` results by key. Thread-safe; what is asked for twice at once is computed once."""

    def __init__(self, size: int = 64) -> None:
        self._size = size
        self._results: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()
        self._key_locks: dict[Hashable, threading.Lock] = {}

    def __contains__(self, key: Hashable) -> bool:
        """Whether there is a result under `key`."""
        with self._lock:
            return key in self._results

    def get(self, key: Hashable, compute: Callable[[], Result]) -> Result:
        """The result under `key`, computed if it is not there. What `compute` raises is raised, and not kept."""
        with self._lock:
            key_lock = self._key_locks.setdefault(key, threading.Lock())
        with key_lock:
            with self._lock:
                if key in self._results:
                    self._results.move_to_end(key)
                    known: Result = self._results[key]
                    return known
            result = compute()
            with self._lock:
                self._results[key] = result
                while len(self._results) > self._size:
                    self._key_locks.pop(self._results.popitem(last=False)[0], None)
            return result
