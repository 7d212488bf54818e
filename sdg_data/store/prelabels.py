"""The prelabels tables: what a machine said about an image, its raw answer, and one row per defect.

An answer is asked for once: its id is of (image, model, revision, template, settings), so planning is an anti-join on
the id, which SQL works out for itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.records import ImageRecord, Prelabel, Split, Withdrawn
from sdg_data.ids import ID_DIGITS, canonical_json, content_id
from sdg_data.store import cut_prompts, defect_rows, images, prompts, tombstones
from sdg_data.store.connection import Store, Tx
from sdg_data.store.rows import as_record, grouped, select, with_ids

STAGE = "prelabel"


@dataclass(frozen=True)
class Prelabeller:
    """Who is asked, and how: what makes two answers about an image the same question. `settings` is canonical JSON."""

    model: str
    revision: str
    template: str
    settings: str

    def prelabel_id(self, image_id: str) -> str:
        """The id of this prelabeller's answer about an image."""
        return content_id(STAGE, image_id, self.model, self.revision, self.template, self.settings)

    @property
    def around_image_id(self) -> tuple[str, str]:
        """What stands before and after the image's id in the text that `prelabel_id` hashes."""
        rest = canonical_json([self.model, self.revision, self.template, self.settings])
        return f'["{STAGE}","', f'",{rest[1:]}'


@dataclass(frozen=True)
class WantedPrelabels:
    """The answers that there should be: one about every image (of these models, of `split`).

    An image whose answer failed before is passed over unless its last failure has one of the codes `retry`, or
    `retry_all`.
    """

    prelabeller: Prelabeller
    models: tuple[str, ...] | None = None
    split: Split | None = None
    retry: tuple[str, ...] = ()
    retry_all: bool = False


@dataclass(frozen=True)
class Unlabelled:
    """An image that misses its answer, and the prompt it was made from. `attempt` counts from 1.

    `prompt` is the part that the image's model read (`cut_prompts`): nobody, person or machine, is to judge an image by
    what its model never saw.
    """

    id: str
    image: ImageRecord
    prompt: str
    attempt: int


def insert(tx: Tx, records: Sequence[Prelabel]) -> int:
    """Insert the prelabels that are not there yet; returns how many."""
    return defect_rows.insert_with_defects(tx, "prelabels", "prelabel", records, _defects_of)


def by_ids(tx: Tx, ids: Sequence[str]) -> dict[str, Prelabel]:
    """The prelabels with these ids, by id, withdrawn ones too; an id that is not there is left out."""
    rows = with_ids(tx, "prelabels", ids)
    return {record.id: record for record in _records(tx, rows)}


def of_images(tx: Tx, image_ids: Sequence[str], *, model: str | None = None) -> dict[str, list[Prelabel]]:
    """The prelabels of each image that were not withdrawn, oldest first; an image without one is left out."""
    rows = select(
        tx,
        f"""
        SELECT * FROM prelabels
        WHERE image_id IN (SELECT unnest(?::VARCHAR[])) AND (? IS NULL OR model = ?)
          AND {tombstones.alive(Withdrawn.PRELABEL, "id")} AND {tombstones.alive(Withdrawn.IMAGE, "image_id")}
        ORDER BY image_id, created_at, id
        """,
        [list(image_ids), model, model],
    )
    return grouped((record.image_id, record) for record in _records(tx, rows))


def count(tx: Tx, wanted: WantedPrelabels) -> dict[str, int]:
    """How many of the wanted answers are `present`, `failed` (and not to be tried again) and `missing`."""
    row = select(
        tx,
        f"""
        SELECT count(*) FILTER (state = 'present') AS present, count(*) FILTER (state = 'failed') AS failed,
               count(*) FILTER (state = 'missing') AS missing
        FROM ({_STATES})
        """,
        _parameters(wanted),
    )[0]
    return {name: int(number) for name, number in row.items()}


def missing(store: Store, wanted: WantedPrelabels, *, page_rows: int = 2000) -> Iterator[list[Unlabelled]]:
    """The images without their answer, in id order, in pages. The store is open only while a page is read."""
    after = ""
    while True:
        with store.read() as tx:
            rows = select(
                tx,
                f"""
                SELECT image_id, prelabel_id, attempts FROM ({_STATES})
                WHERE state = 'missing' AND image_id > $after ORDER BY image_id LIMIT $limit
                """,
                {**_parameters(wanted), "after": after, "limit": page_rows},
            )
            images_by_id = images.by_ids(tx, [row["image_id"] for row in rows])
            texts = prompts.by_ids(tx, list({image.prompt_id for image in images_by_id.values()}))
            cuts = cut_prompts.of_images(tx, list(images_by_id))
        yield [
            Unlabelled(
                row["prelabel_id"],
                images_by_id[row["image_id"]],
                cut_prompts.read_part(texts[images_by_id[row["image_id"]].prompt_id].text, cuts.get(row["image_id"])),
                int(row["attempts"]) + 1,
            )
            for row in rows
        ]
        if len(rows) < page_rows:
            return
        after = rows[-1]["image_id"]


def failed_about(tx: Tx, image_ids: Sequence[str] | None = None, *, model: str | None = None) -> dict[str, str]:
    """The images about which a detector was asked in vain, and nobody has an answer.

    A failure names its question by a hash, so only those of detectors that have answered about some image are found.

    Args:
        tx: A transaction.
        image_ids: Only these images; None: all.
        model: Only this detector's answers and failures; None: everybody's.

    Returns:
        Image id -> the reason code of the last failure.
    """
    rows = select(
        tx,
        "SELECT DISTINCT model, revision, template, settings FROM prelabels WHERE ? IS NULL OR model = ? ORDER BY ALL",
        [model, model],
    )
    around = [Prelabeller(**row).around_image_id for row in rows]
    rows_of_codes = tx.execute(
        f"""
        WITH askers AS (SELECT unnest($askers::STRUCT("before" VARCHAR, behind VARCHAR)[], recursive := true))
        SELECT images.id, arg_max(failures.code, (failures.created_at, failures.attempt))
        FROM images CROSS JOIN askers
        JOIN failures ON stage = '{STAGE}' AND item_id = left(sha256("before" || images.id || behind), {ID_DIGITS})
        WHERE ($ids::VARCHAR[] IS NULL OR images.id IN (SELECT unnest($ids::VARCHAR[])))
          AND {tombstones.alive(Withdrawn.IMAGE, "images.id")}
          AND images.id NOT IN (
              SELECT image_id FROM prelabels WHERE ($model::VARCHAR IS NULL OR model = $model)
              AND {tombstones.alive(Withdrawn.PRELABEL, "prelabels.id")}
          )
        GROUP BY images.id ORDER BY images.id
        """,
        {
            "askers": [{"before": before, "behind": behind} for before, behind in around],
            "ids": None if image_ids is None else list(image_ids),
            "model": model,
        },
    ).fetchall()
    return dict(rows_of_codes)


def count_by_model(tx: Tx) -> list[dict[str, object]]:
    """One row per model, revision and template: answers, clean ones, repaired ones, defects, cost in USD."""
    return select(
        tx,
        """
        SELECT model, revision, template, count(*) AS answers,
               count(*) FILTER (found = 0) AS clean, count(*) FILTER (len(repairs) > 0) AS repaired,
               sum(found)::BIGINT AS defects, sum(cost) AS cost
        FROM (
            SELECT prelabels.*, count(prelabel_defects.position) AS found
            FROM prelabels LEFT JOIN prelabel_defects ON prelabel_id = prelabels.id GROUP BY ALL
        )
        GROUP BY model, revision, template ORDER BY model, revision, template
        """,
    )


_STATES = f"""
    SELECT wanted.image_id, prelabel_id, coalesce(last.attempts, 0) AS attempts,
           CASE WHEN prelabels.id IS NOT NULL THEN 'present'
                WHEN last.code IS NULL OR $retry_all OR last.code IN (SELECT unnest($retry::VARCHAR[])) THEN 'missing'
                ELSE 'failed' END AS state
    FROM (
        SELECT images.id AS image_id, left(sha256($before || images.id || $behind), {ID_DIGITS}) AS prelabel_id
        FROM images JOIN prompts ON prompts.id = images.prompt_id JOIN variants ON variants.id = images.variant_id
        WHERE ($split::VARCHAR IS NULL OR prompts.split = $split)
          AND ($models::VARCHAR[] IS NULL OR variants.model IN (SELECT unnest($models::VARCHAR[])))
          AND {tombstones.alive(Withdrawn.IMAGE, "images.id")}
    ) AS wanted
    LEFT JOIN prelabels ON prelabels.id = prelabel_id
    LEFT JOIN (
        SELECT item_id, max(attempt) AS attempts, arg_max(code, attempt) AS code
        FROM failures WHERE stage = '{STAGE}' GROUP BY item_id
    ) AS last ON last.item_id = prelabel_id
"""


def _parameters(wanted: WantedPrelabels) -> dict[str, Any]:
    before, behind = wanted.prelabeller.around_image_id
    return {
        "before": before,
        "behind": behind,
        "split": wanted.split,
        "models": None if wanted.models is None else list(wanted.models),
        "retry": list(wanted.retry),
        "retry_all": wanted.retry_all,
    }


def _defects_of(record: Prelabel) -> list[dict[str, Any]]:
    return [defect_rows.as_row(position, defect) for position, defect in enumerate(record.defects)]


def _records(tx: Tx, rows: Sequence[dict[str, Any]]) -> list[Prelabel]:
    defects = defect_rows.of_owners(tx, "prelabel_defects", "prelabel_id", [row["id"] for row in rows])
    return [
        Prelabel(
            **{
                **row,
                "repairs": tuple(row["repairs"]),
                "created_at": as_record(row["created_at"]),
                "defects": tuple(defect_rows.as_defect(defect) for defect in defects.get(row["id"], ())),
            }
        )
        for row in rows
    ]
