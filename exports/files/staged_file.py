"""A file while it is being written."""

import hashlib
import os
import queue
import threading
from collections.abc import Sequence


class StagedFile:
    """A file being written: its bytes are hashed on a thread of their own, beside the writing."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._digest = hashlib.sha256()
        self._queue: queue.SimpleQueue[Sequence[bytes] | None] = queue.SimpleQueue()
        self._room = threading.Semaphore(8)  # how many writes the hashing may lag behind
        self._thread = threading.Thread(target=self._hash, daemon=True)
        self._thread.start()
        self.size = 0

    def write(self, *parts: bytes) -> None:
        """Append these bytes, in one system call where the kernel takes them so."""
        self._room.acquire()
        self._queue.put(parts)
        length = sum(map(len, parts))
        written = os.writev(self._fd, parts)
        self.size += length
        if written < length:
            view = memoryview(b"".join(parts))[written:]
            while view:
                view = view[os.write(self._fd, view) :]

    def digest(self) -> str:
        """sha256 of all that was written; nothing can be written after it."""
        self.close()
        return self._digest.hexdigest()

    def close(self) -> None:
        """End the thread that hashes, once it has hashed everything that was written."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _hash(self) -> None:
        while (parts := self._queue.get()) is not None:
            for part in parts:
                self._digest.update(part)
            self._room.release()
