"""The refine stage: one image's refinement at a time, and all that it made in one transaction.

    run      a chain of edits (`trainers.refinement.chain`); its pictures stay in memory until it ends
    persist  PNG bytes of every candidate to the blob store
    commit   images, edits, the refinement and its failures, together: a refinement that is stored is whole

A refinement that was killed half-way is made again from its beginning, to the same ids and pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from generators.editors.contract import Editor
from generators.editors.presets import EditorPreset
from generators.images import GeneratedImage
from generators.stage import PNG_LEVEL
from schemas.defect import Defect
from schemas.records import ImageRecord
from schemas.refinement import RefinementRun
from sdg_data.blobs import Blobs
from sdg_data.errors import SdgError
from sdg_data.picture.decode import decode_pixels
from sdg_data.store import failures, images, prompts, refinements
from sdg_data.store.connection import Store
from sdg_data.store.images import Variant
from sdg_data.store.rows import this_tool
from sdg_data.work import Plan
from trainers.refinement.chain import STAGE, Chain, ImageToRefine, NewImage, Refiner, model_of, unanswered
from trainers.refinement.instructions import InstructionTemplate
from trainers.refinement.settings import RefineSettings, RunSettings
from trainers.refinement.signals import Signals
from trainers.refinement.source import Work

_PAGE: Final = 200
"""Images whose records are read at a time."""


@dataclass(frozen=True)
class Persisted:
    """A chain whose pictures are stored, and the records of these."""

    chain: Chain
    records: tuple[ImageRecord, ...]


@dataclass(frozen=True)
class RefineJob:
    """What a run is made of.

    Attributes:
        settings: How it is done.
        identity: What tells it from other runs.
        preset: The editor's.
        revision: The editor's weights.
        template: What the editor is told.
        follow: Whether the detector's own defects count after an edit.
    """

    settings: RefineSettings
    identity: RunSettings
    preset: EditorPreset
    revision: str
    template: InstructionTemplate
    follow: bool


@dataclass(frozen=True)
class DueImage:
    """An image that is to be refined, as it is handed out: without its pixels."""

    image: ImageRecord
    prompt: str
    defects: tuple[Defect, ...]
    attempt: int


class RefineStage:
    """Refines the images of a piece of work."""

    name = STAGE

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        job: RefineJob,
        work: Work,
        tools: Callable[[], tuple[Editor, Signals]],
        *,
        limit: int | None = None,
    ) -> None:
        """Prepare; `tools` makes the editor and the signals when the first image comes; at most `limit` images."""
        self._store, self._blobs, self._job, self._work = store, blobs, job, work
        self._make_tools, self._limit = tools, limit
        self._tools: tuple[Editor, Signals] | None = None
        self.states: Counter[str] = Counter()
        self.verdicts: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()

    def plan(self) -> Plan[DueImage]:
        """The images that are due, one a batch."""
        due = list(self._work.defects)[: self._limit]
        return Plan(len(due), self._batches(due))

    def _batches(self, due: Sequence[str]) -> Iterator[list[DueImage]]:
        for start in range(0, len(due), _PAGE):
            page = due[start : start + _PAGE]
            with self._store.read() as tx:
                records = images.by_ids(tx, page)
                texts = prompts.by_ids(tx, [record.prompt_id for record in records.values()])
            for identity in page:
                record = records[identity]
                yield [
                    DueImage(
                        record,
                        texts[record.prompt_id].text,
                        self._work.defects[identity],
                        self._work.attempts[identity],
                    )
                ]

    def run(self, batch: Sequence[DueImage]) -> Sequence[Chain | Persisted]:
        """Refine the images of a batch."""
        if self._tools is None:
            self._tools = self._make_tools()
        job, (editor, signals) = self._job, self._tools
        refiner = Refiner(job.settings, job.preset, job.revision, editor, signals, job.template, job.identity.run_id)
        return [refiner.refine(self._source(due)) for due in batch]

    def _source(self, due: DueImage) -> ImageToRefine:
        pixels = decode_pixels(self._blobs.get(due.image.blob))[:, :, :3]
        return ImageToRefine(due.image, due.prompt, pixels, due.defects, self._job.follow, due.attempt)

    def persist(self, results: Sequence[Chain | Persisted]) -> Sequence[Chain | Persisted]:
        """Encode and store every candidate's picture."""
        return [self._persisted(result) if isinstance(result, Chain) else result for result in results]

    def commit(self, results: Sequence[Chain | Persisted]) -> None:
        """Store refinements with their candidates and failures in one transaction, and count them."""
        done = [result for result in results if isinstance(result, Persisted)]
        run = RefinementRun(
            id=self._job.identity.run_id,
            arm=self._job.settings.arm,
            settings=self._job.identity.settings,
            created_at=datetime.now(UTC),
        )
        with self._store.write() as tx:
            refinements.insert_run(tx, run)
            images.insert(tx, [record for work in done for record in work.records])
            refinements.insert(
                tx, [work.chain.refinement for work in done], [edit for work in done for edit in work.chain.edits]
            )
            failures.insert(tx, [failure for work in done for failure in work.chain.failures])
        for work in done:
            self.states[work.chain.refinement.state.value] += 1
            self.verdicts.update(edit.verdict.value for edit in work.chain.edits)
            self.failed.update(failure.code for failure in work.chain.failures)

    def close(self) -> None:
        """Let go of the editor and of the signals."""
        if self._tools is not None:
            editor, signals = self._tools
            self._tools = None
            editor.close()
            signals.close()

    def __getstate__(self) -> dict[str, Any]:
        """A stage travels to its worker without its models, the store and the list of what is due."""
        return self.__dict__ | {"_tools": None, "_store": None, "_work": Work()}

    def item_id(self, item: DueImage) -> str:
        """The id of the image that is refined."""
        return item.image.id

    def lost(self, batch: Sequence[DueImage], code: str, message: str) -> Sequence[Chain | Persisted]:
        """Refinements without an answer, of images that workers died over; `--retry-failures` does them again."""
        run_id = self._job.identity.run_id
        return [Persisted(unanswered(run_id, due.image.id, due.attempt, code, message), ()) for due in batch]

    def refused(self, batch: Sequence[DueImage], error: SdgError) -> None:
        """End the run with the error, because there is one editor."""
        raise error

    def _persisted(self, chain: Chain) -> Persisted:
        encoded = [GeneratedImage(image.pixels, "").png(PNG_LEVEL) for image in chain.images]
        names = self._blobs.put_many(encoded)
        records = tuple(
            self._record(image, name, len(data)) for image, name, data in zip(chain.images, names, encoded, strict=True)
        )
        return Persisted(chain, records)

    def _record(self, image: NewImage, blob: str, size: int) -> ImageRecord:
        parent, preset = image.parent, self._job.preset
        height, width = image.pixels.shape[:2]
        return images.record(
            parent.prompt_id,
            Variant(model_of(preset), self._job.revision, image.settings),
            parent.sample,
            seed=image.seed,
            seconds=image.seconds,
            blob=blob,
            size=size,
            width=width,
            height=height,
            licence=parent.licence if parent.licence == preset.licence else f"{parent.licence}; {preset.licence}",
            source="generated",
            tool=this_tool(),
        )
