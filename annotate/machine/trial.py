"""The first questions of a run, which end it where they all fail alike; and the errors that end it at once."""

from __future__ import annotations

import asyncio

from annotate.vlm.contract import AskError, Backend
from schemas.records import Failure
from sdg_data.errors import ConfigError, ModelError, SdgError


class Trial:
    """Lets a few questions through first, and all the others once one of them was answered well, or two failed apart.

    Bound to the event loop that it is first used on.
    """

    def __init__(self, size: int) -> None:
        """Let nothing through yet; `size`: how many go first."""
        self._left, self._size = size, size
        self._alike: list[Failure] = []
        self._end: SdgError | None = None
        self._over: asyncio.Event | None = None

    async def enter(self) -> None:
        """Wait until a question may be asked: the first few may at once, the others when the trial is over."""
        if self._over is None:
            self._over = asyncio.Event()
        if self._left > 0:
            self._left -= 1
            return
        await self._over.wait()

    def leave(self, failure: Failure | None) -> None:
        """Report how a question that `enter` let through ended; `failure` is None where it was answered."""
        assert self._over is not None
        if self._over.is_set():
            return
        if failure is None or (self._alike and self._alike[0].code != failure.code):
            self._alike = []
            self._over.set()
            return
        self._alike.append(failure)
        if len(self._alike) >= self._size:
            self._over.set()

    def stop(self, error: SdgError) -> None:
        """Let nothing through any more, because of this error."""
        self._end = self._end or error
        if self._over is not None:
            self._over.set()

    def check(self, backend: Backend) -> None:
        """Refuse to go on where all that went first failed alike, or after `stop`.

        Raises:
            SdgError: The reason.
        """
        if self._end is not None:
            raise self._end
        if not self._alike or len(self._alike) < self._size:
            return
        first = self._alike[0]
        raise ModelError(
            f"the first {self._size} questions all failed alike: {first.code}: {first.message[:300]}",
            item=backend.identity.model,
            hint="They are recorded. Mend the cause (docs/prelabel.md has the codes), then run the same command "
            f"with --retry-failures {first.code}.",
        )


def refusal_of(error: AskError, backend: Backend) -> SdgError:
    """The error that ends a run because a server refuses all questions, or another model answers than before."""
    if error.code == "other-model":
        return ModelError(
            error.message,
            item=backend.identity.model,
            hint="Its answers would be filed under the first one's name. Serve that one again, or name the new one.",
        )
    return ConfigError(
        f"the server refuses: {error.message}",
        item=backend.identity.model,
        hint="Check the key (its environment variable), --base-url (it usually ends in /v1), and --model.",
    )
