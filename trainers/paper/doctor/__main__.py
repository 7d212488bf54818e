"""`python -m trainers.paper.doctor`: train the arms that are not trained yet, measure them all, report.

    OUT/base                the base, by `sdg train mini-doctor base`
    OUT/ARM-SEED/           the arm's run, by `sdg train doctor sft|grpo`; a killed one goes on
    OUT/eval-ARM-SEED/      its figures on the test split
    OUT/paper/              table.md, summary.json

While some runs have no figures yet, the table is of the others and names them, and the exit code is 10. Each run is a
process of its own, `--workers` at a time, one thread each.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from sdg_data.errors import ExitCode
from trainers.common.arms import ArmStep, run_arms, stop_children_on_sigterm, write_report
from trainers.detector.mini.cli import WEIGHTS
from trainers.paper.doctor.arms import ARMS, BASE, BOXES
from trainers.paper.doctor.report import markdown, summarise
from trainers.paper.options import parse_arm_options, set_options

log = logging.getLogger("paper-mini-doctor")

_SDG: Final = ("-m", "sdg_data.cli")
_ANSWER_TOKENS: Final = 256


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the arms and write the report; returns the exit code."""
    options = _options(arguments)
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.INFO)
    stop_children_on_sigterm()
    options.out.mkdir(parents=True, exist_ok=True)
    names = [f"{arm}-{seed}" for seed in range(options.seeds) for arm in options.arms]
    run_arms(names, lambda name: _next(options, name), options.out / "paper", workers=options.workers)
    missing = [name for name in names if not _evaluation(options, name).is_file()]
    if missing:
        log.error("no figures of %s; run again to go on", ", ".join(missing))
    if len(missing) == len(names):
        return int(ExitCode.ERROR)
    _report(options, missing)
    return int(ExitCode.PARTIAL if missing else ExitCode.OK)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="paper-mini-doctor", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("data/mini-doctor"))
    parser.add_argument("--data", type=Path, help="the corpus' shards (OUT/shards)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--limit", type=int, help="samples to train on and to ask about, to try things out")
    parser.add_argument("--docs", type=Path, help="also copy the table there")
    options = parse_arm_options(parser, arguments, ARMS)
    options.data = options.data or options.out / "shards"
    return options


def _model(options: argparse.Namespace, arm: str, seed: str) -> Path:
    return Path(options.out / (BASE if arm == BASE else f"{arm}-{seed}/model"))


def _evaluation(options: argparse.Namespace, name: str) -> Path:
    return Path(options.out / f"eval-{name}" / "evaluation.json")


def _next(options: argparse.Namespace, name: str) -> ArmStep | None:
    """A run's next step; None where nothing is left, or it waits for another."""
    arm, _, seed = name.rpartition("-")
    if _model(options, arm, seed).is_dir():
        done = _evaluation(options, name).is_file()
        return None if done else ArmStep(f"{name}: answers on the test split", _asking(options, arm, seed))
    start = WEIGHTS if arm == BOXES else _model(options, ARMS[arm].start, seed)
    if start.is_dir():
        return ArmStep(f"{name}: training", _training(options, arm, seed, start))
    if ARMS[arm].start == BASE:
        return ArmStep(f"{name}: base", [*_SDG, "train", "mini-doctor", "base", "--out", str(start)])
    return None


def _training(options: argparse.Namespace, arm: str, seed: str, start: Path) -> list[str]:
    about = ARMS[arm]
    parts = [*_SDG, "train", "detector" if arm == BOXES else "doctor", about.command, "--recipe", about.recipe]
    parts += ["--data", str(options.data), "--model", str(start), "--out", str(options.out / f"{arm}-{seed}")]
    parts += ["--seed", seed, "--report", "none", *about.options]
    if arm == BOXES:  # as many passes over the samples as both stages of a doctor together
        parts += ["--epochs", "2"]
    parts += [] if options.limit is None else ["--limit", str(options.limit)]
    return [*parts, *set_options(options.changes)]


def _asking(options: argparse.Namespace, arm: str, seed: str) -> list[str]:
    parts = [*_SDG, "train", "detector" if arm == BOXES else "doctor", "eval", "--data", str(options.data)]
    parts += ["--model", str(_model(options, arm, seed)), "--out", str(_evaluation(options, f"{arm}-{seed}").parent)]
    parts += ["--batch", "50", "--max-tokens", str(_ANSWER_TOKENS)]
    return parts if options.limit is None else [*parts, "--limit", str(options.limit)]


def _report(options: argparse.Namespace, missing: Sequence[str]) -> None:
    runs: dict[str, dict[int, dict[str, float]]] = {}
    evaluation: dict[str, Any] = {}
    for arm in options.arms:
        for seed in range(options.seeds):
            if f"{arm}-{seed}" in missing:
                continue
            evaluation = json.loads(_evaluation(options, f"{arm}-{seed}").read_text(encoding="utf-8"))
            figures = evaluation["figures"]
            # The detector's word for "this image has such a defect".
            renamed = {name.replace("det_type_f1/", "presence_f1/"): value for name, value in figures.items()}
            runs.setdefault(arm, {})[seed] = renamed
    summary = summarise(runs)
    facts = {"seeds": options.seeds, "shards": evaluation["data"]["fingerprint"], "limit": options.limit or "none"}
    facts |= {"settings": "; ".join(options.changes) or "the recipes'"}
    if missing:
        facts["no figures yet of"] = ", ".join(missing)
    table, folder = markdown(summary, facts), options.out / "paper"
    pages = [(folder / "table.md", table)]
    if options.docs:
        pages.append((options.docs / "paper-mini-doctor-table.md", table))
    write_report(summary, facts, folder / "summary.json", pages)
    print(table, end="")  # noqa: T201  (the result of the command)


if __name__ == "__main__":
    sys.exit(main())
