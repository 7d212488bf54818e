"""Which exports this account made itself, by the digests of their manifests.

A manifest ends in a hash of itself, which whoever writes one can compute: it tells damage, and says nothing of who
wrote it. What this account has exported is noted outside of the export, in a folder of the account's own. A manifest
that is known here, with files that are what it says, holds what was exported, to the byte: pictures that the door of a
store had decoded, each compared with its record again (size, checksums, end of the file) as it was written.

An export that kept files of an earlier run is not noted, for it did not see all of its bytes made. Where the folder of
notes cannot be written nothing is noted; an import then decodes every picture, as it does with the exports of others.
"""

import contextlib
import os
from pathlib import Path

from exports.files.manifest import Manifest

_RULES = "1"
"""What a picture is, and how an export compares it with its record: raise it when either changes."""


def note_seal(manifest: Manifest) -> None:
    """Note that this account made an export with this manifest."""
    with contextlib.suppress(OSError, RuntimeError):
        folder = _folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / manifest.seal()).write_text(_RULES)


def is_sealed_here(digest: str) -> bool:
    """Whether this account made an export whose manifest has this digest, by today's rules."""
    try:
        return (_folder() / digest).read_text() == _RULES
    except (OSError, RuntimeError, UnicodeDecodeError):
        return False


def _folder() -> Path:
    """`$XDG_STATE_HOME/sdg-data/seals`. Raises RuntimeError for an account without a home."""
    given = os.environ.get("XDG_STATE_HOME", "")
    state = Path(given) if given.startswith("/") else Path.home() / ".local" / "state"
    return state / "sdg-data" / "seals"
