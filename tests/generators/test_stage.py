"""The stage: what becomes an image, what a failure, and what happens when memory runs out."""

import copy
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from generators.adapter import Pixels
from generators.images import GeneratedImage
from generators.models.loading import adapt
from generators.plan import ModelSelection, batches, plan_lines, shared
from generators.stage import PNG_LEVEL, GenerateStage
from schemas.records import ImageRecord, Split
from sdg_data import ids
from sdg_data.blobs import Blobs
from sdg_data.errors import GenerationError
from sdg_data.store import failures, images
from sdg_data.store.connection import Store
from sdg_data.store.digest import store_digest
from sdg_data.work import LocalExecutor
from tests.generators.support import FakeAdapter, Loader, add_prompts, fake_preset, quick, select

TEXTS = [f"prompt number {index}" + " and more" * (index % 3) for index in range(10)]


def generate(store: Store, blobs: Blobs, selection: ModelSelection, loader: Any, **options: Any) -> GenerateStage:
    stage = GenerateStage(store, blobs, selection, loader=loader, **options)
    LocalExecutor().execute(stage)
    stage.close()
    return stage


def stored(store: Store) -> dict[str, ImageRecord]:
    with store.read() as tx:
        return {record.id: record for record in images.page(tx)}


def codes(store: Store) -> dict[str, int]:
    with store.read() as tx:
        return failures.count_by_code(tx)


def test_an_image_is_a_row_and_a_png_that_its_seed_gave(store: Store, blobs: Blobs) -> None:
    prompts = add_prompts(store, TEXTS)
    preset = fake_preset(licence="CC0")
    selection = select([preset], samples=2)
    stage = generate(store, blobs, selection, Loader())
    records = stored(store)
    revision = selection.revisions[0]
    expected = {
        ids.image_id(prompt.id, "fake", revision, sample, preset.settings): (prompt.id, sample)
        for prompt in prompts
        for sample in (0, 1)
    }
    assert {key: (record.prompt_id, record.sample) for key, record in records.items()} == expected
    assert (stage.made, stage.failed) == (20, {})
    for record in records.values():
        assert record.seed == ids.seed_of(record.id)
        data = blobs.get(record.blob)
        assert (len(data), record.media_type, record.licence) == (record.bytes, "image/png", "CC0")
        drawn = np.random.default_rng(record.seed).random((8, 12, 3), dtype=np.float32)
        picture = Image.open(io.BytesIO(data))
        assert picture.size == (record.width, record.height) == (12, 8)
        assert np.array_equal(np.asarray(picture), (drawn * 255).round().astype(np.uint8))
        assert "batch 4" in record.tool
        assert record.seconds is not None


def test_a_second_run_has_nothing_to_do(store: Store, blobs: Blobs) -> None:
    add_prompts(store, TEXTS)
    selection = select([fake_preset()])
    generate(store, blobs, selection, Loader())
    before = store_digest(store, blobs)
    loader = Loader()
    assert generate(store, blobs, selection, loader).made == 0
    assert loader.adapters == []
    assert store_digest(store, blobs) == before


def test_models_are_in_memory_one_at_a_time(store: Store, blobs: Blobs) -> None:
    add_prompts(store, TEXTS)
    loader = Loader()  # asserts that the model before was closed
    generate(store, blobs, select([fake_preset("a"), fake_preset("b"), fake_preset("c")]), loader)
    assert [adapter.preset.name for adapter in loader.adapters] == ["a", "b", "c"]
    assert all(adapter.closed for adapter in loader.adapters)


def test_samples_of_a_prompt_share_their_calls(store: Store, blobs: Blobs) -> None:
    add_prompts(store, TEXTS)
    loader = Loader()
    generate(store, blobs, select([fake_preset()], samples=4), loader)
    assert all(len(set(call)) == 1 for call in loader.adapters[0].calls)


def test_batches_hold_prompts_of_like_length(store: Store) -> None:
    add_prompts(store, TEXTS)
    lengths = [len(item.text) for batch in batches(store, select([fake_preset()]), [10], [4]) for item in batch]
    assert lengths == sorted(len(text) for text in TEXTS)


def test_a_stage_travels_without_its_model(store: Store, blobs: Blobs) -> None:
    add_prompts(store, TEXTS)
    stage = GenerateStage(store, blobs, select([fake_preset()]), loader=Loader())
    stage.run(next(iter(stage.plan().batches)))
    assert stage._adapter is not None
    assert copy.copy(stage)._adapter is None  # copied by what a pickle of it would hold


# --- what is not an image


def spoiled(kind: str) -> Callable[[str, Pixels], Pixels]:
    def spoil(prompt: str, image: Pixels) -> Pixels:
        if prompt.startswith(("prompt number 3", "prompt number 7")):
            image = image.copy()
            if kind == "nan":
                image[2, 3, 1] = np.nan
            elif kind == "inf":
                image[0, 0, 0] = np.inf
            else:
                image[:] = (0.2, 0.5, 0.7)
        return image

    return spoil


@pytest.mark.parametrize(
    ("kind", "code", "message"),
    [
        ("nan", "nan-image", "0.347 % of the values are not finite numbers"),  # 1 of 8 x 12 x 3
        ("inf", "nan-image", "0.347 % of the values are not finite numbers"),
        ("blank", "blank-image", "every pixel is (51, 128, 178)"),
    ],
)
def test_spoiled_images_are_failures(store: Store, blobs: Blobs, kind: str, code: str, message: str) -> None:
    add_prompts(store, TEXTS)
    selection = select([fake_preset()])
    stage = generate(store, blobs, selection, Loader(spoil=spoiled(kind)))
    assert (stage.made, stage.failed, codes(store)) == (8, {code: 2}, {code: 2})
    with store.read() as tx:
        failed = failures.listed(tx, "generate")
    assert {(failure.message, failure.attempt) for failure in failed} == {(message, 1)}
    assert not {failure.item_id for failure in failed} & stored(store).keys()
    # A failure is an answer: the same seed would give it again.
    assert generate(store, blobs, selection, Loader()).made == 0


def test_failures_are_tried_again_when_asked(store: Store, blobs: Blobs) -> None:
    add_prompts(store, TEXTS)
    generate(store, blobs, select([fake_preset()]), Loader(spoil=spoiled("nan")))
    again = select([fake_preset()], retry_failures=True)
    assert generate(store, blobs, again, Loader(spoil=spoiled("blank"))).failed == {"blank-image": 2}
    with store.read() as tx:
        assert sorted((f.code, f.attempt) for f in failures.listed(tx)) == [
            ("blank-image", 2),
            ("blank-image", 2),
            ("nan-image", 1),
            ("nan-image", 1),
        ]
    only = select([fake_preset()], retry_failures=True, retry_codes=("nan-image",))
    assert plan_lines(store, only, [4])[0].missing == 0  # their last failure was another
    assert generate(store, blobs, only, Loader()).made == 0
    only = select([fake_preset()], retry_failures=True, retry_codes=("blank-image",))
    assert generate(store, blobs, only, Loader()).made == 2
    assert len(stored(store)) == 10


def test_one_bad_prompt_does_not_take_its_neighbours(store: Store, blobs: Blobs) -> None:
    add_prompts(store, TEXTS)

    def trouble(prompts: Sequence[str]) -> Exception | None:
        bad = [prompt for prompt in prompts if prompt.startswith("prompt number 4")]
        return IndexError("index out of range in self") if bad else None

    stage = generate(store, blobs, select([fake_preset()]), Loader(trouble=trouble))
    assert (stage.made, stage.failed) == (9, {"pipeline-error": 1})
    with store.read() as tx:
        assert failures.listed(tx)[0].message == "IndexError: index out of range in self"


def test_a_pipeline_that_never_works_stops_the_run(store: Store, blobs: Blobs) -> None:
    add_prompts(store, TEXTS)
    with pytest.raises(GenerationError, match=r"fake: the pipeline cannot run .*ValueError: wrong shape"):
        generate(store, blobs, select([fake_preset()]), Loader(trouble=lambda _: ValueError("wrong shape")))
    assert codes(store) == {}


# --- memory


def short_of_memory(limit: int, error: Exception) -> Callable[[Sequence[str]], Exception | None]:
    return lambda prompts: error if len(prompts) > limit else None


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["cuda", "python", "cpu"],
)
def test_out_of_memory_halves_the_batch_and_goes_on(store: Store, blobs: Blobs, error: Exception) -> None:
    add_prompts(store, TEXTS)
    loader = Loader(trouble=short_of_memory(2, error))
    stage = generate(store, blobs, select([fake_preset()]), loader, batch_size=8)
    assert (stage.made, stage.failed) == (10, {})
    adapter = loader.adapters[0]
    assert [len(call) for call in adapter.calls] == [8, 4, 2, 2, 2, 2, 2]
    assert adapter.recovered == 2
    assert codes(store) == {}
    assert all("batch 2)" in record.tool for record in stored(store).values())


def test_an_image_that_does_not_fit_alone_is_a_failure(store: Store, blobs: Blobs) -> None:
    add_prompts(store, TEXTS)

    def trouble(prompts: Sequence[str]) -> Exception | None:
        return torch.OutOfMemoryError() if any(prompt.endswith("and more and more") for prompt in prompts) else None

    stage = generate(store, blobs, select([fake_preset()]), Loader(trouble=trouble))
    assert (stage.made, stage.failed) == (7, {"out-of-memory": 3})


def test_a_model_that_never_fits_stops_the_run(store: Store, blobs: Blobs) -> None:
    add_prompts(store, TEXTS)
    loader = Loader(trouble=lambda _: torch.OutOfMemoryError())
    with pytest.raises(GenerationError, match=r"(?s)fake: the memory does not suffice.*offload"):
        generate(store, blobs, select([fake_preset()]), loader)
    assert [len(call) for call in loader.adapters[0].calls] == [4, 2, 1, 1, 1]


@pytest.mark.slow
def test_a_real_pipeline_recovers_from_a_shortage(store: Store, blobs: Blobs, pipelines: Callable[[str], Any]) -> None:
    add_prompts(store, TEXTS[:5])
    tiny = pipelines("FluxPipeline")
    preset = quick("FluxPipeline", steps=1)

    def refuse(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        if len(kwargs["hidden_states"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    handle = tiny.transformer.register_forward_pre_hook(refuse, with_kwargs=True)
    try:
        stage = generate(
            store, blobs, select([preset]), lambda *a, **b: adapt(preset, tiny, batch_size=b["batch_size"])
        )
    finally:
        handle.remove()
    assert (stage.made, stage.failed) == (5, {})
    two = adapt(preset.model_copy(update={"batch_size": 2}), tiny)
    for record in stored(store).values():
        text = next(text for text in TEXTS if ids.prompt_id(text) == record.prompt_id)
        image = two.generate([text], [record.seed or 0])[0]
        expected = GeneratedImage(np.round(image * 255).astype(np.uint8), text)
        assert blobs.get(record.blob) == expected.png(PNG_LEVEL)


def test_nan_of_a_real_pipeline_is_seen_before_it_becomes_black(
    store: Store, blobs: Blobs, pipelines: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_prompts(store, TEXTS[:2])
    tiny = pipelines("FluxPipeline")
    preset = quick("FluxPipeline", steps=1)
    decode = tiny.vae.decode
    monkeypatch.setattr(tiny.vae, "decode", lambda *a, **b: [decode(*a, **b)[0] * float("nan")])
    stage = generate(store, blobs, select([preset]), lambda *_, **__: adapt(preset, tiny))
    assert stage.failed == {"nan-image": 2}


# --- the plan


def test_the_plan_counts_what_is_there_and_what_is_missing(store: Store, blobs: Blobs) -> None:
    add_prompts(store, TEXTS)
    presets = [fake_preset("a", seconds_per_image=2.0, figure_on="H800"), fake_preset("b", width=64, height=32)]
    generate(store, blobs, select([presets[0]], limit=4), Loader())
    a, b = plan_lines(store, select(presets, samples=3), [4, 4])
    assert (a.present, a.missing, b.present, b.missing) == (4, 26, 0, 30)
    assert a.seconds_from == a.bytes_from == "4 earlier images"
    mean = sum(record.bytes for record in stored(store).values()) / 4
    assert a.bytes == pytest.approx(26 * mean, abs=1)
    assert (b.seconds, b.seconds_from) == (None, "unknown")
    assert b.bytes == 30 * 64 * 32 * 1.5


def test_before_any_image_a_stated_figure_is_marked_as_such(store: Store) -> None:
    add_prompts(store, TEXTS)
    line = plan_lines(store, select([fake_preset(seconds_per_image=2.0, figure_on="H800")]), [4])[0]
    assert (line.seconds, line.seconds_from) == (20.0, "stated: H800")


@pytest.mark.parametrize(
    ("missing", "limit", "expected"),
    [
        ([5, 5], None, [5, 5]),
        ([5, 5], 4, [2, 2]),
        ([5, 5, 5], 7, [3, 2, 2]),
        ([1, 9, 2], 9, [1, 6, 2]),
        ([0, 3], 100, [0, 3]),
        ([4, 4], 0, [0, 0]),
        ([9, 9, 9], 2, [1, 1, 0]),
        ([], 3, []),
    ],
)
def test_models_share_a_limit(missing: list[int], limit: int | None, expected: list[int]) -> None:
    assert shared(missing, limit) == expected


def test_a_limit_holds_and_the_next_run_goes_on(store: Store, blobs: Blobs) -> None:
    add_prompts(store, TEXTS)
    presets = [fake_preset("a"), fake_preset("b")]
    assert generate(store, blobs, select(presets, limit=7), Loader()).made == 7
    with store.read() as tx:
        assert images.count_by_model(tx) == {"a": 4, "b": 3}
    assert generate(store, blobs, select(presets), Loader()).made == 13


def test_only_the_prompts_of_a_split(store: Store, blobs: Blobs) -> None:
    prompts = add_prompts(store, TEXTS, test_share=0.5)
    test = {prompt.id for prompt in prompts if prompt.split is Split.TEST}
    assert 0 < len(test) < 10
    generate(store, blobs, select([fake_preset()], split="test"), Loader())
    assert {record.prompt_id for record in stored(store).values()} == test


def test_equal_pixels_give_equal_png_bytes(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    data = GeneratedImage(pixels, "").png(PNG_LEVEL)
    assert data == GeneratedImage(pixels.copy(), "").png(PNG_LEVEL)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)
    assert FakeAdapter(fake_preset()).generate(["a"], [1])[0].max() <= 1


@pytest.mark.parametrize("broken", ["a", "b", "c"])
def test_a_model_that_does_not_load_is_a_failed_model_and_the_others_go_on(
    store: Store, blobs: Blobs, broken: str
) -> None:
    add_prompts(store, TEXTS)
    selection = select([fake_preset("a"), fake_preset("b"), fake_preset("c")])
    good = Loader()

    def loader(preset: Any, *arguments: Any, **options: Any) -> Any:
        if preset.name == broken:
            raise GenerationError("cannot load it", item=preset.name)
        return good(preset, *arguments, **options)

    stage = generate(store, blobs, selection, loader)
    assert stage.made == 2 * len(TEXTS)
    assert stage.failed == {}, "its images are still missing, not failed"
    assert {name: error.message for name, error in stage.failed_models.items()} == {broken: "cannot load it"}
    assert generate(store, blobs, selection, Loader()).made == len(TEXTS)


def test_a_run_of_which_no_model_loads_is_an_error(store: Store, blobs: Blobs) -> None:
    add_prompts(store, TEXTS)

    def loader(preset: Any, *_: Any, **__: Any) -> Any:
        raise GenerationError("cannot load it", item=preset.name)

    with pytest.raises(GenerationError, match="cannot load it"):
        generate(store, blobs, select([fake_preset("a"), fake_preset("b")]), loader)


def test_what_is_refused_beforehand_is_not_tried(store: Store, blobs: Blobs) -> None:
    add_prompts(store, TEXTS)
    loader = Loader()
    refused = {"a": GenerationError("no memory", item="a")}
    stage = generate(store, blobs, select([fake_preset("a"), fake_preset("b")]), loader, refused=refused)
    assert [adapter.preset.name for adapter in loader.adapters] == ["b"]
    assert stage.failed_models == refused
