"""The refine stage: one image's refinement at a time, and all that it made in one transaction.

    run      a chain of edits (`trainers.refinement.chain`); its pictures stay in memory until it ends
    persist  PNG bytes of every candidate to the blob store
    commit   images, edits, the refinement and its failures, together: a refinement that is stored is whole

A refinement that was killed half-way is made again from its beginning, to the same ids and pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from generators.editors.contract import Editor
from generators.editors.presets import EditorPreset
from generators.images import GeneratedImage
from generators.stage import PNG_LEVEL
from schemas.records import ImageRecord
from schemas.refinement import RefinementRun
from sdg_data.blobs import Blobs
from sdg_data.picture.decode import decode_pixels
from sdg_data.store import failures, images, prompts, refinements
from sdg_data.store.connection import Store
from sdg_data.store.images import Variant
from sdg_data.store.rows import this_tool
from sdg_data.work import Plan
from trainers.refinement.chain import STAGE, Chain, NewImage, Refiner, Source, model_of
from trainers.refinement.instructions import InstructionTemplate
from trainers.refinement.settings import RefineSettings, RunSettings
from trainers.refinement.signals import Signals
from trainers.refinement.source import Work


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


class RefineStage:
    """Refines the images of a piece of work."""

    name = STAGE

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        job: RefineJob,
        work: Work,
        editor: Editor,
        signals: Signals,
        *,
        limit: int | None = None,
    ) -> None:
        """Prepare; `limit`: at most so many images."""
        self._store, self._blobs, self._job, self._work = store, blobs, job, work
        self._editor, self._signals, self._limit = editor, signals, limit
        self._refiner = Refiner(
            job.settings, job.preset, job.revision, editor, signals, job.template, job.identity.run_id
        )
        self.states: Counter[str] = Counter()
        self.verdicts: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()

    def plan(self) -> Plan[str]:
        """The images that are due, one a batch."""
        due = list(self._work.defects)[: self._limit]
        return Plan(len(due), self._batches(due))

    def _batches(self, due: Sequence[str]) -> Iterator[list[str]]:
        for identity in due:
            yield [identity]

    def run(self, batch: Sequence[str]) -> Sequence[Chain | Persisted]:
        """Refine the images of a batch."""
        with self._store.read() as tx:
            records = images.by_ids(tx, list(batch))
            texts = prompts.by_ids(tx, [record.prompt_id for record in records.values()])
        chains = []
        for identity in batch:
            record = records[identity]
            source = Source(
                image=record,
                prompt=texts[record.prompt_id].text,
                pixels=decode_pixels(self._blobs.get(record.blob))[:, :, :3],
                defects=self._work.defects[identity],
                follow=self._job.follow,
                attempt=self._work.attempts[identity],
            )
            chains.append(self._refiner.refine(source))
        return chains

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
        self._editor.close()
        self._signals.close()

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
            blob=blob,
            size=size,
            width=width,
            height=height,
            licence=parent.licence if parent.licence == preset.licence else f"{parent.licence}; {preset.licence}",
            source="generated",
            tool=this_tool(),
        )
