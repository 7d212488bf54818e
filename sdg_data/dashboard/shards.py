"""Exports under the home: what their manifests say, and whether they are still so (`sdg export verify`)."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson

Rows = list[dict[str, Any]]
MANIFEST = "manifest.json"
_DEPTH = 3
_SDG = "from sdg_data.cli import main; main()"


def found(home: Path) -> dict[str, Path]:
    """Exports in `home/exports`, by their path from there; those without a manifest have not ended."""
    root = home / "exports"
    exports: dict[str, Path] = {}
    for depth in range(1, _DEPTH + 1):
        for path in sorted(root.glob("/".join(["*"] * depth) + f"/{MANIFEST}")):
            exports[str(path.parent.relative_to(root))] = path.parent
    return exports


def listed(home: Path) -> Rows:
    """One row an export: format, samples, files, bytes, version of the software. A damaged manifest says so."""
    rows: Rows = []
    for name, folder in found(home).items():
        try:
            manifest = orjson.loads((folder / MANIFEST).read_bytes())
            files = manifest["files"]
            shards = [one for one in files if one["path"].endswith(".tar")]
            rows.append(
                {
                    "export": name,
                    "format": manifest["format"],
                    "samples": sum(manifest["counts"]["split"].values()),
                    "files": len(files),
                    "shards": len(shards),
                    "megabytes": sum(one["bytes"] for one in files) / 1e6,
                    "tool": manifest["tool"],
                }
            )
        except (OSError, orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            broken = f"the manifest cannot be read: {error}"
            rows.append(
                {
                    "export": name,
                    "format": broken,
                    "samples": None,
                    "files": None,
                    "shards": None,
                    "megabytes": None,
                    "tool": "",
                }
            )
    return rows


def verify(home: Path, name: str) -> dict[str, Any]:
    """`sdg export verify` of one of the listed exports, in a process of its own: sound, problems, what was checked."""
    folder = found(home).get(name)
    if folder is None:
        return {"sound": False, "problems": ["there is no such export"], "checked": {}}
    command = [sys.executable, "-c", _SDG, "export", "verify", str(folder), "--json"]
    done = subprocess.run(command, capture_output=True, check=False)
    try:
        report: dict[str, Any] = orjson.loads(done.stdout)
    except orjson.JSONDecodeError:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        return {"sound": False, "problems": lines[-2:] or ["it could not be checked"], "checked": {}}
    return report
