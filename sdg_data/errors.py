"""One exception tree, drawn here with the exit code that `sdg` ends with.

    SdgError                      1
    ├── ConfigError               3   a profile, a config file or an option that makes no sense
    ├── InputError                4   a file or value from outside that cannot be used
    ├── StoreError                5   the database: missing, broken, refused, disk full
    │   ├── StoreTooNew           5   written by a newer version of this software
    │   └── StoreLocked           6   another process holds the store or the stage, and waiting ran out
    ├── BlobError                 7   the blob folder: not writable, disk full
    │   ├── BlobMissing           7
    │   └── BlobCorrupt           7   the bytes are not those that the name promises
    ├── GenerationError           8   a pipeline that does not load or cannot run at all
    ├── ModelError                8   a detector or VLM that does not load, or a server that does not answer
    ├── MissingDependency         9   the command needs an extra that is not installed
    ├── WorkerError              11   worker processes that do not start or keep dying, or a cluster that is not there
    └── Interrupted             130   Ctrl-C: stopped at the end of a batch, nothing lost

0 is success, 2 a wrong command line (said by the option parser), 10 a run that ended with some items failed
(each is a record in the store, see `ExitCode.PARTIAL`).

An error says what happened, to which item, and what to do. It is about the whole command; the failure of one item among
many is a `schemas.records.Failure`, not an exception.
"""

from enum import IntEnum
from typing import Any


class ExitCode(IntEnum):
    """The exit codes of `sdg`, which tell a shell script what kind of thing went wrong."""

    OK = 0
    ERROR = 1
    USAGE = 2
    CONFIG = 3
    INPUT = 4
    STORE = 5
    LOCKED = 6
    BLOB = 7
    GENERATION = 8
    MISSING_DEPENDENCY = 9
    PARTIAL = 10
    WORKER = 11
    INTERRUPTED = 130


class SdgError(Exception):
    """Base of all errors that the project raises on purpose.

    `item` names what it happened to (a path, an id, a model), `hint` says what to do about it.
    """

    exit_code: ExitCode = ExitCode.ERROR

    def __init__(self, message: str, *, item: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.item = item
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        """An error travels from a worker as it is, whatever its class is made from."""
        return _restored, (type(self), self.args, self.__dict__)

    def __str__(self) -> str:
        text = self.message if self.item is None else f"{self.item}: {self.message}"
        return text if self.hint is None else f"{text}\n  {self.hint}"


def _restored(kind: type[SdgError], args: tuple[Any, ...], attributes: dict[str, Any]) -> SdgError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(attributes)
    return error


class ConfigError(SdgError):
    """A profile, a config file or an option that makes no sense."""

    exit_code = ExitCode.CONFIG


class InputError(SdgError):
    """A file or value from outside that cannot be used."""

    exit_code = ExitCode.INPUT


class StoreError(SdgError):
    """The database could not be read or written as asked."""

    exit_code = ExitCode.STORE


class StoreTooNew(StoreError):
    """The store was written by a newer version of this software."""


class StoreLocked(StoreError):
    """Another process holds the store or the stage, and waiting ran out."""

    exit_code = ExitCode.LOCKED


class BlobError(SdgError):
    """The folder of blobs could not be read or written as asked."""

    exit_code = ExitCode.BLOB


class BlobMissing(BlobError):
    """A blob that was asked for is not in the folder."""


class BlobCorrupt(BlobError):
    """A blob's bytes are not those that its name promises."""


class GenerationError(SdgError):
    """A pipeline that does not load or cannot run at all."""

    exit_code = ExitCode.GENERATION


class ModelError(SdgError):
    """A detector or VLM that does not load, or a server of one that does not answer."""

    exit_code = ExitCode.GENERATION


class MissingDependency(SdgError):
    """The command needs an extra that is not installed."""

    exit_code = ExitCode.MISSING_DEPENDENCY


class WorkerError(SdgError):
    """Worker processes that do not start or keep dying, or a cluster that is not there."""

    exit_code = ExitCode.WORKER


class Interrupted(SdgError):
    """The user pressed Ctrl-C; the work stopped at the end of a batch and nothing is lost."""

    exit_code = ExitCode.INTERRUPTED
