"""The plan of a generate run: missing images per model in batches, with estimates of time and disk.

The store finds what is missing (`sdg_data.store.images`: an anti-join on prompt, variant and sample). This module turns
presets into the store's variants, pages of missing rows into batches, and figures of earlier images into estimates.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

from generators.models.presets import Preset
from generators.preflight import estimated
from sdg_data.preflight.machine import Gpu
from sdg_data.store import images
from sdg_data.store.connection import Store, Tx
from sdg_data.store.images import Variant, WantedImages
from sdg_data.store.rows import select

STAGE: Final = "generate"
# So many batches are sorted by length of prompt together. Within the order of ids, which is random, so that a run that
# is stopped early has not made the images of the shortest prompts only.
_WINDOW: Final = 32
# And at least so many images, where a batch is small: encoding their prompts together may spare moving weights.
_WINDOW_IMAGES: Final = 128
# Bytes per pixel of a PNG of a photograph, where neither store nor preset know better.
_BYTES_PER_PIXEL: Final = 1.5


@dataclass(frozen=True, slots=True)
class Item:
    """One image to be made. `variant` counts into the run's variants."""

    variant: int
    prompt_id: str
    sample: int
    text: str


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """One line of the plan. `seconds` and `bytes` are estimates for all of the missing images; None if unknown.

    `seconds_from` and `bytes_from` say what the estimates rest on. `cut_prompts` of the wanted prompts are longer than
    the model's `token_limit`; None where nobody has counted (`prompt_limits`).
    """

    model: str
    revision: str
    pinned: bool
    present: int
    missing: int
    batch_size: int
    width: int
    height: int
    steps: int
    licence: str
    seconds: float | None
    seconds_from: str
    bytes: int
    bytes_from: str
    cut_prompts: int | None = None
    token_limit: int | None = None


@dataclass(frozen=True)
class ModelSelection:
    """What to make: images of these models for the prompts of `split`, samples 0 to `samples` - 1 of each prompt.

    At most `limit` images; the models share it evenly, so that a small limit shows something of each.
    `retry_failures`: also those that failed before, all of them or those whose last failure has one of `retry_codes`.
    """

    presets: tuple[Preset, ...]
    revisions: tuple[str, ...]
    samples: int
    split: str | None = None
    limit: int | None = None
    retry_failures: bool = False
    retry_codes: tuple[str, ...] = ()

    @cached_property
    def variants(self) -> tuple[Variant, ...]:
        """The store's name for each model as it is run."""
        return tuple(
            Variant(preset.name, revision, preset.settings)
            for preset, revision in zip(self.presets, self.revisions, strict=True)
        )

    @property
    def wanted(self) -> WantedImages:
        """The selection as the store's queries take it: variants, samples, split, and whether failures are retried."""
        from schemas.records import Split

        split = Split(self.split) if self.split else None
        return WantedImages(self.variants, self.samples, split, retry_failed=self.retry_failures)


def plan_lines(
    store: Store, selection: ModelSelection, batch_sizes: Sequence[int], gpu: Gpu | None = None
) -> list[ModelPlan]:
    """What a run would do now, one line per model, in the order of the selection.

    Args:
        store: Where the prompts and the images made before are.
        selection: What is wanted.
        batch_sizes: Rows per call, one for each model.
        gpu: Where it would run, for estimates; None: the one that estimates are made for.
    """
    lines = []
    with store.read() as tx:
        missing = images.count_missing(tx, selection.wanted)
        present = images.count_present(tx, selection.wanted)
        excluded = _other_failures(tx, selection)
        for index, *_ in excluded:
            missing[index] -= 1
        shares = shared(missing, selection.limit)
        for index, (preset, variant) in enumerate(zip(selection.presets, selection.variants, strict=True)):
            number = shares[index]
            seconds, seconds_from, size, bytes_from = _figures(tx, preset, variant, gpu)
            lines.append(
                ModelPlan(
                    model=preset.name,
                    revision=variant.revision,
                    pinned=preset.pinned,
                    present=present[index],
                    missing=number,
                    batch_size=batch_sizes[index],
                    width=preset.width,
                    height=preset.height,
                    steps=preset.steps,
                    licence=preset.licence,
                    seconds=None if seconds is None else seconds * number,
                    seconds_from=seconds_from,
                    bytes=round(size * number),
                    bytes_from=bytes_from,
                )
            )
    return lines


def shared(missing: Sequence[int], limit: int | None) -> list[int]:
    """How many images each model may make: all that it misses, or an even share of the limit.

    What a model does not need goes to the others; the remainder of a division goes to the first.
    """
    shares = [0] * len(missing)
    left = sum(missing) if limit is None else min(limit, sum(missing))
    while left:
        short_of_images = [index for index, number in enumerate(missing) if shares[index] < number]
        even = max(1, left // len(short_of_images))
        for index in short_of_images:
            portion = min(even, missing[index] - shares[index], left)
            shares[index] += portion
            left -= portion
    return shares


def windows(
    store: Store, selection: ModelSelection, shares: Sequence[int], batch_sizes: Sequence[int]
) -> Iterator[list[list[Item]]]:
    """The missing images in windows of batches, model by model; the samples of one prompt follow one another.

    Args:
        store: Where the prompts are.
        selection: What is wanted.
        shares: Images to make, one number for each model.
        batch_sizes: Rows per call, one for each model.
    """
    excluded: set[tuple[int, str, int]] = set()
    if selection.retry_codes:
        with store.read() as tx:
            excluded = _other_failures(tx, selection)
    for index, (share, size) in enumerate(zip(shares, batch_sizes, strict=True)):
        items = itertools.islice(_missing(store, selection, index, excluded), share)
        for window in _chunks(items, size * max(_WINDOW, -(-_WINDOW_IMAGES // size))):
            # Prompts of one length have one shape (`Adapter.shape_keys`), and share their calls.
            window.sort(key=lambda item: (len(item.text), item.prompt_id, item.sample))
            yield list(_chunks(window, size))


def batches(
    store: Store, selection: ModelSelection, shares: Sequence[int], batch_sizes: Sequence[int]
) -> Iterator[list[Item]]:
    """The batches of all `windows`."""
    for window in windows(store, selection, shares, batch_sizes):
        yield from window


def _missing(
    store: Store, selection: ModelSelection, index: int, excluded: set[tuple[int, str, int]]
) -> Iterator[Item]:
    wanted = replace(selection.wanted, variants=(selection.variants[index],))
    for table in images.missing(store, wanted):
        for row in table.to_pylist():
            if (index, row["prompt_id"], row["sample"]) not in excluded:
                yield Item(index, row["prompt_id"], row["sample"], row["text"])


def _chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    remaining = iter(items)
    while chunk := list(itertools.islice(remaining, size)):
        yield chunk


def _other_failures(tx: Tx, selection: ModelSelection) -> set[tuple[int, str, int]]:
    """With `retry_codes`: the failed images whose last failure has another code, which are not tried again."""
    if not selection.retry_failures or not selection.retry_codes:
        return set()
    number = {variant.id: index for index, variant in enumerate(selection.variants)}
    rows = select(
        tx,
        """
        SELECT failed.variant_id, failed.prompt_id, failed.sample, arg_max(failures.code, failures.attempt) AS code
        FROM failed_images AS failed JOIN failures ON failures.item_id = failed.id AND failures.stage = ?
        JOIN prompts ON prompts.id = failed.prompt_id
        WHERE failed.sample < ? AND (? IS NULL OR prompts.split = ?)
          AND NOT EXISTS (SELECT 1 FROM images WHERE images.id = failed.id)
        GROUP BY ALL HAVING NOT list_contains(?::VARCHAR[], code)
        """,
        [STAGE, selection.samples, selection.split, selection.split, list(selection.retry_codes)],
    )
    return {(number[row["variant_id"]], row["prompt_id"], row["sample"]) for row in rows if row["variant_id"] in number}


def _figures(tx: Tx, preset: Preset, variant: Variant, gpu: Gpu | None) -> tuple[float | None, str, float, str]:
    """Seconds and bytes per image, each with where it is from: measured here, counted for this GPU, or stated."""
    known = _measured(tx, "variants.id = ?", variant.id)
    if not known["images"]:
        known = _measured(tx, "variants.model = ?", preset.name)
    number = known["images"]
    if number:
        source = f"{number} earlier images"
        return known["seconds"], source if known["seconds"] is not None else "unknown", known["bytes"], source
    seconds: float | None = None
    seconds_from = "unknown"
    estimate = estimated(preset, gpu)
    if estimate is not None:
        seconds, seconds_from = estimate
    elif preset.seconds_per_image is not None:
        seconds, seconds_from = preset.seconds_per_image, f"stated: {preset.figure_on or 'the preset'}"
    if preset.bytes_per_image is not None:
        return seconds, seconds_from, preset.bytes_per_image, "stated: the preset"
    return seconds, seconds_from, preset.width * preset.height * _BYTES_PER_PIXEL, "rule of thumb: 1.5 bytes per pixel"


def _measured(tx: Tx, condition: str, value: str) -> dict[str, Any]:
    """Count, mean seconds and mean bytes of this software's own images; an imported one says nothing about time."""
    return select(
        tx,
        f"""
        SELECT count(*) AS images, avg(seconds) AS seconds, avg(bytes) AS bytes
        FROM images JOIN variants ON variants.id = images.variant_id WHERE source = 'generated' AND {condition}
        """,
        [value],
    )[0]
