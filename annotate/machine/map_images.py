"""`sdg images map`: look at every image with a model's vision tower, and place alike ones near each other.

The map is a folder of files in the home (`sdg_data.image_maps`); the store is only read. A killed run goes on where the
last file of vectors ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Protocol

import typer

from sdg_data.console import command_lock, print_json, say, settings_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from annotate.vlm.contract import EncodedImage, Identity
    from sdg_data.blobs import Blobs
    from sdg_data.settings import Settings, VlmSettings
    from sdg_data.store.connection import Store

PART: Final = 256
"""Images whose vectors are kept in one file: as many as a killed run looks at again."""
_NAMED: Final = 5


class Tower(Protocol):
    """What sees images: a detector on this machine, or CLIP."""

    identity: Identity

    def prepare(self, data: bytes, media_type: str) -> EncodedImage:
        """An image as `see` takes it."""
        ...

    def see(self, images: Sequence[EncodedImage]) -> NDArray[np.float32]:
        """One vector an image."""
        ...


@dataclass
class MapCounts:
    """What a run came to: images looked at now, there already, without a vector and why, and with a point."""

    looked: int = 0
    already: int = 0
    left_out: dict[str, str] = field(default_factory=dict)
    placed: int = 0


def map_command(
    ctx: typer.Context,
    model: Annotated[
        str | None, typer.Option("--model", help="A detector: a folder, or a hub repository [default: the profile's]")
    ] = None,
    clip: Annotated[
        str | None, typer.Option("--clip", help="A CLIP or SigLIP model instead: a folder, or a hub repository")
    ] = None,
    revision: Annotated[str | None, typer.Option("--revision", help="The state of the model's weights")] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="What the map is called [default: the model's name]")
    ] = None,
    method: Annotated[str, typer.Option(help="How points are made: pca, or umap (pip install umap-learn)")] = "pca",
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images the model sees at once")] = None,
    wait: Annotated[bool, typer.Option(help="Wait for another run on this home, or leave at once")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout")] = False,
) -> None:
    """Place images by what a model's vision tower sees: the page Map of the dashboards. Killed: run it again.

    Exit code 10: some images could not be looked at, and have no place.
    """
    from sdg_data import image_maps
    from sdg_data.blobs import Blobs
    from sdg_data.errors import ConfigError, ExitCode
    from sdg_data.store.connection import Store

    if method not in image_maps.METHODS:
        raise ConfigError(f"points are made by {' or '.join(image_maps.METHODS)}", item=f"--method {method[:40]}")
    settings = settings_of(ctx)
    store = Store(settings.home)
    with store.read():
        pass  # says what is missing before a model is loaded
    section = _section(settings, model, clip, revision, batch_size)
    tower = make_tower(section, clip=clip is not None)
    folder = settings.home / image_maps.MAPS / _name(name or tower.identity.model)
    about = image_maps.About(tower.identity.model, tower.identity.revision, "clip" if clip else "vision tower")
    with command_lock(settings, "map", wait=wait):
        image_maps.begin(folder, about)
        done = look(store, Blobs(settings.blob_url), tower, folder, section.batch_size)
        done.placed = image_maps.place(folder, method, wanted(store))
    say(f"{done.looked} images looked at, {done.already} before; {done.placed} have a place on the map {folder.name}")
    for image, reason in list(done.left_out.items())[:_NAMED]:
        say(f"left out: {image}: {reason}")
    if len(done.left_out) > _NAMED:
        say(f"left out: {len(done.left_out) - _NAMED} more")
    if as_json:
        print_json(
            {
                "map": folder.name,
                "folder": str(folder),
                "looked": done.looked,
                "already": done.already,
                "placed": done.placed,
                "left_out": done.left_out,
            }
        )
    if done.left_out:
        raise typer.Exit(int(ExitCode.PARTIAL))


def make_tower(section: VlmSettings, *, clip: bool) -> Tower:
    """What sees the images.

    Raises:
        ModelError: It is not there, or asks a server, which shows nobody its vision tower.
    """
    from annotate.vlm.clip import ClipTower
    from annotate.vlm.local import LocalBackend
    from sdg_data.errors import ModelError

    if clip:
        return ClipTower(section)
    if section.backend not in ("mini", "transformers"):
        raise ModelError(
            f"the backend {section.backend!r} asks a server, and a server shows nobody its vision tower",
            item=section.model or section.backend,
            hint="--model names a detector on this machine, --clip a CLIP model.",
        )
    return LocalBackend(section, name=section.backend)


def wanted(store: Store) -> set[str]:
    """The images that a map shows: all that were not withdrawn."""
    return {image for image, _, _ in _images(store)}


def look(store: Store, blobs: Blobs, tower: Tower, folder: Path, batch_size: int) -> MapCounts:
    """Look at the images of which a map has no vector yet, and keep what was seen.

    Args:
        store: Where the images are.
        blobs: Their bytes.
        tower: What sees them.
        folder: The map's.
        batch_size: Images that are seen at once.

    Returns:
        What it came to; nothing is placed yet.

    Raises:
        Interrupted: Ctrl-C; what was kept by then stays.
    """
    import numpy as np

    from sdg_data import image_maps
    from sdg_data.errors import Interrupted
    from sdg_data.progress import Progress

    known = image_maps.seen(folder)
    everything = _images(store)
    missing = [image for image in everything if image[0] not in known]
    done = MapCounts(already=len(everything) - len(missing))
    progress = Progress("map", unit="images")
    try:
        with progress.running(len(missing)):
            for start in range(0, len(missing), PART):
                part = missing[start : start + PART]
                vectors = dict(_seen(blobs, tower, part, batch_size, done.left_out))
                if vectors:
                    image_maps.add_features(folder, list(vectors), np.stack(list(vectors.values())))
                done.looked += len(vectors)
                progress.advance(len(part))
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"stopped: {done.already + done.looked} of {len(everything)} looked at",
            item="map",
            hint="Run the same command again to go on.",
        ) from error
    return done


def _seen(
    blobs: Blobs, tower: Tower, part: Sequence[tuple[str, str, str]], batch_size: int, left_out: dict[str, str]
) -> Iterator[tuple[str, Any]]:
    """The vectors of some images by id; why others have none goes into `left_out`."""
    from sdg_data.errors import BlobError
    from sdg_data.picture import PictureError

    batch: list[tuple[str, EncodedImage]] = []
    for image, blob, media_type in part:
        try:
            batch.append((image, tower.prepare(blobs.get(blob), media_type)))
        except (BlobError, PictureError, ValueError) as error:
            left_out[image] = str(error)
        if len(batch) == batch_size:
            yield from _halved(tower, batch, left_out)
            batch = []
    yield from _halved(tower, batch, left_out)


def _halved(
    tower: Tower, batch: Sequence[tuple[str, EncodedImage]], left_out: dict[str, str]
) -> Iterator[tuple[str, Any]]:
    """A batch's vectors; where it fails, those of its halves: in the end an image fails by itself."""
    if not batch:
        return
    try:
        vectors = tower.see([encoded for _, encoded in batch])
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if len(batch) == 1:
            left_out[batch[0][0]] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            return
        middle = len(batch) // 2
        yield from _halved(tower, batch[:middle], left_out)
        yield from _halved(tower, batch[middle:], left_out)
        return
    for (image, _), vector in zip(batch, vectors, strict=True):
        yield image, vector


def _images(store: Store) -> list[tuple[str, str, str]]:
    """(image, its blob, its media type) of all that were not withdrawn, by id."""
    from schemas.records import Withdrawn
    from sdg_data.store import tombstones

    with store.read() as tx:
        return tx.execute(
            f"SELECT id, blob, media_type FROM images WHERE {tombstones.alive(Withdrawn.IMAGE, 'id')} ORDER BY id"
        ).fetchall()


def _section(
    settings: Settings, model: str | None, clip: str | None, revision: str | None, batch_size: int | None
) -> VlmSettings:
    from sdg_data.errors import ConfigError

    if model and clip:
        raise ConfigError("either a detector or CLIP, not both", item="--model, --clip")
    changes: dict[str, Any] = {}
    if model or clip:
        changes = {"backend": "transformers", "model": model or clip, "revision": revision or ""}
    elif revision:
        changes = {"revision": revision}
    if batch_size is not None:
        changes["batch_size"] = batch_size
    return settings.prelabel.model_copy(update=changes)


def _name(wanted_name: str) -> str:
    """A map's name: of a folder or repository its last part.

    Raises:
        ConfigError: No folder could be called that.
    """
    from sdg_data.errors import ConfigError

    plain = wanted_name.strip().rstrip("/").rpartition("/")[2]
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,99}", plain, re.ASCII):
        raise ConfigError("this is no name for a map", item=plain[:80], hint="Letters, digits and _ . - : --name NAME")
    return plain
