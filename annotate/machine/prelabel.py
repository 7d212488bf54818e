"""The prelabel stage: a detector's defects for every image that has none from it yet.

An answer that parses, strictly or with the repairs of `schemas.answer`, is a prelabel. Everything else is a failure
with its code and raw text: a reason of the parser (`schemas.answer.Reason`), of a question without an answer
(`annotate.vlm.contract.AskError`), or of an image that could not be sent (blob-missing, blob-corrupt, bad-image).
"""

from __future__ import annotations

from collections.abc import Iterator

from annotate.machine.budget import Budget
from annotate.machine.results import PrelabelResult, Result, Usage
from annotate.machine.stage import RequestLimits, VlmStage
from annotate.vlm.contract import Backend, EncodedImage, Question
from schemas.answer import parse_answer
from schemas.records import Prelabel, Split
from sdg_data.blobs import Blobs
from sdg_data.ids import canonical_json
from sdg_data.prompt_templates import Template
from sdg_data.store import prelabels
from sdg_data.store.connection import Store, Tx
from sdg_data.store.prelabels import STAGE, Prelabeller, Unlabelled, WantedPrelabels


def prelabeller_of(backend: Backend, template: Template) -> Prelabeller:
    """The key that a backend's answers to a template are filed under."""
    identity = backend.identity
    return Prelabeller(identity.model, identity.revision, template.id, canonical_json(identity.settings))


class PrelabelStage(VlmStage[Unlabelled, Prelabel]):
    """Asks a backend about the images that have no answer from it."""

    name = STAGE
    result_type = PrelabelResult

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        backend: Backend,
        template: Template,
        *,
        limits: RequestLimits,
        budget: Budget,
        models: tuple[str, ...] | None = None,
        split: Split | None = None,
        limit: int | None = None,
        retry: tuple[str, ...] = (),
        retry_all: bool = False,
    ) -> None:
        """Ask nothing yet.

        Args:
            store: Where images are found and prelabels go.
            blobs: The images' bytes.
            backend: The model.
            template: The question.
            limits: Bounds of the requests.
            budget: Bound of the cost.
            models: Only images of these models.
            split: Only images of this split.
            limit: How many images to ask about at the most.
            retry: Codes of failures that are tried again.
            retry_all: Try all failures again.
        """
        super().__init__(store, blobs, backend, limits, budget, limit=limit)
        self._template = template
        self.wanted = WantedPrelabels(prelabeller_of(backend, template), models, split, retry, retry_all)

    def count(self) -> int:
        """The number of images that have no prelabel of this model, template and settings yet."""
        with self._store.read() as tx:
            return prelabels.count(tx, self.wanted)["missing"]

    def items(self) -> Iterator[Unlabelled]:
        """The images that have no prelabel of this kind yet, read page by page."""
        for page in prelabels.missing(self._store, self.wanted):
            yield from page

    def question(self, item: Unlabelled, image: EncodedImage) -> Question:
        """The template's question about an image and its prompt."""
        return ask_about(self._backend, self._template, item.prompt, image)

    async def work(self, item: Unlabelled, question: Question) -> Result[Prelabel]:
        """Ask once and parse the answer; one that cannot be read becomes a failure with the text of the answer."""
        answer, usage = await self.ask(question, Usage())
        parsed = parse_answer(answer.text, codec=self._backend.codec(question.image.size), hit_length=answer.hit_length)
        raw = answer.text if answer.raw is None else answer.raw
        if parsed.defects is None:
            return self.result(item, usage, code=str(parsed.reason), message=parsed.detail, raw=raw)
        record = Prelabel(
            image_id=item.image.id,
            trace=parsed.trace,
            defects=parsed.defects,
            repairs=tuple(repair.note for repair in parsed.repairs),
            **self.facts(item, self._template.id, raw, usage),
        )
        return self.result(item, usage, record=record)

    def insert(self, tx: Tx, records: list[Prelabel]) -> None:
        """Store prelabels inside the given transaction."""
        prelabels.insert(tx, records)


def ask_about(backend: Backend, template: Template, prompt: str, image: EncodedImage) -> Question:
    """Make a detector's question about an image from a template; box numbers are in the form of the backend's codec."""
    return Question(
        text=template.question(prompt, backend.codec(image.size)),
        image=image,
        prompt=prompt,
        image_first=template.image_first,
    )
