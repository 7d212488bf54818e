"""Maps of images: each image as a point, so that alike ones lie near each other.

A map is a folder `HOME/maps/NAME`: `about.json` says which model saw the images, `features-*.parquet` hold what it saw
(a vector an image, half precision), and `places.parquet` the points. A run adds the vectors that are missing, some
hundred images a file, so that a killed one goes on; the points are made anew from all vectors in the end.

`sdg images map` writes maps, the dashboards draw them. Nothing here knows a model, or the store.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy import linalg

from sdg_data.errors import ConfigError, InputError, MissingDependency

MAPS: Final = "maps"
PCA, UMAP = "pca", "umap"
METHODS: Final = (PCA, UMAP)
SIDE: Final = 10_000
"""A map's longer side in the whole numbers that pages and addresses count in (`Places.grid`)."""
_FEW: Final = 5
"""UMAP wants more images than this."""
_PLACES: Final = pl.Schema({"image_id": pl.String(), "x": pl.Float32(), "y": pl.Float32()})

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class About:
    """What a map is of. `axes` say what its two directions are, once there are points."""

    model: str
    revision: str
    seen_as: str
    method: str = PCA
    axes: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Places:
    """The points of a map: `points` has a row (x, y) for each of `image_ids`."""

    about: About
    image_ids: Sequence[str]
    points: Vectors

    def grid(self) -> NDArray[np.int32]:
        """The points in whole numbers from 0 to `SIDE`, both directions in one scale, so that distances stay true."""
        if not len(self.points):
            return np.zeros((0, 2), np.int32)
        low = self.points.min(axis=0)
        span = float((self.points.max(axis=0) - low).max()) or 1.0
        grid: NDArray[np.int32] = np.rint((self.points - low) / span * SIDE).astype(np.int32)
        return grid


def names(home: Path) -> list[str]:
    """The maps of a home that have points."""
    return sorted(path.parent.name for path in (home / MAPS).glob("*/places.parquet"))


def load(home: Path, name: str) -> Places:
    """Read the points of a map.

    Raises:
        InputError: There is no such map, or its files cannot be read.
    """
    if name not in names(home):
        raise InputError(f"there is no such map in {home / MAPS}", item=name[:80], hint="`sdg images map` makes one.")
    folder = home / MAPS / name
    try:
        frame = pl.read_parquet(folder / "places.parquet").cast(_PLACES)
        about = read_about(folder)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"the map cannot be read ({str(error).splitlines()[0]})", item=str(folder)) from error
    if about is None:
        raise InputError("the map lacks its about.json", item=str(folder))
    return Places(about, frame["image_id"].to_list(), frame.select("x", "y").to_numpy())


def read_about(folder: Path) -> About | None:
    """What the map of a folder is of; None where nothing has been begun there.

    Raises:
        InputError: Its `about.json` is none.
    """
    path = folder / "about.json"
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return About(**{**values, "axes": tuple(values["axes"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"cannot be read ({error})", item=str(path)) from error


def begin(folder: Path, about: About) -> None:
    """Begin a map, or go on with the one that is there.

    Raises:
        ConfigError: The one that is there is of another model, or of another state of it.
        InputError: Its files cannot be read or written.
    """
    before = read_about(folder)
    if before is not None and (before.model, before.revision, before.seen_as) != (
        about.model,
        about.revision,
        about.seen_as,
    ):
        raise ConfigError(
            f"the map that is there was seen by {before.model} ({before.revision[:12]}), not by {about.model} "
            f"({about.revision[:12]})",
            item=str(folder),
            hint="Give this one a name of its own: --name NAME.",
        )
    if before is None:
        _write(folder / "about.json", json.dumps(asdict(about), indent=1).encode())


def seen(folder: Path) -> set[str]:
    """The images whose vectors the map has."""
    return {image for ids, _ in _parts(folder, columns=["image_id"]) for image in ids}


def add_features(folder: Path, image_ids: Sequence[str], vectors: Vectors) -> None:
    """Keep the vectors of some images; the file is there whole or not at all.

    Raises:
        InputError: It cannot be written.
    """
    halves = np.ascontiguousarray(vectors, np.float16)
    table = pa.table(
        {
            "image_id": pa.array(list(image_ids), pa.string()),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(halves.ravel()), halves.shape[1]),
        }
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    _write(folder / f"features-{image_ids[0]}.parquet", sink.getvalue().to_pybytes())


def place(folder: Path, method: str, wanted: set[str]) -> int:
    """Make the points of a map from the vectors of the images that are wanted.

    Args:
        folder: The map's.
        method: One of `METHODS`.
        wanted: The images; vectors of others stay, but get no point.

    Returns:
        How many images have a point.

    Raises:
        InputError: No image has a vector, or the vectors are of several lengths.
        MissingDependency: UMAP is not installed.
    """
    by_image: dict[str, Vectors] = {}
    for ids, vectors in _parts(folder):
        by_image.update((image, row) for image, row in zip(ids, vectors, strict=True) if image in wanted)
    if not by_image:
        raise InputError("no image has been seen yet", item=str(folder))
    if len({len(row) for row in by_image.values()}) > 1:
        raise InputError(
            "its vectors are of several lengths", item=str(folder), hint="Remove the folder, and begin anew."
        )
    image_ids = sorted(by_image)
    points, axes = project(np.stack([by_image[image] for image in image_ids]), method)
    frame = pl.DataFrame({"image_id": image_ids, "x": points[:, 0], "y": points[:, 1]}, schema=_PLACES)
    unfinished = folder / ".places.part"
    try:
        frame.write_parquet(unfinished)
        about = read_about(folder)
        if about is not None:
            values = {**asdict(about), "method": method, "axes": axes}
            _write(folder / "about.json", json.dumps(values, indent=1).encode())
        unfinished.replace(folder / "places.parquet")
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror or error})", item=str(folder)) from error
    return len(image_ids)


def project(vectors: Vectors, method: str = PCA) -> tuple[Vectors, tuple[str, str]]:
    """Vectors as points of a plane.

    Args:
        vectors: (n, length).
        method: One of `METHODS`.

    Returns:
        The points (n, 2), and what each direction is.

    Raises:
        ConfigError: There is no such method.
        InputError: UMAP was asked about too few images.
        MissingDependency: UMAP is not installed.
    """
    if method == PCA:
        return _principal_components(vectors)
    if method != UMAP:
        raise ConfigError(f"points are made by {' or '.join(METHODS)}", item=method[:40])
    if len(vectors) <= _FEW:
        raise InputError(f"UMAP wants more than {_FEW} images", item=f"{len(vectors)} images", hint=f"--method {PCA}")
    try:
        import umap  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise MissingDependency(
            "umap-learn is not installed", item="--method umap", hint="pip install umap-learn"
        ) from error
    neighbours = min(15, len(vectors) - 1)
    points = umap.UMAP(n_components=2, n_neighbors=neighbours, random_state=0).fit_transform(vectors)
    return np.asarray(points, np.float32), ("UMAP 1", "UMAP 2")


def _principal_components(vectors: Vectors) -> tuple[Vectors, tuple[str, str]]:
    """The two directions in which the vectors differ most; each points to where its largest part is positive."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    length = centred.shape[1]
    covariance = centred.T @ centred / len(centred)
    kept = min(2, length)
    shares, directions = linalg.eigh(covariance, subset_by_index=[length - kept, length - 1])
    shares, directions = shares[::-1], directions[:, ::-1]
    signs = np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(kept)])
    points = np.zeros((len(centred), 2), np.float32)
    points[:, :kept] = centred @ (directions * signs)
    total = float(np.trace(covariance))
    axes = [
        f"component {place + 1}"
        + (f", {100 * max(0.0, shares[place]) / total:.0f} % of the variance" if total > 0 else "")
        if place < kept
        else "nothing"
        for place in range(2)
    ]
    return points, (axes[0], axes[1])


def inside(polygon: NDArray[np.float64], points: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which points lie in a polygon, by the even-odd rule; pages compute the same in the browser.

    Args:
        polygon: Its corners, (m, 2); the last one joins the first.
        points: (n, 2).
    """
    result = np.zeros(len(points), np.bool_)
    x, y = points[:, 0].astype(np.float64), points[:, 1].astype(np.float64)
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, 1, axis=0), strict=True):
        if y0 == y1:
            continue
        result ^= ((y0 > y) != (y1 > y)) & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    return result


def _parts(folder: Path, columns: Sequence[str] | None = None) -> Iterator[tuple[list[str], Vectors]]:
    """The files with vectors, one after another: ids and vectors (empty where `columns` leaves them out).

    Raises:
        InputError: One cannot be read.
    """
    for path in sorted(folder.glob("features-*.parquet")):
        try:
            table = pq.read_table(path, columns=None if columns is None else list(columns))
        except (OSError, pa.ArrowException) as error:
            raise InputError(
                f"cannot be read ({error})", item=str(path), hint="Remove it: its images are looked at again."
            ) from error
        ids: list[str] = table["image_id"].to_pylist()
        if "vector" not in table.column_names:
            yield ids, np.zeros((len(ids), 0), np.float32)
            continue
        flat: Mapping[str, Any] = table["vector"].combine_chunks()
        yield ids, np.asarray(flat.flatten()).astype(np.float32).reshape(len(ids), -1)  # type: ignore[attr-defined]


def _write(path: Path, data: bytes) -> None:
    """Write a file; it is there whole or not at all.

    Raises:
        InputError: It cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(data)
        unfinished.replace(path)
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror or error})", item=str(path)) from error
