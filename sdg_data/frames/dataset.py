"""`sdg_data.open`: a store to look at, as of one moment.

Opening publishes a snapshot and reads that, so that no command waits for a notebook and a notebook's tables agree with
each other. Frames whose number of rows grows with the images are lazy: polars reads the columns that a query needs, in
batches. Nothing here changes the store.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

import duckdb
import polars as pl
from polars.io.plugins import register_io_source

from sdg_data.blobs import Blobs
from sdg_data.errors import InputError, StoreError
from sdg_data.frames import queries
from sdg_data.frames.pictures import Shown, drawn
from sdg_data.metrics.matching import pairwise_box_f1
from sdg_data.settings import load_settings
from sdg_data.sheets.cells import cells_of
from sdg_data.store import first_verdicts, image_list, images, snapshot, views
from sdg_data.store.connection import Store, Tx
from sdg_data.store.prelabels import Prelabeller
from sdg_data.store.rows import select

_BATCH = 100_000
_AGREEMENT = pl.Schema(
    {
        "image_id": pl.String(),
        "annotators": pl.List(pl.String()),
        "artifact_f1": pl.Float64(),
        "misalignment_f1": pl.Float64(),
        "same_answer": pl.Boolean(),
    }
)
_LATEST = "SELECT max(version) FROM snapshot.schema_versions"


class ImageList(tuple[str, ...]):
    """Ids of images that somebody chose, for the commands that take `--images FILE`."""

    def write(self, path: "str | Path", *, heading: str = "") -> Path:
        """Write the list: one id a line.

        Args:
            path: The file; one that is there is replaced.
            heading: What the list is, written above it as a comment.

        Returns:
            The file.

        Raises:
            InputError: The file cannot be written.
        """
        image_list.write(Path(path), self, heading=heading)
        return Path(path)


Images = pl.DataFrame | pl.LazyFrame | pl.Series | Iterable[str]
"""Chosen images: a frame with a column `image_id`, or ids."""


class Dataset:
    """A store as of one moment. `sdg_data.open` makes it; close it, or use it in a `with`, to let the snapshot go."""

    def __init__(self, home: Path, connection: Tx, blobs: Blobs) -> None:
        self.home = home
        self._connection = connection
        self._blobs = blobs

    @property
    def prompts(self) -> pl.LazyFrame:
        """A row a prompt: its text, source, licence, split, and how many images there are of it."""
        return self._lazy(queries.PROMPTS)

    @property
    def images(self) -> pl.LazyFrame:
        """A row an image: what made it from which prompt, its size, and what is known of its defects.

        `prelabels` and `people` are the numbers of detectors' answers and of people who judged it by themselves. `gold`
        is "clean", "defects" or null; `artifacts`, `misalignments` and `worst` (the highest importance) are gold's.
        """
        return self._lazy(queries.IMAGES)

    @property
    def defects(self) -> pl.LazyFrame:
        """A row a defect, whoever said so: `source` is "annotation" or "prelabel", `by` the person or the model.

        Boxes are in thousandths of the image's width and height. `gold` marks the defects that count. Reasons and
        missing importances of an annotation are those of its last enrichment, where there is one.
        """
        return self._lazy(queries.DEFECTS)

    @property
    def gold(self) -> pl.LazyFrame:
        """A row an image that has gold: whose annotation counts, who accepted it, and how many defects it has."""
        return self._lazy(queries.GOLD)

    @property
    def prelabels(self) -> pl.LazyFrame:
        """A row an answer of a detector."""
        return self._lazy(queries.PRELABELS)

    @property
    def annotations(self) -> pl.LazyFrame:
        """A row a version of a person's annotation.

        `mode` (prelabelled, blind, no prelabel, review) and `seconds` are those of the view `person_work`, which counts
        each answer once: they are null for versions that a later one replaced.
        """
        return self._lazy(queries.ANNOTATIONS)

    @cached_property
    def agreement(self) -> pl.DataFrame:
        """A row an image that several people judged by themselves: BoxF1@0.5 between each two of them, on average.

        `same_answer` says whether all of them agree that the image has a defect, or that it has none.
        """
        rows = []
        with self._cursor() as tx:
            several = select(
                tx,
                """
                SELECT DISTINCT image_id FROM first_verdicts WHERE status IN ('defects', 'clean')
                QUALIFY count(*) OVER (PARTITION BY image_id) > 1
                """,
            )
            verdicts = first_verdicts.of_images(tx, [row["image_id"] for row in several])
        for image, people in sorted(verdicts.items()):
            drawn_by = [[item.defect for item in annotation.defects] for annotation in people]
            f1s = {f"{kind}_f1": value for kind, value in pairwise_box_f1(drawn_by).items()}
            same = len({bool(defects) for defects in drawn_by}) == 1
            names = [annotation.annotator for annotation in people]
            rows.append({"image_id": image, "annotators": names, **f1s, "same_answer": same})
        return pl.DataFrame(rows, schema=_AGREEMENT)

    @cached_property
    def failures(self) -> pl.DataFrame:
        """A row a failure: what failed in which stage, with its code; `image_id` where the item belongs to an image."""
        with self._cursor() as tx:
            asked = select(tx, "SELECT DISTINCT model, revision, template, settings FROM prelabels ORDER BY ALL")
            around = [Prelabeller(**row).around_image_id for row in asked]
            askers = [{"before": before, "behind": behind} for before, behind in around]
            frame: pl.DataFrame = tx.sql(queries.FAILURES, params={"askers": askers}).pl()
            return frame

    def sql(self, query: str) -> pl.DataFrame:
        """The result of any query on the store's tables and views (docs/notebooks.md).

        Args:
            query: One query in DuckDB's dialect.

        Returns:
            Its rows.

        Raises:
            InputError: The query is wrong, or is none that only reads.
        """
        with self._cursor() as tx:
            try:
                kinds = [statement.type for statement in tx.extract_statements(query)]
                if kinds != [duckdb.StatementType.SELECT]:
                    raise InputError("one query that reads, please", item=query.strip()[:80])
                frame: pl.DataFrame = tx.sql(query).pl()
                return frame
            except duckdb.Error as error:
                raise InputError(str(error).splitlines()[0], item=query.strip()[:80]) from error

    def select(self, chosen: "pl.Expr | str | Images") -> ImageList:
        """Choose images, for the commands that take `--images FILE`.

        Args:
            chosen: A condition on the columns of `images`, as an expression of polars or as text
                (`"model = 'sana' AND artifacts > 2"`); or a frame with a column `image_id`; or ids.

        Returns:
            Their ids, each once, in the order of the frame, or by id where a condition chose.

        Raises:
            InputError: The condition does not fit the columns, or an id is not in the store.
        """
        if isinstance(chosen, str):
            chosen = self._condition(chosen)
        if isinstance(chosen, pl.Expr):
            return ImageList(self._ids(self.images.filter(chosen)))
        ids = tuple(dict.fromkeys(self._ids(chosen)))
        with self._cursor() as tx:
            image_list.check(tx, ids, item="select")
        return ImageList(ids)

    def show(
        self,
        chosen: "str | Images",
        *,
        boxes: str = "auto",
        tile: int | None = None,
        limit: int = 24,
    ) -> Shown:
        """Draw images with their boxes; a notebook shows what is returned.

        Args:
            chosen: An image's id or the beginning of it, ids, or a frame with a column `image_id`.
            boxes: Whose: auto (gold, else what a person said, else a detector), none, gold, annotations, prelabels,
                prelabels:MODEL or oracle.
            tile: The side of an image in pixels.
            limit: The most images of a list that are drawn.

        Returns:
            The sheet; `picture` is it as an image of Pillow.

        Raises:
            InputError: There is no such image, or several begin so.
            ConfigError: There are no such boxes.
            BlobError: The picture is missing, or cannot be read.
            ValueError: `tile` is too small.
        """
        with self._cursor() as tx:
            if isinstance(chosen, str):
                ids = [self._whole_id(tx, chosen)]
            else:
                ids = list(dict.fromkeys(self._ids(chosen)))[: max(limit, 0)]
                image_list.check(tx, ids, item="show")
            if not ids:
                raise InputError("there are no images to show", item="show")
            records = images.by_ids(tx, ids)
            return drawn(cells_of(tx, self._blobs, [records[key] for key in ids], boxes=boxes), tile=tile)

    def close(self) -> None:
        """Let the snapshot go; frames that were collected stay."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        with self._cursor() as tx:
            counts = {
                name: tx.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0]
                for name in ("prompts", "images", "prelabels", "annotations", "gold", "failures")
            }
        return f"<{self.home}: {', '.join(f'{name} {number}' for name, number in counts.items())}>"

    def _condition(self, text: str) -> pl.Expr:
        try:
            return pl.sql_expr(text)
        except pl.exceptions.PolarsError as error:
            raise InputError(f"no condition that polars reads ({error})", item=text[:80]) from error

    def _ids(self, chosen: Images) -> list[str]:
        if not isinstance(chosen, Iterable | pl.DataFrame | pl.LazyFrame):
            raise InputError("images are chosen by ids, or by a frame with a column image_id", item=repr(chosen)[:80])
        if isinstance(chosen, pl.DataFrame | pl.LazyFrame):
            try:
                chosen = chosen.lazy().select("image_id").collect().to_series()
            except pl.exceptions.PolarsError as error:
                known = ", ".join(self.images.collect_schema().names())
                why = str(error).splitlines()[0].partition("; valid columns")[0]  # the hint names them
                raise InputError(
                    f"cannot choose images so ({why})",
                    item="select",
                    hint=f"The columns of `images`: {known}. A frame needs a column image_id.",
                ) from error
        return [str(key) for key in chosen]

    def _whole_id(self, tx: Tx, beginning: str) -> str:
        rows = tx.execute("SELECT id FROM images WHERE starts_with(id, ?) LIMIT 2", [beginning]).fetchall()
        if len(rows) != 1 or not beginning:
            raise InputError(
                "several images begin so" if rows else "there is no such image", item=beginning or "an empty id"
            )
        return str(rows[0][0])

    def _lazy(self, sql: str) -> pl.LazyFrame:
        """The rows of a query, read when they are needed, each time by a cursor of its own."""
        with self._cursor() as tx:
            schema = tx.sql(f"SELECT * FROM ({sql}) LIMIT 0").pl().schema

        def scan(
            columns: list[str] | None, predicate: pl.Expr | None, rows: int | None, batch: int | None
        ) -> Iterator[pl.DataFrame]:
            names = ", ".join(f'"{name}"' for name in columns) if columns else "*"
            end = f" LIMIT {rows}" if rows is not None and predicate is None else ""
            with self._cursor() as tx:
                for part in tx.sql(f"SELECT {names} FROM ({sql}){end}").to_arrow_reader(batch or _BATCH):
                    frame = pl.DataFrame(pl.from_arrow(part))
                    yield frame if predicate is None else frame.filter(predicate)

        return register_io_source(scan, schema=schema, is_pure=True)

    @contextlib.contextmanager
    def _cursor(self) -> Iterator[Tx]:
        try:
            cursor = self._connection.cursor()
        except duckdb.Error as error:
            raise InputError("the dataset is closed", item=str(self.home), hint="Open it again.") from error
        with contextlib.closing(cursor):
            cursor.execute("SET search_path = 'memory.main,snapshot.main'")
            views.refresh(cursor, temporary=True)
            yield cursor


def open_dataset(home: "str | os.PathLike[str] | None" = None, *, publish: bool = True) -> Dataset:
    """Open a store for reading.

    Args:
        home: The folder of the store; None: `SDG_HOME`, else `data`.
        publish: Whether to publish a snapshot of the store as it is now. Otherwise the last published one is read.

    Returns:
        The store as of that moment.

    Raises:
        StoreError: There is no store, no snapshot can be published, or the last one is of an older version.
    """
    settings = load_settings(home=None if home is None else Path(home))
    store = Store(settings.home)
    path = snapshot.publish(store) if publish else snapshot.snapshot_path(settings.home)
    if not path.exists():
        raise StoreError("no snapshot was published yet", item=str(path), hint="Open it without publish=False.")
    connection = duckdb.connect(config={"autoinstall_known_extensions": False})
    try:
        connection.execute("SET enable_progress_bar = false")
        # Attached, not opened: DuckDB would take a snapshot that replaced another for the one that it has open.
        quoted = str(path).replace("'", "''")
        connection.execute(f"ATTACH '{quoted}' AS snapshot (READ_ONLY)")
        ((version,),) = connection.execute(_LATEST).fetchall()
        if version != store.latest:
            raise StoreError(
                f"the snapshot has schema version {version}, this software {store.latest}",
                item=str(path),
                hint="Open it without publish=False, which makes a new one.",
            )
        connection.execute("SET search_path = 'memory.main,snapshot.main'")
        connection.execute("CREATE TABLE memory.main.annotation_states AS SELECT * FROM snapshot.annotation_states")
    except duckdb.Error as error:
        connection.close()
        hint = "Open it without publish=False, which makes a new one."
        raise StoreError(str(error).splitlines()[0], item=str(path), hint=hint) from error
    except StoreError:
        connection.close()
        raise
    return Dataset(settings.home, connection, Blobs(settings.blob_url))
