"""The enrich stage: expanded reasons, a trace and importance for what people drew (SPEC section 2).

The stage asks about the gold annotations that have no enrichment from this model yet. Where an answer breaks a rule, it
asks again and names the rule, for `ROUNDS` answers at the most; then the item is a failure under the first broken
rule's code, with the last raw text. A person's importance stands whatever the model wrote; both are stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from annotate.machine.budget import Budget
from annotate.machine.results import EnrichResult, Result, Usage
from annotate.machine.rules import BrokenRule, broken_rules
from annotate.machine.stage import RequestLimits, VlmStage
from annotate.vlm.contract import Answer, Backend, EncodedImage, Question, Turn
from schemas.answer.parse import ParsedAnswer, RepairKind, parse_answer
from schemas.records import Annotation, EnrichedDefect, Enrichment, ImageRecord, Split
from sdg_data.blobs import Blobs
from sdg_data.ids import canonical_json
from sdg_data.prompt_templates import Template
from sdg_data.store import enrichments, failures, gold, images, prompts
from sdg_data.store.connection import Store, Tx
from sdg_data.store.enrichments import STAGE, enrichment_id
from sdg_data.store.gold import GoldRule

ROUNDS: Final = 3
_PAGE: Final = 500
# What one more round adds to the question, apart from the answer before: the rules that were broken.
_CORRECTION_BYTES: Final = 2000


@dataclass(frozen=True)
class Unenriched:
    """An annotation without its additions, with its image and prompt. `attempt` counts from 1."""

    id: str
    annotation: Annotation
    image: ImageRecord
    prompt: str
    attempt: int


class EnrichStage(VlmStage[Unenriched, Enrichment]):
    """Asks a backend for the additions to gold annotations."""

    name = STAGE
    result_type = EnrichResult

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        backend: Backend,
        template: Template,
        *,
        limits: RequestLimits,
        budget: Budget,
        rule: GoldRule = gold.STRICT,
        split: Split | None = None,
        limit: int | None = None,
        retry: tuple[str, ...] = (),
        retry_all: bool = False,
    ) -> None:
        """Ask nothing yet.

        Args:
            store: Where annotations are found and enrichments go.
            blobs: The images' bytes.
            backend: The model.
            template: The question.
            limits: Bounds of the requests.
            budget: Bound of the cost.
            rule: Which annotations count.
            split: Only images of this split.
            limit: How many annotations to ask about at the most.
            retry: Codes of failures that are tried again.
            retry_all: Try all failures again.
        """
        super().__init__(store, blobs, backend, limits, budget, limit=limit)
        self._template, self._rule, self._split = template, rule, split
        self._retry, self._retry_all = retry, retry_all
        self._settings = canonical_json(backend.identity.settings)

    def count(self) -> int:
        """The number of annotations that have no enrichment yet."""
        return sum(1 for _ in self.items())

    def items(self) -> Iterator[Unenriched]:
        """The gold annotations that have no enrichment yet, in order of their images, read page by page."""
        after = ""
        while True:
            with self._store.read() as tx:
                page = gold.page(tx, self._rule, split=self._split, after=after, limit=_PAGE)
                missing = self._missing(tx, [label.annotation for label in page if label.annotation is not None])
            if not page:
                return
            after = page[-1].image_id
            yield from missing

    def question(self, item: Unenriched, image: EncodedImage) -> Question:
        """The template's question about an image, its prompt and the defects that the person drew."""
        known = item.annotation.defects
        return Question(
            text=self._template.question_about(item.prompt, known, self._backend.codec(image.size)),
            image=image,
            prompt=item.prompt,
            image_first=self._template.image_first,
            known=known,
        )

    def worst(self, question: Question) -> float:
        """An upper bound over all rounds, each of which reads the answers before it once more."""
        tokens = question.max_tokens or self._limits.max_tokens
        rest = [
            Turn("user", "x" * (tokens + _CORRECTION_BYTES) * earlier)
            for earlier in range(ROUNDS - len(question.more) // 2)
        ]
        return sum(self.budget.worst(replace(question, more=(*question.more, turn)), tokens) for turn in rest)

    async def work(self, item: Unenriched, question: Question) -> Result[Enrichment]:
        """Ask for the reasons; an answer that breaks the rules is sent back with what is wrong, a few times at most."""
        usage = Usage()
        for last in (*[False] * (ROUNDS - 1), True):
            answer, usage = await self.ask(question, usage)
            parsed, broken = self._judged(answer, question)
            raw = answer.text if answer.raw is None else answer.raw
            if not broken:
                return self.result(item, usage, record=self._enrichment(item, parsed, raw, usage))
            if last:
                break
            question = replace(
                question, more=(*question.more, Turn("assistant", raw), Turn("user", _correction(broken)))
            )
        details = "; ".join(f"{rule.rule}: {rule.detail}" for rule in broken)
        return self.result(item, usage, code=broken[0].rule, message=details, raw=raw)

    def insert(self, tx: Tx, records: list[Enrichment]) -> None:
        """Store enrichments inside the given transaction."""
        enrichments.insert(tx, records)

    def _judged(self, answer: Answer, question: Question) -> tuple[ParsedAnswer, list[BrokenRule]]:
        codec = self._backend.codec(question.image.size)
        parsed = parse_answer(answer.text, codec=codec, require_trace=True, hit_length=answer.hit_length)
        if parsed.defects is None:
            return parsed, [
                BrokenRule(str(parsed.reason), parsed.detail or "the reply does not have the form asked for")
            ]
        if any(repair.kind is RepairKind.TRUNCATED for repair in parsed.repairs):
            return parsed, [BrokenRule("truncated-by-length", "the reply was cut off: write less")]
        known = question.known or ()
        return parsed, broken_rules(known, parsed.defects, parsed.trace or "", question.prompt, codec)

    def _enrichment(self, item: Unenriched, parsed: ParsedAnswer, raw: str, usage: Usage) -> Enrichment:
        return Enrichment(
            annotation_id=item.annotation.id,
            trace=parsed.trace or "",
            defects=tuple(
                EnrichedDefect(index=index, reason=defect.reason, importance=defect.importance)
                for index, defect in enumerate(parsed.defects or ())
            ),
            **self.facts(item, self._template.id, raw, usage),
        )

    def _missing(self, tx: Tx, annotations: list[Annotation]) -> list[Unenriched]:
        identity = self._backend.identity
        by_id = {
            enrichment_id(
                annotation.id, identity.model, identity.revision, self._template.id, self._settings
            ): annotation
            for annotation in annotations
        }
        done = enrichments.by_ids(tx, list(by_id))
        failed = failures.last(tx, STAGE, list(by_id))
        records = images.by_ids(tx, [annotation.image_id for annotation in annotations])
        texts = prompts.by_ids(tx, [image.prompt_id for image in records.values()])
        missing = []
        for item_id, annotation in by_id.items():
            attempt, code = failed.get(item_id, (0, ""))
            again = not code or self._retry_all or code in self._retry
            if item_id not in done and again:
                image = records[annotation.image_id]
                missing.append(Unenriched(item_id, annotation, image, texts[image.prompt_id].text, attempt + 1))
        return missing


def _correction(broken: list[BrokenRule]) -> str:
    rules = "\n".join(f"- {rule.rule}: {rule.detail}" for rule in broken[:10])
    return f"The reply breaks these rules:\n{rules}\nWrite the whole reply again, with them kept."
