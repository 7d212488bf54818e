"""What stands in the way of a BoxFlow training, found before the image model is fetched or loaded."""

from __future__ import annotations

import http.client
import importlib.util
import json
import urllib.error
import urllib.request
from typing import Final

from annotate.vlm import preflight as vlm_preflight
from generators.models.presets import Preset
from generators.models.registry import model_of
from generators.preflight import Surroundings
from generators.preflight import examine as examine_generator
from sdg_data.errors import ConfigError, ExitCode
from sdg_data.preflight import hub, machine
from sdg_data.preflight.addresses import TIMEOUT, request_for, without_user
from sdg_data.preflight.findings import Finding
from sdg_data.preflight.packages import check_extra
from sdg_data.preflight.sizes import FOLDER, GIB, ModelSizes, sizes_of
from sdg_data.settings import VlmSettings
from sdg_data.web_addresses import without_secrets
from trainers.boxflow.config import BoxFlowConfig
from trainers.rewards.settings import RewardSettings, check_address

LEARNING_FORWARDS: Final = 3
"""Forwards that a forward with its backward pass costs; one more where activations are recomputed."""


def examine(config: BoxFlowConfig, preset: Preset, *, online: bool = True) -> list[Finding]:
    """The findings about a training.

    Args:
        config: the training's.
        preset: the image model's.
        online: whether the hub may be asked.

    Returns:
        The findings: packages, the image model, what a GPU holds, the time, and whoever scores and detects.
    """
    around = Surroundings.here(config.policy.device, online=online)
    findings = [check_extra("train", "train")]
    findings += [finding for finding in examine_generator([preset], around) if finding.what != "GPU memory"]
    sizes = sizes_of(preset.repository)
    if sizes is not None:
        findings += [gpu_memory(config, sizes, around), rollout_time(config, preset, sizes, around)]
    for reward in config.rewards.base:
        findings += _scorer("judge" if reward.kind == "judge" else reward.kind, reward)
    if config.monitoring.guard is not None:
        findings += _scorer("guard", config.monitoring.guard)
    artifact_guard = config.monitoring.artifact_guard
    if artifact_guard is not None and artifact_guard.kind == "vlm":
        findings += _asked("artifact guard", artifact_guard.vlm)
    detector = config.rewards.detector
    if detector.kind == "vlm" and config.credit.advantage != "scalar":
        findings += _asked("detector", detector.vlm)
    return findings


def gpu_memory(config: BoxFlowConfig, sizes: ModelSizes, around: Surroundings) -> Finding:
    """What a process's GPU holds before activations: all weights, and what is trained with its moments and average.

    Args:
        config: the training's.
        sizes: the image model's.
        around: the machine.

    Returns:
        The finding.
    """
    transformer = next(part for part in sizes.components if part.name == "transformer")
    if config.policy.lora is None:
        # Weights, gradients, two moments and the average in fp32, and the model before training.
        others = (sizes.gib() - transformer.gib()) * GIB
        held = others + transformer.parameters * (4 * 5 + 4)
        trained = f"all of the transformer, {transformer.parameters / 1e9:.2f} B"
    else:
        numbers = adapter_parameters(config, sizes)
        held = sizes.gib() * GIB + numbers * 4 * 5
        trained = f"an adapter of {numbers / 1e6:.1f} M"
    state = f"{held / GIB:.1f} GiB before activations ({trained})"
    if around.gpu is None:
        return Finding("policy", "GPU memory", f"{state}; no GPU: not checked", None)
    fits = held / GIB < around.gpu.gib
    fix = None if fits else "FSDP2 shares it among GPUs; or a smaller adapter: --lora 16."
    state += f"; {around.gpu.name}, {around.gpu.gib:.1f} GiB"
    return Finding("policy", "GPU memory", state, fits or (None if len(around.gpus) > 1 else False), fix)


def adapter_parameters(config: BoxFlowConfig, sizes: ModelSizes) -> int:
    """How many numbers the adapter has, counted on the real transformer without weights.

    Returns:
        The number; ConfigError is raised where the adapter fits no layer of it.
    """
    from trainers.boxflow.policy import adapted_layers
    from trainers.common.measure import build

    values = json.loads((FOLDER / f"{sizes.name}.json").read_text(encoding="utf-8"))
    settings = config.policy.lora
    if settings is None:
        return 0
    layers = adapted_layers(build(values["components"]["transformer"]), settings)
    return sum(settings.rank * (layer.in_features + layer.out_features) for layer in layers.values())


def rollout_time(config: BoxFlowConfig, preset: Preset, sizes: ModelSizes, around: Surroundings) -> Finding:
    """An estimate of a rollout's time on one GPU: sampling, and learning from the steps with noise or from the draws.

    Args:
        config: the training's.
        preset: the image model's.
        sizes: of it.
        around: the machine.

    Returns:
        The finding, which is never a fault.
    """
    from sdg_data.progress import duration

    height, width = config.policy.image_size(preset)
    guidance = preset.guidance if config.policy.guidance is None else config.policy.guidance
    flow = model_of(preset).flow
    guided = flow is not None and flow.guided(guidance)
    sampled = sizes.image_tflop(width, height, config.rollout.steps, guided=guided)
    learned = config.rollout.train_steps or config.rollout.sde_steps
    if config.estimator == "forward":
        learned = config.forward.draws
        sampled *= 2 if config.forward.solver == "heun" else 1  # it asks twice a step
    passes = config.optimizer.passes * (LEARNING_FORWARDS + int(config.policy.checkpointing))
    step = sizes.image_tflop(width, height, 1, guided=guided)
    tflop = config.total * (sampled + learned * passes * step)
    seconds, basis = machine.estimated_seconds(tflop, around.gpu)
    number = max(1, len(around.gpus))
    state = (
        f"{duration(seconds)} a rollout on one GPU, {duration(seconds / number * config.rollouts)} for all "
        f"{config.rollouts} on {number}, without waiting for scores ({basis})"
    )
    return Finding("policy", "time", state, None)


def _scorer(subject: str, settings: RewardSettings) -> list[Finding]:
    if settings.vlm is not None:
        return _asked(subject, settings.vlm)
    if settings.server is not None:
        return _reward_servers(subject, settings)
    if settings.kind not in ("clip", "pick", "scorer"):
        return []
    if importlib.util.find_spec("transformers") is None:
        fix = "pip install 'sdg-data[train]'"
        return [Finding(subject, "packages", "transformers is missing", False, fix, ExitCode.MISSING_DEPENDENCY)]
    if hub.is_path(settings.model) or hub.is_cached(settings.model, settings.revision):
        return [Finding(subject, "model", f"{settings.model} is on this machine")]
    return [hub.check_hub(subject, settings.model, settings.revision)]


def _reward_servers(subject: str, settings: RewardSettings) -> list[Finding]:
    """Whether the settings are whole, and each server says that it is well."""
    from trainers.rewards.settings import make_reward

    try:
        make_reward((settings,))
    except ConfigError as error:
        return [Finding(subject, "server", error.message, False, error.hint, ExitCode.CONFIG)]
    assert settings.server is not None
    findings = []
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for address in settings.server.urls():
        url, user = without_user(address)
        place = str(without_secrets(url))
        try:
            with opener.open(request_for(url, "health", user), timeout=TIMEOUT):
                findings.append(Finding(subject, "server", f"{place} answers"))
        except urllib.error.HTTPError as error:  # flow_grpo's servers know no such path
            with error:
                findings.append(Finding(subject, "server", f"{place} answers, with {error.code} to /health", None))
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            fix = "Start the server, or name where it is: server.url."
            findings.append(Finding(subject, "server", f"{place} does not answer ({reason})", False, fix))
    return findings


def _asked(subject: str, settings: VlmSettings) -> list[Finding]:
    try:
        check_address(settings, subject)
    except ConfigError as error:
        return [Finding(subject, "address", error.message, False, error.hint, ExitCode.CONFIG)]
    return vlm_preflight.examine(subject, settings, extra="train")
