"""`python -m trainers.paper.detector.breakdown`: answers about generated test images, by generator and by kind.

Beside the detectors stand the second simulated person and the oracle itself, against the same truth (what the first
person said). Kinds are those that the oracle states, because people leave the subtype out: of its defects of a kind,
the share that a detector finds, of the right type at IoU ≥ 0.5.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from exports.read.shard_table import ShardTable
from schemas.defect import DEFECT_TYPES, Defect
from schemas.records import Split
from sdg_data.metrics.bootstrap import interval, resampled_sums
from sdg_data.metrics.matching import box_array, match_cells
from sdg_data.metrics.release_files import ReleaseFile
from sdg_data.metrics.store_sources import Filter, SourceName, StoreSource
from sdg_data.metrics.tables import DefectTable
from sdg_data.mini.inject import Kind
from sdg_data.mini.oracle import find_defects
from sdg_data.picture import decode_pixels
from sdg_data.store.connection import Store
from trainers.detector.mini.corrected import CEILING
from trainers.detector.mini.rendered import MODEL as RENDERER
from trainers.detector.mini.variants import kind_of
from trainers.paper.detector.report import gap, of_groups, plain, score

SECOND: Final = "second person"
ORACLE: Final = "oracle"
EVERY: Final = "all generated"
Truth = Mapping[str, Sequence[Defect]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write `breakdown.md` and `breakdown.json`; returns the exit code."""
    options = _options(arguments)
    answers = dict(options.answers)
    truth_file = next(iter(answers.values())) / "truth.jsonl"
    table = ShardTable(str(options.data), split=Split.TEST)
    samples = [sample for sample in table if sample.model != RENDERER]
    groups = {sample.key: sample.model for sample in samples}
    seen = {
        table.sample(place).key: find_defects(decode_pixels(table.image(place)), table.sample(place).prompt)
        for place in range(len(table))
        if table.sample(place).key in groups
    }
    truth = _of(ReleaseFile(truth_file, "gt").read(), groups)
    said = {
        name: _of(ReleaseFile(folder / "predictions.jsonl", "pred").read(), groups) for name, folder in answers.items()
    }
    chosen = Filter(tuple(sorted(set(groups.values()))), Split.TEST)
    second = StoreSource(Store(options.home), SourceName("source", CEILING), chosen).read()
    said[SECOND] = _of(second, groups)
    said[ORACLE] = DefectTable.from_defects(seen.items(), groups=groups)
    summary = summarise(truth, said, seen, list(answers))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "breakdown.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    page = markdown(summary)
    (options.out / "breakdown.md").write_text(page, encoding="utf-8")
    print(page, end="")  # noqa: T201  (the result of the command)
    return 0


def summarise(truth: DefectTable, said: Mapping[str, DefectTable], seen: Truth, order: Sequence[str]) -> dict[str, Any]:
    """All figures of the breakdown.

    Args:
        truth: of the generated images, with their generators as groups.
        said: answers, by the name of who gave them; people who skipped an image are judged on the others.
        seen: the oracle's statements, by image.
        order: detectors to compare pairwise, each with the one before it.

    Returns:
        JSON: `generators` by name and generator, `kinds` by name and kind, `gaps`.
    """
    parts = {EVERY: truth} | {name: of_groups(truth, [name]) for name in sorted(set(truth.groups))}
    scores = {
        name: {part: score(_known(rows, table, name), table) for part, rows in parts.items()}
        for name, table in said.items()
    }
    gaps = [
        {"of": later, "to": earlier, "type": kind, **gap(scores[later][EVERY], scores[earlier][EVERY], kind)}
        for earlier, later in itertools.pairwise(order)
        for kind in DEFECT_TYPES
    ]
    return {
        "images": len(truth),
        "generators": {name: {part: plain(each) for part, each in by_part.items()} for name, by_part in scores.items()},
        "kinds": {name: recall_by_kind(seen, table) for name, table in said.items() if name not in (ORACLE, SECOND)},
        "gaps": gaps,
    }


def recall_by_kind(seen: Truth, said: DefectTable) -> dict[str, dict[str, Any]]:
    """Of the defects of each kind, how many were found, with an interval over images.

    Args:
        seen: what there is to find, by image.
        said: the answers about these images; none is nothing found.

    Returns:
        Kind -> `found`, `all` and the `interval` of the share.
    """
    kinds, rows = list(Kind), {key: row for row, key in enumerate(said.keys)}
    counts = np.zeros((len(seen), 2, len(kinds)))
    for number, (key, defects) in enumerate(seen.items()):
        found: set[int] = set()
        if key in rows:
            start, end = said.offsets[rows[key]], said.offsets[rows[key] + 1]
            codes = np.array([DEFECT_TYPES.index(defect.type) for defect in defects], dtype=np.int64)
            boxes = box_array([defect.box for defect in defects])
            pairs = match_cells(boxes, codes, said.boxes[start:end], said.labels[start:end]).at_least(0.5)
            found = set(map(int, pairs.first))
        for place, defect in enumerate(defects):
            kind = kinds.index(kind_of(defect))
            counts[number, 1, kind] += 1
            counts[number, 0, kind] += place in found
    sums = resampled_sums(counts.reshape(len(seen), -1)).reshape(-1, 2, len(kinds)).clip(min=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = sums[:, 0] / sums[:, 1]
    total = counts.sum(axis=0)
    return {
        kind.value: {"found": int(total[0, at]), "all": int(total[1, at]), "interval": interval(shares[:, at])}
        for at, kind in enumerate(kinds)
        if total[1, at]
    }


def markdown(summary: Mapping[str, Any]) -> str:
    """The breakdown as Markdown: by generator, by kind, and what was established."""
    generators = summary["generators"]
    parts = list(next(iter(generators.values())))
    lines = [
        f"BoxF1@0.5 on {summary['images']} generated test images, artifact / misalignment (95 % intervals).",
        "",
        "| | " + " | ".join(parts) + " | unreadable |",
        "|---" * (len(parts) + 2) + "|",
    ]
    for name, by_part in generators.items():
        cells = [" / ".join(_cell(by_part[part], kind) for kind in DEFECT_TYPES) for part in parts]
        lines.append(f"| {name} | {' | '.join(cells)} | {100 * by_part[EVERY]['unreadable']:.1f} % |")
    kinds = summary["kinds"]
    lines += ["", "Found, of the defects of each kind that the oracle sees:", ""]
    lines += ["| | there are | " + " | ".join(kinds) + " |", "|---" * (len(kinds) + 2) + "|"]
    for kind, first in next(iter(kinds.values())).items():
        cells = [_share(kinds[name][kind]) for name in kinds]
        lines.append(f"| {kind} | {first['all']} | {' | '.join(cells)} |")
    if summary["gaps"]:
        lines += ["", "On the same images:", ""]
    for found in summary["gaps"]:
        low, high = found["interval"]
        verdict = "better" if low > 0 else "worse" if high < 0 else "not established"
        moved = f"{found['mean']:+.3f} ({low:+.3f} to {high:+.3f}): {verdict}."
        lines.append(f"- {found['of']} − {found['to']}, {found['type']}: {moved}")
    return "\n".join(lines) + "\n"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="breakdown", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("answers", nargs="+", type=_named, metavar="NAME=FOLDER", help="of `sdg train detector eval`")
    parser.add_argument("--data", type=Path, required=True, help="the shards")
    parser.add_argument("--home", type=Path, required=True, help="the store that they are from")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args(arguments)


def _named(text: str) -> tuple[str, Path]:
    name, mark, folder = text.partition("=")
    if not mark or not (Path(folder) / "predictions.jsonl").is_file():
        raise argparse.ArgumentTypeError(f"NAME=FOLDER with the answers of `sdg train detector eval`, not {text!r}")
    return name, Path(folder)


def _of(table: DefectTable, groups: Mapping[str, str]) -> DefectTable:
    kept = table.take([row for row, key in enumerate(table.keys) if key in groups])
    return replace(kept, groups=tuple(groups[key] for key in kept.keys))


def _known(truth: DefectTable, said: DefectTable, name: str) -> DefectTable:
    if name != SECOND:
        return truth
    known = set(said.keys)
    return truth.take([row for row, key in enumerate(truth.keys) if key in known])


def _cell(scores: Mapping[str, Any], kind: str) -> str:
    low, high = scores["intervals"][kind] or (float("nan"),) * 2
    return f"{scores['box_f1'][kind]:.3f} ({low:.3f}–{high:.3f})"


def _share(counted: Mapping[str, Any]) -> str:
    low, high = counted["interval"] or (float("nan"),) * 2
    return f"{counted['found'] / counted['all']:.2f} ({low:.2f}–{high:.2f})"


if __name__ == "__main__":
    sys.exit(main())
