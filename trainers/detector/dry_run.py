"""What `--dry-run` of a detector's training says."""

from __future__ import annotations

from typing import Any

from annotate.vlm.qwen.load import FAMILIES, load_processor
from sdg_data.console import print_json, say
from sdg_data.preflight.findings import as_rows, error_of, faults, show
from sdg_data.prompt_templates import load_template
from trainers.detector.chat import Chat
from trainers.detector.data import read_training_data
from trainers.detector.loading import model_type_of
from trainers.detector.preflight import examine
from trainers.detector.train_config import TrainConfig


def show_plan(
    config: TrainConfig, data: str, model: str, limit: int | None, *, max_tokens: int, as_json: bool, each: int = 1
) -> None:
    """Say what would be trained: the findings, the settings, how many samples and steps.

    Where the training could not work, the finding's error is raised before anything is fetched.

    Args:
        config: The training's.
        data: The shards.
        model: The base's name.
        limit: Only the first so many samples.
        max_tokens: Samples that are longer are left out.
        as_json: JSON on stdout in place of words on stderr.
        each: Answers a question in GRPO; 1: the samples' own answers are learned.
    """
    findings = examine(config, model)
    if not as_json:
        show(findings)
    elif faults(findings):
        print_json({"config": config.model_dump(mode="json"), "findings": as_rows(findings)})
    if wrong := faults(findings):
        error = error_of(wrong[0])
        raise error
    kind = model_type_of(model)
    asked = config.data
    chat = Chat(load_processor(model, kind), load_template(asked.template), FAMILIES[kind], asked.max_side, asked.trace)
    samples = read_training_data(
        data,
        chat,
        max_tokens=max_tokens,
        held_out=asked.held_out,
        seed=config.seed,
        limit=limit,
        questions_only=each > 1,
    )
    optimizer = config.optimizer
    steps = optimizer.max_steps or int(len(samples.train) * each // optimizer.batch_size * optimizer.epochs)
    plan: dict[str, Any] = {
        "config": config.model_dump(mode="json"),
        "data": samples.report(),
        "steps": steps,
        "findings": as_rows(findings),
    }
    if as_json:
        print_json(plan)
        return
    report = plan["data"]
    say(
        f"{report['train']} samples to train on, {report['held_out']} held out, {steps} steps of {optimizer.batch_size}"
    )
    say(f"tokens: {report['tokens']}; left out: {report['dropped'] or 'nothing'}")
