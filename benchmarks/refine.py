"""Refinement in the mini world: the mini detector as signal, the oracle as judge that no step saw.

    python benchmarks/refine.py --images 400 --rounds 1 --candidates 2 --out refine

Images of the four minis on held-out prompts are made until so many have a defect in the detector's eyes; each arm
refines the same ones. The oracle's burden before and after is given for accepted edits, all edits and whole images,
with 95 % intervals over prompts. Killed, the same command goes on.
`sdg --home refine/home refine report --run ID --judge oracle --explain` says why the figures are what they are.

The limits of the test were chosen on images of the first ten held-out prompts, which are not among these
(`docs/refine.md` has the table that they were chosen by).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from generators.mini.corpus import HELD_OUT_COUNT, held_out_prompts
from sdg_data.blobs import Blobs
from sdg_data.cli import run
from sdg_data.metrics.refinement import read_run, report
from sdg_data.store import image_list
from sdg_data.store.connection import Store
from trainers.refinement.report import judged_burdens

MODELS = ("mini-flux2", "mini-zimage", "mini-longcat", "mini-sana")
ARMS = ("defects", "sdg", "caption", "heatmaps")
DETECTOR = "mini-detector"
TUNED_ON = 10
"""So many held-out prompts, the first ones, are what the limits were chosen on."""
LIMITS = {"max_left": 0.0, "new_kinds": False, "max_reward_fall": 0.0}
"""The detector sees nothing left in the mask and no new kind of defect, and the base reward does not fall."""


def main() -> None:
    """Make the images, refine them by each arm, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400, help="defective images, a quarter of each model")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--candidates", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--reward", default="palette", help="a base reward that may not fall")
    parser.add_argument("--out", type=Path, default=Path("refine"))
    options = parser.parse_args()
    home = options.out / "home"
    chosen = _defective(home, options.images, options.out)
    config = _config(options.out)
    results = {}
    for arm in options.arms.split(","):
        command = ["--config", str(config), "refine", "run", "--source", f"prelabel:{DETECTOR}"]
        command += ["--arm", arm, "--images", str(chosen)]
        command += ["--candidates", str(options.candidates), "--rounds", str(options.rounds)]
        command += ["--reward", options.reward] if options.reward else []
        _sdg(home, command)
        results[arm] = _judged(home, arm)
        (options.out / "refine.json").write_text(json.dumps(results, indent=2), encoding="utf-8")
        print(_table(results), flush=True)


def _config(out: Path) -> Path:
    """The mini profile with the limits of the test."""
    path = out / "refine.toml"
    limits = "".join(f"{name} = {json.dumps(value)}\n" for name, value in LIMITS.items())
    path.write_text(f'extends = "mini"\n\n[refine.acceptance]\n{limits}', encoding="utf-8")
    return path


def _defective(home: Path, number: int, out: Path) -> Path:
    """The list of defective images, equally many of each model: made once, and kept."""
    path = out / "images.txt"
    if path.is_file():
        return path
    out.mkdir(parents=True, exist_ok=True)
    each, prompts = number // len(MODELS), held_out_prompts(HELD_OUT_COUNT)[TUNED_ON:]
    defective: dict[str, list[str]] = {}
    count = each
    while any(len(defective.get(model, [])) < each for model in MODELS):
        if count > len(prompts):
            raise SystemExit(f"{len(prompts)} prompts do not give {each} defective images of each model")
        (out / "prompts.txt").write_text("\n".join(prompts[:count]) + "\n", encoding="utf-8")
        _sdg(home, ["prompts", "import", str(out / "prompts.txt"), "--source", "held-out"])
        _sdg(home, ["generate", "run", "--models", ",".join(MODELS)])
        _sdg(home, ["prelabel", "run"])
        defective = _found(home)
        count = round(count * 1.3) + 2
    image_list.write(path, [image for model in MODELS for image in defective[model][:each]])
    return path


def _found(home: Path) -> dict[str, list[str]]:
    """The images in which the detector sees a defect, by model."""
    from sdg_data.metrics.store_sources import Filter, StoreSource, parse_source

    source = parse_source(f"prelabel:{DETECTOR}")
    assert source is not None
    table = StoreSource(Store(home), source, Filter(), Blobs(home / "blobs")).read()
    defective: dict[str, list[str]] = {}
    for place, key in enumerate(table.keys):
        if table.counts[place]:
            defective.setdefault(table.groups[place], []).append(key)
    return defective


def _judged(home: Path, arm: str) -> dict[str, Any]:
    store, blobs = Store(home), Blobs(home / "blobs")
    with store.read() as tx:
        from sdg_data.store import refinements

        (last,) = [run.id for run in refinements.runs(tx) if run.arm == arm][-1:]
        records = read_run(tx, last)
    facts = report(records, judged_burdens(store, blobs, "oracle", set(records.images)))
    assert facts["pixels_changed_outside"] == 0
    return facts


def _table(results: dict[str, Any]) -> str:
    lines = ["| arm | what | number | oracle burden before | after | fall |", "|---|---|---|---|---|---|"]
    for arm, facts in results.items():
        for what in ("accepted", "all_edits", "refined_images", "results"):
            row = facts["judged"][what]
            if row["count"]:
                low, high = row["interval"]
                fall = f"{100 * row['fall']:.0f} % [{100 * low:.0f} to {100 * high:.0f}]"
                name = what.replace("_", " ")
                lines.append(f"| {arm} | {name} | {row['count']} | {row['before']:.3f} | {row['after']:.3f} | {fall} |")
        accepted = facts["judged"]["accepted"]
        worse, same = accepted.get("false_acceptances", 0), accepted.get("unchanged", 0)
        lines.append(f"| {arm} | accepted, and worse by the oracle | {worse} (no better: {same}) | | | |")
    return "\n".join(lines)


def _sdg(home: Path, arguments: list[str]) -> None:
    code = run(["--home", str(home), *arguments])
    if code not in (0, 10):
        sys.exit(code)


if __name__ == "__main__":
    main()
