"""The store's schema, one file per step, applied in order, in one transaction. A released step is never edited.

A migration is a module with `VERSION: int` and `up(connection) -> None`. To change the schema, add `mNNNN_what.py` with
the next number and name it below.

There are no primary keys: their index makes the file four times as large, and every insert goes through an anti-join
under the store's write lock, which promises the same. Times are TIMESTAMP in UTC (TIMESTAMPTZ needs pytz to be read).
"""

from collections.abc import Callable
from typing import Protocol

import duckdb

from sdg_data.store.migrations import (
    m0001_prompts_images,
    m0002_failures,
    m0003_prelabels,
    m0004_annotations,
    m0005_labelling,
    m0006_reviewing,
    m0007_imports,
    m0008_cut_prompts,
    m0009_studies,
    m0010_label_trust,
    m0011_rewritten_prompts,
    m0012_kept_answers,
    m0013_known_answers,
    m0014_refinements,
    m0015_box_verdicts,
)


class Migration(Protocol):
    """Interface of a migration module: a version number, and a function `up` that reaches it."""

    VERSION: int

    @property
    def up(self) -> Callable[[duckdb.DuckDBPyConnection], None]:
        """Change the schema from VERSION - 1 to VERSION."""


MIGRATIONS: tuple[Migration, ...] = (
    m0001_prompts_images,
    m0002_failures,
    m0003_prelabels,
    m0004_annotations,
    m0005_labelling,
    m0006_reviewing,
    m0007_imports,
    m0008_cut_prompts,
    m0009_studies,
    m0010_label_trust,
    m0011_rewritten_prompts,
    m0012_kept_answers,
    m0013_known_answers,
    m0014_refinements,
    m0015_box_verdicts,
)
