"""Exports under the home: what their manifests say, and whether they are still so."""

import threading
from pathlib import Path
from typing import Any

from exports.files.manifest import MANIFEST, read_manifest
from exports.files.target import Target
from exports.verify import VerifyReport, verify
from sdg_data.dashboard.page import Rows
from sdg_data.errors import SdgError

_DEPTH = 3
_VERIFYING = threading.Lock()
"""Held while an export is verified: each check keeps facts of all samples in memory, so one at a time."""


def find_exports(home: Path) -> dict[str, Path]:
    """Exports in `home/exports`, by their path from there; those without a manifest have not ended."""
    root = home / "exports"
    folders: dict[str, Path] = {}
    for depth in range(1, _DEPTH + 1):
        for path in sorted(root.glob("/".join(["*"] * depth) + f"/{MANIFEST}")):
            folders[str(path.parent.relative_to(root))] = path.parent
    return folders


def list_exports(home: Path) -> Rows:
    """One row an export: format, samples, files, bytes, version of the software. A damaged manifest says so."""
    return [_export_row(name, folder) for name, folder in find_exports(home).items()]


def _export_row(name: str, folder: Path) -> dict[str, Any]:
    try:
        manifest = read_manifest(Target(str(folder)))
    except (SdgError, OSError) as error:
        problem = f"the manifest cannot be read: {error.message if isinstance(error, SdgError) else error}"
        unknown = dict.fromkeys(("samples", "files", "shards", "megabytes"))
        return {"export": name, "format": problem, **unknown, "tool": ""}
    return {
        "export": name,
        "format": manifest.format,
        "samples": manifest.samples,
        "files": len(manifest.files),
        "shards": sum(entry.path.endswith(".tar") for entry in manifest.files),
        "megabytes": sum(entry.bytes for entry in manifest.files) / 1e6,
        "tool": manifest.tool,
    }


def verify_export(home: Path, name: str) -> VerifyReport:
    """Check one of the listed exports as `sdg export verify` does; what keeps it from being checked is a problem too.

    It runs on the thread of the request: other pages go on being served, since hashing and decoding release the
    interpreter's lock. Further requests wait until it is done.
    """
    folder = find_exports(home).get(name)
    if folder is None:
        return VerifyReport(url=name, problems=["there is no such export"], checked={})
    try:
        with _VERIFYING:
            return verify(Target(str(folder)))
    except (SdgError, OSError) as error:
        return VerifyReport(url=str(folder), problems=[str(error)], checked={})
