"""The generate stage: from (prompt, model, sample) to a PNG in the blob store and a row that names it.

    run      prompts and seeds -> float images, looked at while they are floats: NaN and one-colour images are failures
    persist  PNG bytes with fixed settings -> the blob store (on the committing thread, beside the next batch's run)
    commit   image rows and failures, one transaction

What fails is recorded with a code, and not tried again unless asked for:

    nan-image        the model gave NaN (with float16, often an overflow)
    blank-image      every pixel has one colour
    out-of-memory    no memory even for a batch of one
    pipeline-error   the pipeline raised on this image, and not on the others
    worker-died      workers died over it, each time it was tried (worker-out-of-memory: for want of memory)
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from typing import Any, Final

import numpy as np

from generators import plan
from generators.adapter import Adapter, Pixels
from generators.images import GeneratedImage
from generators.memory import is_out_of_memory
from generators.models.presets import Preset
from generators.plan import STAGE, Item, ModelPlan, ModelSelection
from schemas.records import Failure, ImageRecord
from sdg_data import ids
from sdg_data.blobs import Blobs
from sdg_data.errors import ConfigError, GenerationError, MissingDependency, SdgError
from sdg_data.store import failures, images, rewritten_prompts
from sdg_data.store.connection import Store
from sdg_data.store.images import FailedImage
from sdg_data.work import Plan, Share

log = logging.getLogger(__name__)

# On an image with the spectrum of a photograph 4 takes 25 % more time than 1..3 and saves 2.5 %; 6 and 9 save no more.
PNG_LEVEL: Final = 4
# After so many images in a row that do not fit at batch 1, and none that did, the model itself does not fit.
_MISFITS_TO_GIVE_UP: Final = 3


@dataclass(frozen=True, slots=True)
class UnstoredImage:
    """An image on its way to the store; `seconds` is its share of its call's time."""

    item: Item
    image: GeneratedImage
    seconds: float
    tool: str
    drawn_from: str | None = None
    """What the model drew from, where it rewrote the prompt."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """The row of an image whose bytes are stored, and the text that it was drawn from, if not its prompt."""

    record: ImageRecord
    drawn_from: str | None


Result = UnstoredImage | StoredImage | FailedImage
"""What `run` returns (UnstoredImage), what `persist` makes of it (StoredImage), and what failed."""


class GenerateStage:
    """Makes the images of a selection. Holds one model at a time, loaded when its first batch comes."""

    name = STAGE

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        selection: ModelSelection,
        *,
        device: str = "auto",
        batch_size: int | None = None,
        loader: Any = None,
        refused: Mapping[str, SdgError] | None = None,
    ) -> None:
        """`batch_size` overrides the presets'. `loader` stands in for `generators.models.loading.load`.

        `refused`: models that cannot run here, by name, with the reason; nothing of them is tried.
        """
        self._store, self._blobs, self._selection = store, blobs, selection
        self._device, self._batch_size, self._load = device, batch_size, loader or _load
        self._adapter: Adapter | None = None
        self._loaded: int | None = None
        self._fits = False
        self._refused = 0
        self._due: set[str] = set()
        self._on_worker = False
        self._window: list[Item] = []
        self.made = 0
        self.failed: dict[str, int] = {}
        self.failed_models: dict[str, SdgError] = dict(refused or {})
        """Models that did not load or cannot run at all; their images are still missing, the others' were made."""

    @property
    def batch_sizes(self) -> list[int]:
        """How many images one call of each model makes, in the order of the presets."""
        return [self._batch_size or preset.batch_size for preset in self._selection.presets]

    def plan(self) -> Plan[Item]:
        """The images that are missing from the store now, and the batches that make them."""
        lines = plan.plan_lines(self._store, self._selection, self.batch_sizes)
        shares = [line.missing for line in lines]
        self._due = {line.model for line in lines if line.missing}
        return Plan(sum(shares), self._batches(shares), self._by_model(lines))

    def _by_model(self, lines: Sequence[ModelPlan]) -> list[Share[Item]]:
        """The batches of each model that may run, with what an image of it takes in proportion to the others'."""
        known = all(line.seconds is not None for line in lines if line.missing)
        return [
            Share(
                line.model,
                line.missing,
                (line.seconds or 0.0) / line.missing if known else float(line.width * line.height * line.steps),
                plan.batches(
                    self._store,
                    self._selection,
                    [line.missing if other is line else 0 for other in lines],
                    self.batch_sizes,
                ),
            )
            for line in lines
            if line.missing and line.model not in self.failed_models
        ]

    def _batches(self, shares: Sequence[int]) -> Iterator[list[Item]]:
        """The batches, each window's prompts made known when its first batch is taken."""
        for window in plan.windows(self._store, self._selection, shares, self.batch_sizes):
            self._window = [item for batch in window for item in batch]
            yield from window

    def run(self, batch: Sequence[Item]) -> Sequence[Result]:
        """Make the images of a batch, all of one model; none where the model has failed.

        Raises:
            SdgError: A model failed, no image was made before, and no other model is left to make some.
        """
        name = self._selection.presets[batch[0].variant].name
        if name in self.failed_models:
            return []
        try:
            return self._make(batch)
        except (GenerationError, ConfigError, MissingDependency) as error:
            self.close()
            if self._on_worker:
                raise  # whether it works elsewhere is not known here
            self.refused(batch, error)
            return []

    def refused(self, batch: Sequence[Item], error: SdgError) -> None:
        """Take note that the model of a batch cannot run; the others go on.

        Raises:
            SdgError: The error, where no image was made before and no other model is left to make some, or where it is
                not about the model.
        """
        if not isinstance(error, (GenerationError, ConfigError, MissingDependency)):
            raise error
        self.failed_models[self._selection.presets[batch[0].variant].name] = error
        if not self.made and self._due <= self.failed_models.keys():
            raise error
        log.warning("%s; going on with the other models", error)

    def item_id(self, item: Item) -> str:
        """The id of the image that an item makes."""
        return self._id(item)

    def lost(self, batch: Sequence[Item], code: str, message: str) -> Sequence[Result]:
        """Failures of images that workers died over."""
        return [self._failed(item, code, message) for item in batch]

    def _make(self, batch: Sequence[Item]) -> Sequence[Result]:
        adapter = self._adapter_of(batch[0].variant)
        if self._window:
            # Where batches are computed elsewhere than planned, each worker's prompts come with its batches.
            adapter.prepare([item.text for item in self._window])
            self._window = []
        results: list[Result] = []
        done = 0
        while done < len(batch):
            chunk = batch[done : done + adapter.batch_size]
            started = time.perf_counter()
            computed = self._attempt(adapter, chunk)
            if computed is not None:
                seconds = (time.perf_counter() - started) / len(chunk)
                good = [item.text for item, outcome in zip(chunk, computed, strict=True) if not _is_error(outcome)]
                texts = dict(zip(good, adapter.drawn_from(good), strict=True))
                results += [
                    self._result(item, outcome, seconds, adapter, texts.get(item.text))
                    for item, outcome in zip(chunk, computed, strict=True)
                ]
                done += len(chunk)
            elif adapter.batch_size > 1:
                adapter.batch_size //= 2
                log.warning("%s: out of memory; going on with batches of %d", adapter.preset.name, adapter.batch_size)
            else:
                results.append(self._no_memory(chunk[0], adapter))
                done += 1
        return results

    def persist(self, results: Sequence[Result]) -> Sequence[Result]:
        """Encode and store the pictures; what comes back names their blobs."""
        encoded = [result.image.png(PNG_LEVEL) for result in results if isinstance(result, UnstoredImage)]
        stored = iter(zip(self._blobs.put_many(encoded), encoded, strict=True))
        return [
            self._record(result, *next(stored)) if isinstance(result, UnstoredImage) else result for result in results
        ]

    def commit(self, results: Sequence[Result]) -> None:
        """Store the images of a batch and its failures in one transaction, and count both."""
        stored = [result for result in results if isinstance(result, StoredImage)]
        records = [result.record for result in stored]
        failed = [result for result in results if isinstance(result, FailedImage)]
        with self._store.write() as tx:
            images.insert(tx, records)
            texts = {result.record.id: result.drawn_from for result in stored if result.drawn_from is not None}
            rewritten_prompts.insert(tx, texts)
            tried = failures.attempts(tx, STAGE, [image.failure.item_id for image in failed])
            images.insert_failed(tx, [_attempted(image, tried.get(image.failure.item_id, 0) + 1) for image in failed])
        self.made += len(records)
        for image in failed:
            self.failed[image.failure.code] = self.failed.get(image.failure.code, 0) + 1

    def close(self) -> None:
        """Free the memory of the model that is loaded, if one is."""
        if self._adapter is not None:
            self._adapter.close()
        self._adapter = self._loaded = None

    def __getstate__(self) -> dict[str, Any]:
        """A stage travels to its worker without its model and without the store."""
        return self.__dict__ | {"_adapter": None, "_loaded": None, "_window": [], "_store": None, "_on_worker": True}

    def _adapter_of(self, variant: int) -> Adapter:
        if self._adapter is None or self._loaded != variant:
            self.close()
            preset, revision = self._selection.presets[variant], self._selection.revisions[variant]
            log.info("loading %s (%s)", preset.name, revision[:12])
            self._adapter = self._load(preset, revision, device=self._device, batch_size=self._batch_size)
            self._loaded, self._fits, self._refused = variant, False, 0
        return self._adapter

    def _attempt(self, adapter: Adapter, chunk: Sequence[Item]) -> Sequence[Pixels | Exception] | None:
        """An image or an error for each item; None where memory ran out."""
        outcome = self._generate(adapter, chunk)
        if not isinstance(outcome, Exception):
            self._fits, self._refused = True, 0
            return outcome
        if is_out_of_memory(outcome):
            # The error's traceback keeps alive the arrays that filled the memory.
            del outcome
            adapter.recover()
            return None
        # One bad prompt must not take its neighbours with it. If none of them works, and none did before, the pipeline
        # itself is at fault, and thousands of failures would hide that.
        alone = [self._generate(adapter, [item]) for item in chunk] if len(chunk) > 1 else [outcome]
        if not self._fits and all(isinstance(result, Exception) for result in alone):
            raise GenerationError(
                f"the pipeline cannot run as its preset says ({type(outcome).__name__}: {outcome})",
                item=adapter.preset.name,
            ) from outcome
        return [result if isinstance(result, Exception) else result[0] for result in alone]

    def _generate(self, adapter: Adapter, chunk: Sequence[Item]) -> Sequence[Pixels] | Exception:
        seeds = [ids.seed_of(self._id(item)) for item in chunk]
        try:
            return adapter.generate([item.text for item in chunk], seeds)
        except (RuntimeError, MemoryError, ValueError, TypeError, LookupError, AssertionError) as error:
            return error

    def _result(
        self, item: Item, outcome: Pixels | Exception, seconds: float, adapter: Adapter, drawn_from: str | None
    ) -> Result:
        if isinstance(outcome, Exception):
            code = "out-of-memory" if is_out_of_memory(outcome) else "pipeline-error"
            return self._failed(item, code, f"{type(outcome).__name__}: {outcome}")
        if not np.isfinite(outcome).all():
            bad = 1 - np.isfinite(outcome).mean()
            return self._failed(item, "nan-image", f"{100 * bad:.3g} % of the values are not finite numbers")
        pixels = np.round(outcome * 255).astype(np.uint8)
        if (pixels == pixels[0, 0]).all():
            return self._failed(item, "blank-image", f"every pixel is {tuple(pixels[0, 0].tolist())}")
        image = GeneratedImage(pixels, item.text)
        tool = _tool(str(adapter.pipeline._execution_device), adapter.batch_size)
        return UnstoredImage(item, image, seconds, tool, drawn_from)

    def _no_memory(self, item: Item, adapter: Adapter) -> FailedImage:
        self._refused += 1
        if self._refused >= _MISFITS_TO_GIVE_UP and not self._fits:
            raise GenerationError(
                "the memory does not suffice for a single image",
                item=adapter.preset.name,
                hint=f'Try [models.{adapter.preset.name}.memory] offload = "model" or vae_tiling = true; then '
                "`sdg generate run --retry-failures out-of-memory`.",
            )
        return self._failed(item, "out-of-memory", "no memory for a batch of one")

    def _failed(self, item: Item, code: str, message: str) -> FailedImage:
        log.warning("%s: %s (%s)", self._selection.presets[item.variant].name, code, message)
        failure = Failure(stage=STAGE, item_id=self._id(item), code=code, message=message, raw=None, attempt=1)
        return FailedImage(item.prompt_id, self._selection.variants[item.variant], item.sample, failure)

    def _id(self, item: Item) -> str:
        variant = self._selection.variants[item.variant]
        return ids.image_id(item.prompt_id, variant.model, variant.revision, item.sample, variant.settings)

    def _record(self, unstored: UnstoredImage, blob: str, data: bytes) -> StoredImage:
        item = unstored.item
        preset, variant = self._selection.presets[item.variant], self._selection.variants[item.variant]
        height, width = unstored.image.pixels.shape[:2]
        record = images.record(
            item.prompt_id,
            variant,
            item.sample,
            seed=ids.seed_of(self._id(item)),
            blob=blob,
            size=len(data),
            width=width,
            height=height,
            licence=preset.licence,
            source="generated",
            tool=unstored.tool,
            seconds=unstored.seconds,
        )
        return StoredImage(record, unstored.drawn_from)


def _load(preset: Preset, revision: str, **options: Any) -> Adapter:
    """`generators.models.loading.load`, which needs torch: a second that only those pay who load a model."""
    from generators.models.loading import load

    return load(preset, revision, **options)


def _is_error(outcome: Pixels | Exception) -> bool:
    return isinstance(outcome, Exception)


def _attempted(failed: FailedImage, attempt: int) -> FailedImage:
    return replace(failed, failure=failed.failure.model_copy(update={"attempt": attempt}))


@cache
def _tool(device: str, batch_size: int) -> str:
    """What an image's bytes depend on beyond its settings: they are the same again with the same of these."""
    libraries = f"diffusers {version('diffusers')}, torch {version('torch')}"
    return f"sdg-data {version('sdg-data')} ({libraries}, {device.partition(':')[0]}, batch {batch_size})"
