"""Where pools and scores come from: the store's images, its sources of defects, and tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from schemas.records import Split
from sdg_data.blobs import Blobs
from sdg_data.console import Names
from sdg_data.errors import ConfigError, InputError
from sdg_data.ingest.tables import strict_rows
from sdg_data.metrics.store_sources import KINDS, Filter, StoreSource, parse_source
from sdg_data.selection.verifiers import Pools, Scores, burden_scores, mean_rank, pessimistic
from sdg_data.store import images, refinements
from sdg_data.store.connection import Store, Tx

ENSEMBLES = ("mean-rank", "pessimistic")
IMAGE_COLUMNS = ("image_id", "key")
"""The columns of a table that may hold the image's id; `key` is what a detector's `maps.jsonl` calls it."""


def pools_of(tx: Tx, models: Sequence[str] | None = None, split: Split | None = None) -> dict[str, tuple[str, ...]]:
    """The images of each prompt and model, among which one is chosen.

    Args:
        tx: A transaction.
        models: Only these models; None: all but those of edits, which are no samples of a prompt.
        split: Only prompts of this split; None: of both.

    Returns:
        `PROMPT_ID/MODEL` -> image ids, by sample.
    """
    edits = refinements.candidate_ids(tx) if models is None else set()
    pools: dict[str, list[tuple[int, str]]] = {}
    for record in images.page(tx, models=models, split=split):
        if record.id in edits:
            continue
        pools.setdefault(f"{record.prompt_id}/{record.model}", []).append((record.sample, record.id))
    return {pool: tuple(image for _, image in sorted(members)) for pool, members in sorted(pools.items())}


def all_scores(
    store: Store,
    blobs: Blobs,
    sources: Mapping[str, str],
    pools: Pools,
    *,
    weights: tuple[float, float] = (1.0, 1.0),
    penalty: float = 1.0,
    chosen: Filter = Filter(),  # noqa: B008
) -> dict[str, Scores]:
    """The scores of verifiers by their names, ensembles after those that they are made of.

    Args:
        store: The store.
        blobs: Its blobs, which the oracle reads.
        sources: Name -> a source of the store (its negative burden counts), a table with `image_id` and `score`
            (`FILE#COLUMN` for another column), `mean-rank:A,B` or `pessimistic:A,B` of verifiers named here.
        pools: The images.
        weights: Of artifacts and misalignments in a burden.
        penalty: λ of `pessimistic`.
        chosen: Which images of the store's sources.

    Returns:
        Name -> scores.

    Raises:
        ConfigError: A name or a source is wrong.
    """
    scores: dict[str, Scores] = {}
    for name, source in sources.items():
        kind, _, rest = source.partition(":")
        if kind not in ENSEMBLES:
            scores[name] = _scores(store, blobs, name, source, weights, chosen)
            continue
        members = Names.parse(rest)
        unknown = [member for member in members if member not in scores]
        if unknown or not members:
            raise ConfigError(
                f"{source!r} is made of {', '.join(unknown) or 'nothing'}, which is not there",
                item=name,
                hint="Name the members first, each with a --verifier of its own.",
            )
        parts = [scores[member] for member in members]
        scores[name] = mean_rank(parts, pools) if kind == "mean-rank" else pessimistic(parts, pools, penalty)
    return scores


def _scores(store: Store, blobs: Blobs, name: str, source: str, weights: tuple[float, float], chosen: Filter) -> Scores:
    parsed = parse_source(source)
    if parsed is not None:
        return burden_scores(StoreSource(store, parsed, chosen, blobs).read(), weights)
    path, _, column = source.partition("#")
    if not Path(path).is_file():
        raise ConfigError(
            f"{source!r} is neither a source of the store nor a file",
            item=name,
            hint=f"A source is {KINDS}; a table has image_id and score.",
        )
    return table_scores(Path(path), column or "score")


def table_scores(path: Path, column: str) -> dict[str, float]:
    """Scores from a table with the columns `image_id` (or `key`) and `column`; an empty cell was not judged.

    Raises:
        InputError: The table cannot be read, a column is not there, a score is no number, or an image is there twice.
    """
    scores: dict[str, float] = {}
    for line, cells in strict_rows(path):
        place = f"{path}, line {line}"
        named = next((name for name in IMAGE_COLUMNS if name in cells), None)
        if named is None or column not in cells:
            raise InputError(f"a row needs the columns image_id and {column}", item=place)
        image, value = str(cells[named]), cells[column]
        if image in scores:
            raise InputError(f"image {image} is there twice", item=place)
        try:
            scores[image] = np.nan if value in (None, "") else float(value)
        except (TypeError, ValueError) as error:
            raise InputError(f"{value!r} is no number", item=place) from error
        if np.isinf(scores[image]):
            raise InputError("an infinite score cannot be compared", item=place)
    if not scores:
        raise InputError("the table is empty", item=str(path))
    return scores
