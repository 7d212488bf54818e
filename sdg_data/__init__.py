"""The core: where data lives, how work runs, how it is measured and looked at."""

from typing import TYPE_CHECKING

from sdg_data import shadowing

if TYPE_CHECKING:
    import os

    from sdg_data.frames.dataset import Dataset

shadowing.require("schemas")
shadowing.warn("generators", "annotate", "exports", "trainers")


def open(home: "str | os.PathLike[str] | None" = None, *, publish: bool = True) -> "Dataset":
    """A store for a notebook: its tables as polars frames, pictures with their boxes, lists of images.

    `StoreError` is raised where there is no store, or no snapshot of it.

    Args:
        home: The folder of the store; None: `SDG_HOME`, else `data`.
        publish: Whether to publish a snapshot of the store as it is now. Otherwise the last published one is read.

    Returns:
        The store as of that moment, read-only (docs/notebooks.md).
    """
    from sdg_data.frames.dataset import open_dataset

    return open_dataset(home, publish=publish)
