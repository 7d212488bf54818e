"""Do the product's own paths run on one GPU at real sizes, how fast and in how much memory: `make gpu-proof`.

Random weights at the published models' sizes (`sdg_data.preflight`), no network. Without a GPU it says so, and runs the
tests' tiny models on the CPU, which keeps it alive and says nothing about speed. A check that fails is a line too, and
after `--limit` seconds no further one starts.

    python benchmarks/gpu_proof [--only sana,boxflow] [--limit 450] [--out data/gpu-proof.json]

Writes one JSON, and prints its table for the documentation.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

from gpu_proof.checks import CHECKS, peak, reset, synchronise
from gpu_proof.models import Sizes


def prove(names: list[str], limit: float) -> dict[str, Any]:
    """Run checks, each on its own, and gather their figures."""
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    sizes = Sizes(small=gpu is None)
    started = time.monotonic()
    result: dict[str, Any] = {
        "gpu": gpu,
        "sizes": "tiny models of the tests, on the CPU: no figure says anything about a GPU" if gpu is None else "real",
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "diffusers", "transformers", "accelerate", "peft")},
        "checks": {},
    }
    for name in names:
        if time.monotonic() - started > limit:
            result["checks"][name] = {"ok": None, "skipped": f"over {limit:g} s"}
            continue
        gc.collect()
        if gpu is not None:
            torch.cuda.empty_cache()
        reset()
        begun = time.monotonic()
        try:
            figures: dict[str, Any] = {"ok": True, **CHECKS[name](sizes)}
        except Exception as error:  # noqa: BLE001  (a check that fails is a result)
            figures = {"ok": False, "error": f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"}
        synchronise()
        figures |= {"seconds": round(time.monotonic() - begun, 1), "most_gib": peak()}
        result["checks"][name] = figures
        print(json.dumps({name: figures}), file=sys.stderr, flush=True)
    return result


def table(result: dict[str, Any]) -> str:
    """The figures as a table of Markdown."""
    lines = [
        f"{result['gpu'] or 'No GPU'} ({result['sizes']}); torch {result['versions']['torch']}, {result['made'][:10]}",
        "",
        "| check | ok | seconds | GiB at most | figures |",
        "|---|---|---|---|---|",
    ]
    for name, figures in result["checks"].items():
        ok = {True: "yes", False: "**no**", None: "not run"}[figures["ok"]]
        rest = {key: value for key, value in figures.items() if key not in ("ok", "seconds", "most_gib")}
        text = json.dumps(rest)[1:-1].replace('"', "").replace("|", "/")
        lines.append(f"| {name} | {ok} | {figures.get('seconds', '')} | {figures.get('most_gib') or ''} | {text} |")
    return "\n".join(lines)


def main() -> int:
    """Run, write, print; 1 where a check failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(CHECKS), help="checks by comma")
    parser.add_argument("--limit", type=float, default=450.0, help="seconds after which no check starts")
    parser.add_argument("--out", type=Path, default=Path("data/gpu-proof.json"))
    given = parser.parse_args()
    if not torch.cuda.is_available():
        print("There is no GPU here: tiny models on the CPU, to see that the checks themselves work.", file=sys.stderr)
    result = prove(given.only.split(","), given.limit)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result))
    return int(any(figures["ok"] is False for figures in result["checks"].values()))


if __name__ == "__main__":
    sys.exit(main())
