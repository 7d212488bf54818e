"""`python -m trainers.paper.detector`: train the arms that are not trained yet, ask them all, report.

    OUT/ARM/        the arm's run, by `sdg train detector sft|grpo`; a killed one goes on
    OUT/eval-ARM/   its answers on the test split, by `sdg train detector eval`
    OUT/paper/      table.md, figure.svg, summary.json

Each is a process of its own, `--workers` at a time, one thread each.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from exports.read.shard_table import ShardTable
from schemas.records import Split
from sdg_data.errors import InputError
from sdg_data.metrics.release_files import ReleaseFile
from sdg_data.metrics.store_sources import Filter, SourceName, StoreSource
from sdg_data.metrics.tables import DefectTable
from sdg_data.store.connection import Store
from trainers.common.arms import ArmStep, run_arms, stop_children_on_sigterm, write_report
from trainers.detector.mini.corrected import CEILING as SECOND_PEOPLE
from trainers.detector.mini.rendered import MODEL as RENDERER
from trainers.detector.sft_config import RECIPES
from trainers.paper.detector.arms import ARMS, BASE, Arm
from trainers.paper.detector.report import EVERYTHING, GENERATED, figure, markdown, of_groups, score, summarise
from trainers.paper.options import parse_arm_options, set_options

log = logging.getLogger("paper-mini-detector")

_ANSWER_TOKENS: Final = 300
_BATCH: Final = 100
_SDG: Final = ("-m", "sdg_data.cli")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the arms of the detector experiment and write its report; returns the exit code."""
    options = _options(arguments)
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.INFO)
    stop_children_on_sigterm()
    options.out.mkdir(parents=True, exist_ok=True)
    if not _work(options):
        return 1
    _report(options)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="paper-mini-detector", description=__doc__.partition("\n")[0] if __doc__ else ""
    )
    parser.add_argument("--out", type=Path, default=Path("data/mini-detector"))
    parser.add_argument("--data", type=Path, help="the corpus' shards (OUT/shards)")
    parser.add_argument("--base", type=Path, help="the base (OUT/base)")
    parser.add_argument("--home", type=Path, help="the corpus' store, for the human ceiling (OUT/home)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--recipe", default="mini-detector", choices=RECIPES)
    parser.add_argument("--limit", type=int, help="samples to train on and to ask about, to try things out")
    parser.add_argument("--docs", type=Path, help="also copy table and figure there")
    options = parse_arm_options(parser, arguments, ARMS)
    options.data = options.data or options.out / "shards"
    options.base = options.base or options.out / "base"
    options.home = options.home or options.out / "home"
    return options


def _model(options: argparse.Namespace, name: str) -> Path:
    return Path(options.base) if name == BASE else options.out / name / "model"


def _evaluation(options: argparse.Namespace, name: str) -> Path:
    """Written last of an evaluation's files, but for the picture."""
    return Path(options.out / f"eval-{name}" / "evaluation.json")


def _next(options: argparse.Namespace, name: str) -> ArmStep | None:
    """An arm's next step; None where nothing is left, or it waits for another arm."""
    arm = ARMS[name]
    if not _model(options, name).is_dir():
        ready = arm.command is not None and _model(options, arm.start).is_dir()
        return ArmStep(f"{name}: training", _training(options, arm)) if ready else None
    if _evaluation(options, name).is_file():
        return None
    return ArmStep(f"{name}: answers on the test split", _asking(options, name))


def _training(options: argparse.Namespace, arm: Arm) -> list[str]:
    parts = [*_SDG, "train", "detector", str(arm.command), "--recipe", options.recipe, "--data", str(options.data)]
    parts += ["--model", str(_model(options, arm.start)), "--out", str(options.out / arm.name), *arm.options]
    parts += [] if options.limit is None else ["--limit", str(options.limit)]
    return [*parts, *set_options(options.changes)]


def _asking(options: argparse.Namespace, name: str) -> list[str]:
    parts = [*_SDG, "train", "detector", "eval", "--data", str(options.data), "--model", str(_model(options, name))]
    parts += ["--out", str(_evaluation(options, name).parent)]
    parts += ["--batch", str(_BATCH), "--max-tokens", str(_ANSWER_TOKENS)]
    if name == BASE:  # it was not trained by `sdg train detector`, which notes the question beside a model
        parts += ["--template", RECIPES[options.recipe]().data.template]
    return parts if options.limit is None else [*parts, "--limit", str(options.limit)]


def _work(options: argparse.Namespace) -> bool:
    """Do what is not done yet; whether all went well."""
    if BASE in options.arms and not options.base.is_dir():
        raise InputError("there is no base", item=str(options.base), hint="sdg train mini-detector base")
    run_arms(options.arms, lambda name: _next(options, name), options.out / "paper", workers=options.workers)
    missing = [name for name in options.arms if not _evaluation(options, name).is_file()]
    if missing:
        log.error("no answers of %s; run again to go on", ", ".join(missing))
    return not missing


def _report(options: argparse.Namespace) -> None:
    groups = _groups(options.data)
    generated = sorted(set(groups.values()) - {RENDERER})
    scores, minutes = {}, {}
    for name in options.arms:
        folder = _evaluation(options, name).parent
        truth = _grouped(ReleaseFile(folder / "truth.jsonl", "gt").read(), groups)
        predicted = ReleaseFile(folder / "predictions.jsonl", "pred").read()
        scores[name] = {EVERYTHING: score(truth, predicted), GENERATED: score(of_groups(truth, generated), predicted)}
        if ARMS[name].command is not None:
            minutes[name] = _minutes(options.out / name / "log.jsonl")
    summary = summarise(scores, _ceiling(options.home, generated), minutes)
    settings = json.loads((options.out / options.arms[-1] / "run.json").read_text()) if minutes else {}
    facts = {
        "recipe": options.recipe,
        "training samples": settings.get("data", {}).get("train", 0),
        "shards": settings.get("data", {}).get("fingerprint", "unknown"),
        "test images of": ", ".join(sorted(set(groups.values()))),
    }
    table, picture, folder = markdown(summary, facts), figure(summary), options.out / "paper"
    pages = [(folder / "table.md", table), (folder / "figure.svg", picture)]
    if options.docs:
        pages += [
            (options.docs / "paper-mini-detector-table.md", table),
            (options.docs / "images" / "paper-mini-detector.svg", picture),
        ]
    write_report(summary, facts, folder / "summary.json", pages)
    print(table, end="")  # noqa: T201  (the result of the command)


def _groups(data: Path) -> dict[str, str]:
    """Key -> generator of the test split's images."""
    table = ShardTable(str(data), split="test")
    samples = (table.sample(place) for place in range(len(table)))
    return {sample.key: sample.model for sample in samples}


def _grouped(table: DefectTable, groups: dict[str, str]) -> DefectTable:
    from dataclasses import replace

    return replace(table, groups=tuple(groups[key] for key in table.keys))


def _ceiling(home: Path, generated: Sequence[str]) -> Any:
    """The second people against what was accepted; None where there is no store."""
    if not (home / "store.duckdb").is_file():
        log.warning("no human ceiling: there is no store in %s", home)
        return None
    store, chosen = Store(home), Filter(tuple(generated), Split.TEST)
    second = StoreSource(store, SourceName("source", SECOND_PEOPLE), chosen).read()
    first = StoreSource(store, SourceName("gold"), chosen).read()
    known = set(second.keys)
    return score(first.take([row for row, key in enumerate(first.keys) if key in known]), second)


def _minutes(path: Path) -> float:
    """Of training; a resumed run has several parts."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return sum(float(row["train_runtime"]) for row in rows if "train_runtime" in row) / 60


if __name__ == "__main__":
    sys.exit(main())
