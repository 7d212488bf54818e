"""The adapters on tiny pipelines of the real classes: what an image depends on, and what it does not."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from generators.images import GeneratedImage
from generators.models.loading import adapt
from generators.models.registry import built_in_presets, image_models
from generators.stage import PNG_LEVEL
from sdg_data.errors import ConfigError
from tests.generators.support import PROMPTS, REAL_FOR, compositions, quick, small

Pipelines = Callable[[str], Any]
CLASSES = list(REAL_FOR)
SEEDS = [11 + 2**62, 12, 13, 14, 15, 16]


def png(image: np.ndarray[Any, Any]) -> bytes:
    return GeneratedImage(np.round(image * 255).astype(np.uint8), "").png(PNG_LEVEL)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# With two threads a product is cut between them, which is where the place of a row in its batch could matter.
@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("pipeline", CLASSES)
def test_bytes_do_not_depend_on_the_batch(pipelines: Pipelines, pipeline: str, threads: int) -> None:
    torch.set_num_threads(threads)
    adapter = adapt(quick(pipeline), pipelines(pipeline))
    alone = [png(adapter.generate([prompt], [seed])[0]) for prompt, seed in zip(PROMPTS, SEEDS, strict=True)]
    assert len(set(alone)) == len(PROMPTS)
    for batch in compositions(len(PROMPTS), adapter.batch_size, ways=threads + 1, seed=CLASSES.index(pipeline)):
        images = adapter.generate([PROMPTS[index] for index in batch], [SEEDS[index] for index in batch])
        assert [png(image) for image in images] == [alone[index] for index in batch], batch


@pytest.mark.parametrize("pipeline", CLASSES)
def test_another_batch_size_changes_a_value_by_one_at_most(pipelines: Pipelines, pipeline: str) -> None:
    """Documents why the batch is padded: at another size the same image is rounded differently."""
    four, one = adapt(quick(pipeline), pipelines(pipeline)), adapt(quick(pipeline, batch_size=1), pipelines(pipeline))
    beside = four.generate(PROMPTS[:4], SEEDS[:4])
    for prompt, seed, image in zip(PROMPTS, SEEDS, beside, strict=False):
        alone = one.generate([prompt], [seed])[0]
        difference = np.abs(np.round(alone * 255) - np.round(image * 255))
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.001


@pytest.mark.parametrize("pipeline", CLASSES)
def test_prompt_and_seed_decide(pipelines: Pipelines, pipeline: str) -> None:
    adapter = adapt(quick(pipeline), pipelines(pipeline))
    first, again, other_seed, other_prompt = adapter.generate(
        ["a red circle", "a red circle", "a red circle", "a blue square"], [1, 1, 2, 1]
    )
    assert first.shape == (64, 64, 3)
    assert first.dtype == np.float32
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other_seed)
    assert not np.array_equal(first, other_prompt)


@pytest.mark.parametrize("pipeline", CLASSES)
def test_a_prompt_is_encoded_once(pipelines: Pipelines, pipeline: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = pipelines(pipeline)
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    adapter = adapt(quick(pipeline), tiny)
    adapter.generate(["warm up"], [0])  # what does not depend on the prompt (an empty negative one) is encoded here
    handle = tiny.text_encoder.register_forward_pre_hook(count)
    try:
        adapter.generate(["new"], [1])
        once = calls
        for seeds in ([2, 3, 4, 5], [6, 7], [8]):
            adapter.generate(["new"] * len(seeds), seeds)
    finally:
        handle.remove()
    assert calls == once
    assert once >= 1


@pytest.mark.parametrize("pipeline", CLASSES)
def test_the_whole_real_preset_but_its_size(pipelines: Pipelines, pipeline: str) -> None:
    """Every argument that a real preset passes is one that the class takes, together with the others."""
    preset = small(pipeline)
    assert preset.call == built_in_presets()[REAL_FOR[pipeline]].call
    adapter = adapt(preset, pipelines(pipeline))
    assert type(adapter) is image_models()[pipeline].adapter
    image = adapter.generate(["a red circle"], [3])[0]
    assert image.shape == (64, 64, 3)
    assert np.isfinite(image).all()
    assert image.std() > 0.01


@pytest.mark.parametrize("pipeline", CLASSES)
@pytest.mark.parametrize(
    "text", ["", "a\0b", "\ud7ff\U0010ffff \u202e", "word " * 20_000], ids=["empty", "nul", "odd", "long"]
)
def test_any_text_gives_an_image(pipelines: Pipelines, pipeline: str, text: str) -> None:
    assert np.isfinite(adapt(quick(pipeline, batch_size=1), pipelines(pipeline)).generate([text], [5])[0]).all()


@pytest.mark.parametrize("pipeline", CLASSES)
def test_guidance_reaches_the_model(pipelines: Pipelines, pipeline: str) -> None:
    weak, strong = (
        adapt(quick(pipeline, guidance=guidance, batch_size=1), pipelines(pipeline)).generate(["a star"], [7])[0]
        for guidance in (1.5, 6.0)
    )
    assert not np.array_equal(weak, strong)


def test_an_argument_that_the_class_does_not_take(pipelines: Pipelines) -> None:
    with pytest.raises(ConfigError, match="Flux2Pipeline does not take enable_cfg_renorm"):
        adapt(quick("Flux2Pipeline", call={"enable_cfg_renorm": True}), pipelines("Flux2Pipeline"))


def test_longcat_rewrites_a_prompt_once_and_alone(pipelines: Pipelines) -> None:
    tiny = pipelines("LongCatImagePipeline")
    seen: list[list[str]] = []
    rewire = type(tiny).rewire_prompt

    def recorded(texts: list[str], device: Any) -> list[str]:
        seen.append(texts)
        return [f"{text}, in oil" for text in texts]

    tiny.rewire_prompt = recorded
    try:
        adapter = adapt(small("LongCatImagePipeline"), tiny)
        rewritten = adapter.generate(["a star", "a star", "a circle"], [1, 2, 3])
        adapter.generate(["a star"], [4])
    finally:
        del tiny.rewire_prompt, tiny._encode_prompt
    assert tiny.rewire_prompt.__func__ is rewire
    assert seen == [["a star"], ["a circle"]]
    plain = adapt(quick("LongCatImagePipeline"), tiny).generate(["a star, in oil"], [1])[0]
    assert np.array_equal(rewritten[0], plain)


def test_sana_reports_its_decoders_shortage_of_memory(pipelines: Pipelines, monkeypatch: pytest.MonkeyPatch) -> None:
    """The class swallows the error of its VAE and trips over the missing image instead."""
    tiny = pipelines("SanaPipeline")
    adapter = adapt(quick("SanaPipeline"), tiny)

    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(tiny.vae, "decode", full)
    with pytest.raises(torch.OutOfMemoryError), pytest.warns(UserWarning, match="VAE tiling"):
        adapter.generate(["a star"], [1])
