"""What the generate stage costs: its images/s beside a bare diffusers loop, same pipeline, batch and steps (aim: 0.95).

Both run in one process, in turns, so that both meet the same machine. The stage's side is everything that `sdg generate
run` does once a model is loaded: planning, seeds, prompt embeddings, checks, PNG, blobs with fsync, transactions. The
bare side calls the pipeline and drops the pictures. Every round has prompts of its own, so nothing is remembered.

    python benchmarks/generate.py [--model mini-sana] [--images 32] [--rounds 3] [--batch-size N] [--json]
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from generators.memory import arrange, pick_device
from generators.models.loading import adapt, load_pipeline
from generators.models.presets import Preset
from generators.models.registry import choose, load_presets
from generators.plan import ModelSelection
from generators.revisions import installed, revision_of
from generators.stage import GenerateStage
from schemas.records import Prompt, Split
from sdg_data import ids
from sdg_data.blobs import Blobs
from sdg_data.mini.world import sample_prompts
from sdg_data.settings import load_settings
from sdg_data.store import prompts
from sdg_data.store.connection import Store
from sdg_data.work import LocalExecutor

AIM = 0.95


def bare(pipeline: Any, preset: Preset, texts: list[str], batch_size: int) -> None:
    """Draw the texts as a user's own loop would."""
    for start in range(0, len(texts), batch_size):
        batch = texts[start : start + batch_size]
        arguments: dict[str, Any] = dict(preset.call)
        if preset.pipeline == "LongCatImagePipeline":
            arguments["negative_prompt"] = [""] * len(batch)  # the class needs one for each
        pipeline(
            prompt=batch,
            height=preset.height,
            width=preset.width,
            num_inference_steps=preset.steps,
            guidance_scale=preset.guidance,
            generator=[torch.Generator().manual_seed(start + index) for index in range(len(batch))],
            **arguments,
        )


def prepared(preset: Preset, revision: str, texts: list[str], adapter: Any, home: Path) -> GenerateStage:
    """A stage for the texts, with a store of their own."""
    store = Store(home)
    with store.write() as tx:
        prompts.insert(
            tx,
            [
                Prompt(id=ids.prompt_id(text), text=text, source="benchmark", licence=None, split=Split.TRAIN)
                for text in texts
            ],
        )
    selection = ModelSelection((preset,), (revision,), 1)
    return GenerateStage(store, Blobs(home / "blobs"), selection, loader=lambda *_, **__: adapter)


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of the clock, and of the processor (all threads)."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - processor


def measure(preset: Preset, images: int, rounds: int, folder: Path) -> dict[str, Any]:
    """All rounds, after one of each kind to warm up."""
    device = pick_device("auto")
    revision = revision_of(preset)
    pipeline, other = load_pipeline(preset, revision), load_pipeline(preset, revision)
    arrange(pipeline, preset.memory, device)
    pipeline.set_progress_bar_config(disable=True)
    adapter = adapt(preset, other, device=device)
    texts = sample_prompts(images * rounds + preset.batch_size, seed=0)
    warm, texts = texts[: preset.batch_size], texts[preset.batch_size :]
    bare(pipeline, preset, warm, preset.batch_size)
    LocalExecutor().execute(prepared(preset, revision, warm, adapter, folder / "warm"))
    took: dict[str, list[tuple[float, float]]] = {"bare": [], "stage": []}
    for number in range(rounds):
        own = texts[number * images : (number + 1) * images]
        stage = prepared(preset, revision, own, adapter, folder / str(number))
        sides: dict[str, Callable[[], Any]] = {
            "bare": lambda own=own: bare(pipeline, preset, own, preset.batch_size),  # type: ignore[misc]
            "stage": lambda stage=stage: LocalExecutor().execute(stage),  # type: ignore[misc]
        }
        for side in ("bare", "stage") if number % 2 == 0 else ("stage", "bare"):
            took[side].append(timed(sides[side]))
        assert stage.made == images, stage.failed
    clock, processor = ({side: [pair[i] for pair in took[side]] for side in took} for i in (0, 1))
    ratios = [b / s for b, s in zip(clock["bare"], clock["stage"], strict=True)]
    return {
        "model": preset.name,
        "device": device,
        "threads": torch.get_num_threads(),
        "batch_size": preset.batch_size,
        "steps": preset.steps,
        "images_per_round": images,
        "bare_images_per_second": images * rounds / sum(clock["bare"]),
        "stage_images_per_second": images * rounds / sum(clock["stage"]),
        "ratio": sum(clock["bare"]) / sum(clock["stage"]),
        "ratio_median": statistics.median(ratios),
        "ratios": ratios,
        # On a machine that others use, time of the processor is steadier; it counts the overlapping thread in full.
        "processor_ratio": sum(processor["bare"]) / sum(processor["stage"]),
        "aim": AIM,
    }


def main() -> None:
    """Measure one model and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="default: the profile's first model that is installed")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--images", type=int, default=32, help="per round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    settings = load_settings(config=options.config)
    presets = load_presets(settings.models)
    names = [options.model] if options.model else [n for n in settings.generate.models if installed(presets[n])][:1]
    preset = choose(names, presets)[0]
    if options.batch_size:
        preset = preset.model_copy(update={"batch_size": options.batch_size})
    with tempfile.TemporaryDirectory() as folder:
        result = measure(preset, options.images, options.rounds, Path(folder))
    if options.json:
        print(json.dumps(result, indent=2))
        return
    for key, value in result.items():
        rounded = [round(ratio, 3) for ratio in value] if isinstance(value, list) else value
        print(f"{key:26} {round(rounded, 3) if isinstance(rounded, float) else rounded}")


if __name__ == "__main__":
    main()
