"""Defects of the store as sources for SDG-Eval, each an image's id -> the version that speaks for it.

    gold                     what counts (`sdg_data.store.gold`), the strict rule: last accepted by a reviewer
    gold:unreviewed          the same; where there was no review, an image's only annotation
    prelabel:MODEL           that detector's last answer; `prelabel:MODEL#TEMPLATE` only answers to that prompt template
    annotator:NAME           that person's last version
    source:PREFIX            the last version whose `source` begins so (a second round for the ceiling, say)
    reviewer:NAME            what that reviewer left standing: accepted as it was, or their correction of it
    oracle                   the mini world's oracle, asked now (mini profile only)

A detector's answer that could not be read is an image without boxes, counted as a parse failure; an image it was never
asked about, or that timed out, is missing. An importance that nobody gave is NaN. Everything but the oracle is read by
SQL into columns: 30,000 images in a fraction of a second.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.answer.parse import Reason
from schemas.defect import Defect
from schemas.records import Split, Withdrawn
from sdg_data.blobs import Blobs
from sdg_data.errors import ConfigError, InputError
from sdg_data.ids import ID_DIGITS
from sdg_data.metrics.tables import DEGENERATE, FAILED, LABELS, PARSED, SUBTYPES, DefectTable
from sdg_data.store import gold, images, prelabels, prompts, tombstones
from sdg_data.store.connection import Store, Tx
from sdg_data.store.gold import GoldRule
from sdg_data.store.prelabels import Prelabeller
from sdg_data.store.rows import select

KINDS = "gold, gold:unreviewed, prelabel:MODEL, annotator:NAME, source:PREFIX, reviewer:NAME or oracle"
Kind = Literal["gold", "prelabel", "annotator", "source", "reviewer", "oracle"]
_NAMED: dict[str, Kind] = {"prelabel": "prelabel", "annotator": "annotator", "source": "source", "reviewer": "reviewer"}
_PAGE = 500


@dataclass(frozen=True)
class Filter:
    """Which images: of these generators (None: all), of this split."""

    models: tuple[str, ...] | None = None
    split: Split | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        """The filter as named parameters of the SQL that selects images."""
        return {"models": None if self.models is None else list(self.models), "split": self.split}


@dataclass(frozen=True)
class SourceName:
    """The name of a source of defects, as it is written on a command line: a kind, with details after a colon."""

    kind: Kind
    rest: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.rest}" if self.rest else self.kind


def parse_source(text: str) -> SourceName | None:
    """The store source that `text` names.

    Returns:
        The source, or None where the text names none (a file, then).

    Raises:
        ConfigError: The text names a kind of source, but not which one.
    """
    kind, colon, rest = text.partition(":")
    if text == "oracle":
        return SourceName("oracle")
    if text == "gold":
        return SourceName("gold")
    if kind == "gold" and colon:
        if rest != "unreviewed":
            raise ConfigError(f"there is no {text!r}", hint=f"A source of the store is {KINDS}.")
        return SourceName("gold", rest)
    if kind in _NAMED and colon:
        if not rest:
            raise ConfigError(f"{text!r} does not say which", hint=f"A source of the store is {KINDS}.")
        return SourceName(_NAMED[kind], rest)
    return None


@dataclass
class StoreSource:
    """A source of the store, read in one transaction. The oracle also needs `blobs`."""

    store: Store
    source: SourceName
    filter: Filter = field(default_factory=Filter)
    blobs: Blobs | None = None

    @property
    def name(self) -> str:
        """The source's name as it was written on the command line."""
        return str(self.source)

    def read(self) -> DefectTable:
        """Read every image that the source says something about, by ascending id.

        Returns:
            The table.

        Raises:
            InputError: The source says nothing of the chosen images.
        """
        if self.source.kind == "oracle":
            table = _oracle(self.store, self.blobs, self.filter)
        else:
            with self.store.read() as tx:
                table = read_source(tx, self.source, self.filter)
        if not len(table):
            raise InputError(
                "the store holds nothing of this source for the chosen images",
                item=self.name,
                hint="`sdg eval sources` lists what there is.",
            )
        return table


def read_source(tx: Tx, source: SourceName, chosen: Filter) -> DefectTable:
    """Read the defects of a source inside a transaction.

    `ConfigError` is raised for the oracle, whose defects are not in the store.

    Args:
        tx: the transaction.
        source: whose defects.
        chosen: which images.

    Returns:
        The table of the images and their defects; empty where there is nothing.
    """
    return read_owners(tx, _owners(source), _parameters(tx, source, chosen))


def listed(tx: Tx) -> list[dict[str, Any]]:
    """One row a source that the store holds: its name, and how many images it speaks for."""
    strict = sum(gold.count(tx).values())
    rows: list[dict[str, Any]] = [{"source": "gold", "images": strict}]
    loose = sum(gold.count(tx, GoldRule(unreviewed=True)).values())
    if loose > strict:
        rows.append({"source": "gold:unreviewed", "images": loose})
    rows += select(
        tx,
        f"""
        SELECT 'prelabel:' || model AS source, count(DISTINCT image_id) AS images FROM prelabels
        WHERE {tombstones.alive(Withdrawn.PRELABEL, "id")} GROUP BY model ORDER BY model
        """,
    )
    rows += select(
        tx,
        """
        SELECT 'annotator:' || annotator AS source, count(DISTINCT image_id) AS images FROM annotation_states
        WHERE status IN ('defects', 'clean') GROUP BY annotator ORDER BY annotator
        """,
    )
    rows += select(
        tx,
        f"""
        SELECT 'reviewer:' || reviewer AS source, count(DISTINCT annotation_id) AS images FROM reviews
        WHERE verdict <> 'rejected' AND {tombstones.alive(Withdrawn.REVIEW, "id")}
        GROUP BY reviewer ORDER BY reviewer
        """,
    )
    return [row for row in rows if row["images"]]


_IMAGES = f"""
    SELECT images.id AS image_id, variants.model
    FROM images JOIN variants ON variants.id = images.variant_id JOIN prompts ON prompts.id = images.prompt_id
    WHERE ($split::VARCHAR IS NULL OR prompts.split = $split)
      AND ($models::VARCHAR[] IS NULL OR variants.model IN (SELECT unnest($models::VARCHAR[])))
      AND {tombstones.alive(Withdrawn.IMAGE, "images.id")}
"""

_ENRICHED = f"""
    LEFT JOIN (
        SELECT annotation_id, id AS enrichment_id FROM enrichments
        WHERE {tombstones.alive(Withdrawn.ENRICHMENT, "id")}
        QUALIFY row_number() OVER (PARTITION BY annotation_id ORDER BY created_at DESC, id DESC) = 1
    ) AS added USING (annotation_id)
"""

_GOLD = f"""
    SELECT image_id, model, {PARSED} AS outcome, annotation_id, enrichment_id, NULL::VARCHAR AS prelabel_id
    FROM ({gold.PICKED}) JOIN ({_IMAGES}) USING (image_id) {_ENRICHED}
"""

# A skipped task says nothing; where the last word is "cannot judge", there is no claim either.
_SAID = f"""
    SELECT image_id, model, {PARSED} AS outcome, annotation_id, enrichment_id, NULL::VARCHAR AS prelabel_id
    FROM (
        SELECT image_id, annotation_id, status FROM annotation_states
        WHERE status <> 'skipped' AND {{condition}}
        QUALIFY row_number() OVER (PARTITION BY image_id ORDER BY created_at DESC, annotation_id DESC) = 1
    ) JOIN ({_IMAGES}) USING (image_id) {_ENRICHED}
    WHERE status IN ('defects', 'clean')
"""

_REVIEWED = f"""
    annotation_id IN (
        SELECT coalesce(result_id, annotation_id) FROM reviews
        WHERE reviewer = $name AND verdict <> 'rejected' AND {tombstones.alive(Withdrawn.REVIEW, "id")}
    )
"""

# Answers that failed have no row of their own: their ids follow from who was asked, as in planning.
_ASKED = f"""
    WITH chosen AS ({_IMAGES}), answers AS (
        SELECT * FROM prelabels
        WHERE model = $name AND ($template::VARCHAR IS NULL OR template = $template)
          AND {tombstones.alive(Withdrawn.PRELABEL, "id")}
    ), askers AS (
        SELECT unnest($askers::STRUCT("before" VARCHAR, behind VARCHAR)[], recursive := true)
    ), failed AS (
        SELECT image_id, chosen.model, arg_max(code, attempt) AS code
        FROM chosen CROSS JOIN askers
        JOIN failures ON stage = '{prelabels.STAGE}' AND raw IS NOT NULL
            AND item_id = left(sha256("before" || image_id || behind), {ID_DIGITS})
        WHERE image_id NOT IN (SELECT image_id FROM answers) GROUP BY ALL
    )
    SELECT answers.image_id, chosen.model, {PARSED} AS outcome, NULL::VARCHAR AS annotation_id,
           NULL::VARCHAR AS enrichment_id, answers.id AS prelabel_id
    FROM answers JOIN chosen USING (image_id)
    QUALIFY row_number() OVER (PARTITION BY answers.image_id ORDER BY answers.created_at DESC, answers.id DESC) = 1
    UNION ALL
    SELECT image_id, model, if(code = '{Reason.DEGENERATE_REPETITION}', {DEGENERATE}, {FAILED}), NULL, NULL, NULL
    FROM failed WHERE code IN (SELECT unnest($unreadable::VARCHAR[]))
    QUALIFY row_number() OVER (PARTITION BY image_id ORDER BY code) = 1
"""

_COLUMNS = "x0, y0, x1, y1, type, subtype, position"
_DEFECTS = f"""
    SELECT image_id, {_COLUMNS}, reason, CAST(importance AS DOUBLE) AS importance
    FROM eval_owners JOIN prelabel_defects USING (prelabel_id)
    UNION ALL
    SELECT image_id, {", ".join(f"own.{name}" for name in _COLUMNS.split(", "))}, coalesce(added.reason, own.reason),
           if(own.rated, own.importance, added.importance)
    FROM eval_owners JOIN annotation_defects AS own USING (annotation_id)
    LEFT JOIN enrichment_defects AS added
        ON added.enrichment_id = eval_owners.enrichment_id AND added.position = own.position
    ORDER BY image_id, position
"""


def _owners(source: SourceName) -> str:
    """SQL: one row an image, with the annotation (and its enrichment) or the prelabel that speaks for it."""
    match source.kind:
        case "gold":
            return _GOLD
        case "prelabel":
            return _ASKED
        case "annotator":
            return _SAID.format(condition="annotator = $name")
        case "source":
            return _SAID.format(condition="starts_with(source, $name)")
        case "reviewer":
            return _SAID.format(condition=_REVIEWED)
    raise ConfigError("the oracle reads pictures, not the store", item=str(source))


def _parameters(tx: Tx, source: SourceName, chosen: Filter) -> dict[str, Any]:
    match source.kind:
        case "gold":
            return {**gold.parameters(GoldRule(unreviewed=bool(source.rest))), **chosen.parameters}
        case "prelabel":
            model, _, template = source.rest.partition("#")
            return {
                "name": model,
                "template": template or None,
                "askers": _askers(tx, model, template or None),
                "unreadable": [reason.value for reason in Reason],
                **chosen.parameters,
            }
    return {"name": source.rest, **chosen.parameters}


def _askers(tx: Tx, model: str, template: str | None) -> list[dict[str, str]]:
    """Around an image's id, what `Prelabeller.prelabel_id` hashes, for each way in which the model was asked."""
    rows = select(
        tx,
        """
        SELECT DISTINCT model, revision, template, settings FROM prelabels
        WHERE model = ? AND (? IS NULL OR template = ?) ORDER BY ALL
        """,
        [model, template, template],
    )
    around = [Prelabeller(**row).around_image_id for row in rows]
    return [{"before": before, "behind": behind} for before, behind in around]


def _table(owners: pa.Table, defects: pa.Table) -> DefectTable:
    images = _places(defects["image_id"], owners["image_id"])
    counts = np.bincount(images, minlength=len(owners))
    boxes = [defects[name].to_numpy().astype(np.float64) for name in ("x0", "y0", "x1", "y1")]
    return DefectTable(
        keys=tuple(owners["image_id"].to_pylist()),
        groups=tuple(owners["model"].to_pylist()),
        outcomes=owners["outcome"].to_numpy().astype(np.int64),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes=np.stack(boxes, axis=1),
        labels=_places(defects["type"], pa.array(LABELS)),
        importance=defects["importance"].to_numpy().astype(np.float64),
        subtypes=_places(defects["subtype"], pa.array([subtype.value for subtype in SUBTYPES])),
        reasons=tuple(defects["reason"].to_pylist()),
    )


def _places(values: pa.ChunkedArray, names: pa.Array | pa.ChunkedArray) -> NDArray[np.int64]:
    """The place of each value among the names, -1 for none."""
    import pyarrow.compute as pc  # slow to import, and of no use to an evaluation of files

    places: NDArray[np.int64] = pc.index_in(values, value_set=names).fill_null(-1).to_numpy().astype(np.int64)
    return places


def _oracle(store: Store, blobs: Blobs | None, chosen: Filter) -> DefectTable:
    """Ask the oracle about every chosen picture, a page of them at a time."""
    from sdg_data.sheets.cells import ask_oracle, image_of_url

    if blobs is None:
        raise ConfigError("the oracle needs the pictures", item="oracle")
    answers: list[tuple[str, Sequence[Defect]]] = []
    groups: dict[str, str] = {}
    after = ""
    while True:
        with store.read() as tx:
            gone = {tombstone.item_id for tombstone in tombstones.listed(tx, Withdrawn.IMAGE)}
            page = images.page(tx, models=chosen.models, split=chosen.split, after=after, limit=_PAGE)
            texts = prompts.by_ids(tx, list({image.prompt_id for image in page}))
        if not page:
            return DefectTable.from_defects(answers, groups=groups)
        after = page[-1].id
        for image in page:
            if image.id not in gone:
                answers.append((image.id, ask_oracle(image_of_url(blobs, image), texts[image.prompt_id].text)))
                groups[image.id] = image.model


MULTI_ANNOTATED = f"""
    SELECT image_id, annotator, annotation_id FROM first_verdicts
    WHERE status IN ('defects', 'clean') AND image_id IN (SELECT image_id FROM ({_IMAGES}))
    QUALIFY count(*) OVER (PARTITION BY image_id) > 1
    ORDER BY image_id, created_at, annotation_id
"""
"""SQL with `Filter.parameters`: the first verdicts on images that several people judged, earliest first."""


def read_owners(tx: Tx, owners: str, parameters: Mapping[str, Any]) -> DefectTable:
    """The table of what SQL chooses: image_id, model, outcome, annotation_id, enrichment_id, prelabel_id a row.

    `image_id` is any key; `model` becomes the table's group.

    Returns:
        One image for each row, by ascending key.
    """
    tx.execute(f"CREATE OR REPLACE TEMP TABLE eval_owners AS {owners}", parameters)
    try:
        owners_table = tx.sql("SELECT image_id, model, outcome FROM eval_owners ORDER BY image_id").to_arrow_table()
        defects = tx.sql(_DEFECTS).to_arrow_table()
    finally:
        tx.execute("DROP TABLE eval_owners")
    return _table(owners_table, defects)
