"""What is measured: each check is a function of the sizes and a clock, and returns its figures."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import torch
from gpu_proof.models import Sizes, gib
from PIL import Image

from generators.models.loading import adapt
from generators.models.registry import load_presets

Figures = dict[str, Any]
_STEPS: Final = 8
"""Steps of an image at most: what an image of more takes follows from the seconds a step."""


def timed(call: Callable[[], Any], *, warm: bool = True) -> tuple[Any, float]:
    """(result, seconds) of a call on the device; `warm`: of its second time."""
    if warm:
        call()
    synchronise()
    started = time.monotonic()
    result = call()
    synchronise()
    return result, time.monotonic() - started


def synchronise() -> None:
    """Wait for the device."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak() -> float | None:
    """GiB at most since the last `reset`."""
    return round(torch.cuda.max_memory_allocated() / 2**30, 1) if torch.cuda.is_available() else None


def reset() -> None:
    """Count the peak of memory anew."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def _preset(name: str, sizes: Sizes, **changes: Any) -> Any:
    preset = load_presets()[name]
    changes = {"memory": preset.memory.model_copy(update={"offload": "none"}), **changes}
    if sizes.small:
        call = {**preset.call}
        if "max_sequence_length" in call:
            call["max_sequence_length"] = 64
        if "use_resolution_binning" in call:
            call["use_resolution_binning"] = False
        changes |= {"width": 64, "height": 64, "call": call, "steps": 2, "dtype": "float32"}
    return preset.model_copy(update=changes)


def generation(sizes: Sizes, name: str) -> Figures:
    """Images/s by batch size through our adapter and beside bare diffusers; an image alone and in company."""
    preset = _preset(name, sizes)
    steps = min(preset.steps, _STEPS)
    preset = preset.model_copy(update={"steps": steps})
    pipeline = sizes.pipeline(name, preset.pipeline)
    figures: Figures = {"weights_gib": gib(pipeline), "steps": steps, "batches": {}}
    for batch in (2,) if sizes.small else (1, 4, 16):
        reset()
        adapter = adapt(preset, pipeline, device=sizes.device, batch_size=batch)
        texts = [f"a red circle at the left, number {index}" for index in range(batch)]
        seeds = list(range(batch))
        try:
            images, seconds = timed(lambda: adapter.generate(texts, seeds))  # noqa: B023  (called at once)
        except torch.OutOfMemoryError:
            figures["batches"][batch] = "out of memory"
            adapter.recover()
            break
        alone = adapter.generate(texts[:1], seeds[:1])[0]
        _, bare = timed(lambda: _bare(adapter, texts, seeds))  # noqa: B023
        figures["batches"][batch] = {
            "images_s": round(batch / seconds, 3),
            "of_bare_diffusers": round(bare / seconds, 3),
            "peak_gib": peak(),
            "same_alone": bool(np.array_equal(alone, images[0], equal_nan=True)),
            "finite": bool(np.isfinite(images[0]).all()),
        }
    return figures


def _bare(adapter: Any, texts: list[str], seeds: list[int]) -> Any:
    """The same call without our adapter around it: prompts encoded already, as the adapter has them by then."""
    preset, pipeline = adapter.preset, adapter.pipeline
    with torch.no_grad():
        return pipeline(
            **adapter.conditioning(texts),
            **preset.call,
            num_inference_steps=preset.steps,
            guidance_scale=preset.guidance,
            width=preset.width,
            height=preset.height,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            output_type="np",
        )


def flux2_step(sizes: Sizes) -> Figures:
    """FLUX.2-dev's transformer alone: seconds a step at 1024², whether it fits."""
    transformer = sizes.part("flux2-dev", "transformer", "Flux2Pipeline")
    config = transformer.config
    side, words = (4, 16) if sizes.small else (64, 512)

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=sizes.device, dtype=transformer.dtype)

    def ids(count: int, width: int) -> torch.Tensor:
        places = torch.zeros(count, 4, dtype=torch.long)
        places[:, 1], places[:, 2] = torch.arange(count) // width, torch.arange(count) % width
        return places[None].to(sizes.device)

    def step() -> Any:
        with torch.no_grad():
            return transformer(
                hidden_states=numbers(1, side * side, config.in_channels),
                timestep=torch.full((1,), 0.5, device=sizes.device, dtype=transformer.dtype),
                guidance=torch.full((1,), 4.0, device=sizes.device, dtype=transformer.dtype),
                encoder_hidden_states=numbers(1, words, config.joint_attention_dim),
                txt_ids=ids(words, words),
                img_ids=ids(side * side, side),
                return_dict=False,
            )[0]

    _, seconds = timed(step)
    return {"weights_gib": gib(transformer), "s_step": round(seconds, 3), "s_image_of_50_steps": round(50 * seconds, 1)}


def transformer_speed(sizes: Sizes) -> Figures:
    """SANA by each back end of attention that there is, and compiled."""
    preset = _preset("sana-1.5-1.6b", sizes, steps=4)
    pipeline = sizes.pipeline("sana-1.5-1.6b", preset.pipeline)
    adapter = adapt(preset, pipeline, device=sizes.device, batch_size=2)
    texts = ["a red circle", "a blue star"]
    figures: Figures = {}
    backends = ("native", "_native_math") if sizes.small else ("native", "_native_flash", "_native_cudnn", "flash")
    for backend in backends:
        try:
            pipeline.transformer.set_attention_backend(backend)
            _, seconds = timed(lambda: adapter.generate(texts, [0, 1]))
            figures[backend] = {"s_image": round(seconds / 2, 3)}
        except (RuntimeError, ValueError, ImportError) as error:
            figures[backend] = f"not here ({type(error).__name__})"
    pipeline.transformer.set_attention_backend("native")
    if not sizes.small:  # two minutes of a core for a compiler that a CPU's users do not need
        _, first = timed(lambda: (pipeline.transformer.compile(), adapter.generate(texts, [0, 1])), warm=False)
        _, seconds = timed(lambda: adapter.generate(texts, [0, 1]))
        figures["compiled"] = {"s_image": round(seconds / 2, 3), "s_first_call": round(first, 1)}
    return figures


def boxflow(sizes: Sizes) -> Figures:
    """A rollout and its learning of FLUX.1-dev at 512², LoRA 64: time by part, the ratio before the first update."""
    from tests.trainers.boxflow.support import DarkCorner
    from trainers.boxflow.config import changed
    from trainers.boxflow.recipes import RECIPES
    from trainers.boxflow.trainer import BoxFlowTrainer, Task
    from trainers.rewards.contract import Score

    class Chance:
        """Random weights draw grey: a reward of its own keeps the advantages from being zero."""

        name = "chance"

        def __init__(self) -> None:
            self.numbers = np.random.default_rng(0)

        async def score(self, images: Any) -> list[Score]:
            """A number for each image."""
            return [Score(float(value)) for value in self.numbers.standard_normal(len(images))]

        async def close(self) -> None:
            """Nothing."""

    count, side = (4, 64) if sizes.small else (8, 512)
    changes: dict[str, Any] = {
        "policy.width": side, "policy.height": side, "rollout.prompts": 2, "rollout.samples": count // 2,
        "rollout.batch_size": 2 if sizes.small else 4, "optimizer.minibatches": 1, "rollouts": 1,
        "monitoring.sample_every": 0, "monitoring.guard": None, "monitoring.ratio_tolerance": 1.0,
        "saving.report": "none", "rewards.base": [{"kind": "palette"}],
    }  # fmt: skip
    if sizes.small:
        changes |= {"policy.precision": "fp32", "policy.device": "cpu", "rollout.steps": 4}
    config = changed(RECIPES["flux1-dev"](), changes)
    preset = _preset("flux1-dev", sizes)
    with TemporaryDirectory() as folder:
        task = Task(
            config=config, preset=preset, revision="random", pipeline=sizes.pipeline("flux1-dev", preset.pipeline),
            prompts=["a red circle", "a blue star"], held_out=[], reward=Chance(), detector=DarkCorner(),
            held_out_reward=None, out=Path(folder) / "run",
        )  # fmt: skip
        figures = BoxFlowTrainer(task).train()
    kept = {name: round(figures[name], 4) for name in ("ratio_off_first", "grad_norm") if name in figures}
    return kept | {
        "s_image_sampling": round(figures["seconds/sampling"] / count, 3),
        "s_image_learning": round(figures["seconds/learning"] / count, 3),
    }


def _picture(sizes: Sizes) -> Image.Image:
    side = 64 if sizes.small else 1024
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8))


def _questions(sizes: Sizes, count: int) -> list[Any]:
    from annotate.vlm.contract import Question
    from annotate.vlm.families import fit_image

    buffer = io.BytesIO()
    _picture(sizes).save(buffer, "PNG")
    image = fit_image(buffer.getvalue(), "image/png", family="qwen3-vl", max_side=1024)
    return [Question("x " * 200, image, "a red circle")] * count


def detector_answers(sizes: Sizes) -> Figures:
    """Qwen3-VL-4B answering in batches as `sdg serve detector` does: prefill, a token, images/s at 700 tokens."""
    from annotate.vlm.generating import generate_answers

    tokens = 8 if sizes.small else 128
    figures: Figures = {}
    with TemporaryDirectory() as folder:
        model, processor = sizes.detector(Path(folder))
    for batch in (2,) if sizes.small else (16, 64):
        asked = _questions(sizes, batch)
        _, first = timed(lambda: generate_answers(model, processor, asked, max_tokens=2))  # noqa: B023
        answers, whole = timed(lambda: generate_answers(model, processor, asked, max_tokens=tokens), warm=False)  # noqa: B023
        written = max(answer.tokens_out or 0 for answer in answers)
        step = max(0.0, whole - first) / max(1, written - 2)
        figures[f"batch {batch}"] = {
            "prefill_s": round(first, 2),
            "ms_token": round(1000 * step, 1),
            "images_s_at_700_tokens": round(batch / (first + 700 * step), 3),
            "peak_gib": peak(),
        }
    return figures


def learning(sizes: Sizes, *, lora: bool, samples: int) -> Figures:
    """One optimizer step over so many samples of the recipe's length, one by one; with an adapter, or every weight."""
    from trainers.detector.loading import freeze_vision, lora_config
    from trainers.detector.train_config import DetectorLora

    half = lora and not sizes.small
    with TemporaryDirectory() as folder:
        model, processor = sizes.detector(Path(folder), torch.bfloat16 if half else torch.float32)
    freeze_vision(model)
    if lora:
        import peft

        model = peft.get_peft_model(model, lora_config(DetectorLora(), freeze_vision=True))
        model.enable_input_require_grads()
    model.train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    trained = [weights for weights in model.parameters() if weights.requires_grad]
    optimizer = torch.optim.AdamW(trained, 1e-5, fused=sizes.device == "cuda")
    inputs = processor(
        text=["<|vision_start|><|image_pad|><|vision_end|>"], images=[_picture(sizes)], return_tensors="pt"
    ).to(sizes.device)
    more = (300 if sizes.small else 5100) - inputs["input_ids"].shape[1]
    words = torch.randint(0, 200, (1, more), device=sizes.device)
    inputs["input_ids"] = torch.cat([inputs["input_ids"], words], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    if "mm_token_type_ids" in inputs:
        kinds = inputs["mm_token_type_ids"]
        inputs["mm_token_type_ids"] = torch.cat([kinds, kinds.new_zeros(1, more)], 1)
    labels = inputs["input_ids"].clone()
    labels[:, :-more] = -100

    def step() -> Any:
        for _ in range(samples):
            with torch.autocast(sizes.device, torch.bfloat16):
                loss = model(**inputs, labels=labels).loss / samples
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    loss, seconds = timed(step)
    return {
        "s_step": round(seconds, 2),
        "samples": samples,
        "tokens": int(labels.shape[1]),
        "trained_millions": round(sum(weights.numel() for weights in trained) / 1e6, 1),
        "finite": bool(torch.isfinite(loss)),
        "peak_gib": peak(),
    }


CHECKS: Final[dict[str, Callable[[Sizes], Figures]]] = {
    "sana": lambda sizes: generation(sizes, "sana-1.5-1.6b"),
    "z-image": lambda sizes: generation(sizes, "z-image-turbo"),
    "longcat": lambda sizes: generation(sizes, "longcat-image"),
    "flux2-step": flux2_step,
    "attention": transformer_speed,
    "boxflow": boxflow,
    "detector": detector_answers,
    "sft-lora": lambda sizes: learning(sizes, lora=True, samples=1),
    "sft-full": lambda sizes: learning(sizes, lora=False, samples=1),
    "grpo-update": lambda sizes: learning(sizes, lora=True, samples=2 if sizes.small else 8),
}
