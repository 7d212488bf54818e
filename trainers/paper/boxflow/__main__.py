"""`python -m trainers.paper.boxflow`: train every arm with every seed, judge, report. Run again to go on.

    results/ARM-sSEED.json   the judge's numbers of one training, image by image; what is there is not made again
    runs/ARM-sSEED/          its training, until its result is there
    sheets/ARM-sSEED-N.png   twelve fixed prompts after N rollouts, with the detector's boxes
    tuned.json               by `--tune`: what did best for each arm, on other seeds and other prompts
    report.md, figure.svg, summary.json

Trainings run as processes of their own, `--workers` at a time, one thread each.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainers.common.arms import ArmStep, run_arms, stop_children_on_sigterm, write_report
from trainers.common.config import parse_changes
from trainers.files import replace_file
from trainers.paper.boxflow.arms import (
    ARMS,
    BASE,
    SEEDS,
    TUNE_SEEDS,
    USUAL_ARMS,
    candidates,
    configuration,
    judged_prompts,
)
from trainers.paper.boxflow.judge import MEASURES
from trainers.paper.options import parse_arm_options, set_options

log = logging.getLogger("paper-mini")

_SEED = 5_000_000
"""Noise of the judged images: the prompt's place from here on, the same for all arms."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the arms of the BoxFlow experiment and write its report; returns the exit code."""
    options = _options(arguments)
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.INFO)
    if options.one:
        _train_one(options)
        return 0
    stop_children_on_sigterm()
    options.out.mkdir(parents=True, exist_ok=True)
    _claim(options)
    if options.tune:
        return _tune(options)
    trainings = [(BASE, 0), *((arm, seed) for seed in SEEDS[: options.seeds] for arm in options.arms)]
    tuned = _tuned(options)
    jobs = [(arm, seed, tuned.get(arm, {}), _name(arm, seed)) for arm, seed in trainings]
    failed = _work(options, jobs, tuning=False)
    if failed:
        log.error("%d trainings failed; run again to try them again", failed)
        return 1
    _report(options)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="paper-mini", description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=Path("data/paper-mini"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rollouts", type=int, default=18)
    parser.add_argument(
        "--prompts", type=int, help="held-out prompts that the judge sees; none: 192, with --objects 120"
    )
    parser.add_argument(
        "--detector", default="mini", help="mini, doctor:FOLDER (a trained ImageDoctor), or oracle to try"
    )
    parser.add_argument("--objects", type=int, help="of an image, in mosaics of one-object images; none: as drawn")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--tune", action="store_true", help="choose each arm's settings first")
    parser.add_argument("--docs", type=Path, help="also copy table and figure there")
    for hidden in ("--one", "--values", "--result"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    options = parse_arm_options(parser, arguments, ARMS, usual=USUAL_ARMS)
    options.prompts = options.prompts or (120 if options.objects else 192)
    try:
        judged_prompts(options.prompts, tuning=False, one_object=options.objects is not None)
    except ValueError as error:
        parser.error(f"--prompts: {error}")
    return options


def _claim(options: argparse.Namespace) -> None:
    """Results of other settings do not go into one table."""
    note = {"rollouts": options.rollouts, "detector": options.detector, "changes": sorted(options.changes)}
    if options.objects:
        note["objects"] = options.objects
    path = options.out / "settings.json"
    if path.is_file() and json.loads(path.read_text()) != note:
        raise SystemExit(f"{options.out} holds results of other settings ({path}): name another --out, or delete it")
    path.write_text(json.dumps(note) + "\n")


def _tuned(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    path = options.out / "tuned.json"
    return dict(json.loads(path.read_text())) if path.is_file() else {}


def _name(arm: str, seed: int) -> str:
    return f"{arm}-s{seed}"


def _work(options: argparse.Namespace, jobs: list[tuple[str, int, dict[str, Any], str]], *, tuning: bool) -> int:
    """Do what is not done yet, `--workers` at a time; returns how many failed."""
    folder = options.out / ("tuning" if tuning else "results")
    by_name = {name: (arm, seed, values) for arm, seed, values, name in jobs}

    def next_step(name: str) -> ArmStep | None:
        result = folder / f"{name}.json"
        return None if result.is_file() else ArmStep(name, _command(options, *by_name[name], result, tuning=tuning))

    return len(run_arms(list(by_name), next_step, folder, workers=options.workers))


def _command(
    options: argparse.Namespace, arm: str, seed: int, values: dict[str, Any], result: Path, *, tuning: bool
) -> list[str]:
    parts = ["-m", "trainers.paper.boxflow", "--out", str(options.out), "--one", f"{arm}:{seed}:{int(tuning)}"]
    parts += ["--rollouts", str(options.rollouts), "--prompts", str(options.prompts), "--detector", options.detector]
    parts += ["--values", json.dumps(values), "--result", str(result)]
    parts += ["--objects", str(options.objects)] if options.objects else []
    return [*parts, *set_options(options.changes)]


def _train_one(options: argparse.Namespace) -> None:
    """One training (none for the base), judged, into its file."""
    import torch

    from trainers.boxflow.rollout import sample_without_noise
    from trainers.paper.boxflow.judge import judge
    from trainers.paper.boxflow.training import make_trainer

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    arm, number, tuning = options.one.split(":")
    values = {**parse_changes(options.changes), **json.loads(options.values)}
    trained = "flow-grpo" if arm == BASE else arm
    config = configuration(trained, int(number), options.rollouts, options.detector, values)
    run = options.out / "runs" / Path(options.result).stem
    trainer = make_trainer(config, run, options.objects)
    started = time.monotonic()
    if arm != BASE:
        trainer.train()
        if trainer.stopped:
            raise SystemExit(130)
    seconds = time.monotonic() - started
    prompts = judged_prompts(options.prompts, tuning=tuning == "1", one_object=options.objects is not None)
    curve = _keep_looks(run, options.out / "sheets", Path(options.result).stem)
    with trainer.ema.applied():
        images = sample_without_noise(
            trainer.policy, prompts, [_SEED + place for place in range(len(prompts))], trainer.accelerator.device
        )
    verdicts = judge(images)
    result = {
        "arm": arm,
        "seed": int(number),
        "values": values,
        "measures": list(MEASURES),
        "seconds": seconds,
        "mean": verdicts.mean(),
        "curve": curve,
        "images": verdicts.values.tolist(),
    }
    replace_file(Path(options.result), json.dumps(result), parents=True)
    shutil.rmtree(run)


def _keep_looks(run: Path, sheets: Path, name: str) -> list[dict[str, float]]:
    """Copy a training's sheets, which go with its folder; returns what was seen of the fixed prompts, by time."""
    for sheet in sorted((run / "samples").glob("*.png")):
        sheets.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(sheet, sheets / f"{name}-{int(sheet.stem)}.png")
    path = run / "log.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    return [
        {"rollouts": row["rollout"], "oracle": -row["guard"], "detector": row["fixed/burden"]}
        for row in rows
        if {"guard", "fixed/burden"} <= row.keys()
    ]


def _tune(options: argparse.Namespace) -> int:
    """Choose, for each arm, the candidate with the least burden and drift on other seeds and prompts."""
    jobs = []
    for arm in options.arms:
        for place, values in enumerate(candidates(arm)):
            jobs += [(arm, seed, values, f"{arm}-c{place}-s{seed}") for seed in TUNE_SEEDS]
    if _work(options, jobs, tuning=True):
        return 1
    best: dict[str, dict[str, Any]] = {}
    for arm in options.arms:
        scores = []
        for place, values in enumerate(candidates(arm)):
            results = [
                json.loads((options.out / "tuning" / f"{arm}-c{place}-s{seed}.json").read_text()) for seed in TUNE_SEEDS
            ]
            scores.append((float(np.mean([result["mean"]["total"] for result in results])), place, values))
        score, _, best[arm] = min(scores)
        log.info("%s: %s (%.3f)", arm, best[arm], score)
    replace_file(options.out / "tuned.json", json.dumps(best, indent=2) + "\n", parents=True)
    return 0


def _report(options: argparse.Namespace) -> None:
    from trainers.paper.boxflow.report import figure, markdown, mean_curves, summarise

    results: dict[str, Any] = {}
    curves = {}
    spent = []
    for arm in (BASE, *options.arms):
        seeds = [0] if arm == BASE else SEEDS[: options.seeds]
        trainings = [json.loads((options.out / "results" / f"{_name(arm, seed)}.json").read_text()) for seed in seeds]
        results[arm] = np.array([training["images"] for training in trainings])
        curves[arm] = [training["curve"] for training in trainings]
        spent += [training["seconds"] for training in trainings if arm != BASE]
    summary = summarise(results) | {"curves": mean_curves(curves)}
    facts = {
        "seeds": options.seeds,
        "rollouts": options.rollouts,
        "held-out prompts": options.prompts,
        "detector": options.detector,
        **({"objects": options.objects} if options.objects else {}),
        "seconds a training": round(float(np.mean(spent)), 1),
    }
    table, picture = markdown(summary, facts), figure(summary)
    pages = [(options.out / "report.md", table), (options.out / "figure.svg", picture)]
    if options.docs:
        pages += [
            (options.docs / "paper-mini-table.md", table),
            (options.docs / "images" / "paper-mini.svg", picture),
        ]
    write_report(summary, facts, options.out / "summary.json", pages)
    print(table, end="")  # noqa: T201  (the result of the command)


if __name__ == "__main__":
    sys.exit(main())
