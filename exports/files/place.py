"""Where an export may go: nowhere that holds the store, its images, or everything else that somebody has."""

import os
from pathlib import Path

from exports.files.target import Target
from sdg_data.errors import ConfigError

EXPORTS = "exports"
"""The folder of a home that exports go into, each into one of its own."""


def check_place(target: Target, *, home: Path, blob_url: str) -> None:
    """Refuse a target that is, holds or lies in the home or the blob folder, but a folder below `HOME/exports`.

    Args:
        target: Where the export is to go.
        home: The store's home.
        blob_url: The blob folder or URL.

    Raises:
        ConfigError: It is such a place, or `/`, the user's own folder, the working directory or one that holds these.
    """
    blobs = Path(blob_url.removeprefix("file://")) if "://" not in blob_url or blob_url.startswith("file://") else None
    if target.local is None:
        ours, theirs = f"{target.url}/", f"{blob_url.rstrip('/')}/"
        if ours.startswith(theirs) or theirs.startswith(ours):
            raise _refused(target, "the blob folder", blob_url)
        return
    here = _real(target.local)
    if _holds(_real(home) / EXPORTS, here) and here != _real(home) / EXPORTS:
        return
    for name, place in (("the home", home), ("the blob folder", blobs)):
        if place is not None and (_holds(_real(place), here) or _holds(here, _real(place))):
            raise _refused(target, name, str(place))
    for name, place in (("your own folder", Path.home()), ("the working directory", Path.cwd())):
        if _holds(here, _real(place)):
            raise _refused(target, name, str(place))


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # unlike `resolve` it raises nothing for what cannot be looked up


def _holds(outer: Path, inner: Path) -> bool:
    return inner == outer or outer in inner.parents


def _refused(target: Target, name: str, place: str) -> ConfigError:
    return ConfigError(
        f"an export's folder may not be, hold or lie in {name} ({place})",
        item=target.url,
        hint="Name a folder of its own with --output; without it the export goes to HOME/exports/NAME-FORMAT.",
    )
