"""Addresses of images in an S3-compatible store that anybody may open for some days: signed here, kept alive by us.

The store's keys stay with us, and Label Studio needs none: a task's `data.image` is an address with a signature and an
end. S3 allows seven days at most, so addresses are signed anew at each push, by `sdg annotate renew`, and while
`sdg annotate watch` runs, once half of their life is over. A new signature is not another picture: tasks are compared
with what was sent without it (`unsigned`).

Where browsers would show a blob otherwise than the rest of this software reads it, its picture as PNG is put beside the
blobs, under `shown/`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

from annotate.labelstudio.client import Client, task_uid
from schemas.records import ImageRecord
from sdg_data.blobs import Blobs
from sdg_data.errors import BlobError, ConfigError
from sdg_data.file_systems import file_system_of
from sdg_data.picture import for_browser, read_header
from sdg_data.store import images, labelling
from sdg_data.store.connection import Store
from sdg_data.store.labelling import ServerIds
from sdg_data.transport import explained, transport_errors

PRESIGNED = "presigned"
"""The value of `image_url` in [annotate] that asks for this."""
_SHOWN = "shown"
_SIGNATURE = "X-Amz-"
_THREADS = 8


class Presigner:
    """Signs addresses of a store's blobs."""

    def __init__(self, blobs: Blobs, lifetime: timedelta) -> None:
        """Args:
            blobs: The images' bytes, on S3.
            lifetime: How long an address opens its image.

        Raises:
            ConfigError: The blobs are not on S3.
            MissingDependency: The extra `s3` is not installed.
        """
        if not blobs.url.startswith(("s3://", "s3a://")):
            raise ConfigError(
                "only addresses of S3 can be signed", item=f"annotate.image_url = {PRESIGNED}",
                hint=f"The blobs are at {blobs.url}; `blobs` of [storage] would be s3://bucket/folder.",
            )  # fmt: skip
        # The fourth kind of signature is the only one that every store takes.
        self._files, self._root = file_system_of(blobs.url, config_kwargs={"signature_version": "s3v4"})
        self._blobs = blobs
        self.lifetime = lifetime

    def address(self, image: ImageRecord) -> str:
        """The address of an image, which is looked at: a blob that is another's is nobody's picture.

        Raises:
            PictureError: The blob gives no picture.
            BlobMissing: There is no such blob.
            BlobCorrupt: The blob is not what its name says.
            BlobError: The store cannot be written.
        """
        data = self._blobs.get(image.blob)
        plain = read_header(data).plain
        if not plain:
            path = self._path(image, shown=True)
            try:
                if not self._files.exists(path):
                    self._files.pipe_file(path, for_browser(data)[1])
            except transport_errors() as error:
                raise BlobError(f"cannot put what browsers show there ({explained(error)})", item=path) from error
        return self._sign(image, shown=not plain)

    def renewed(self, image: ImageRecord, address: str) -> str:
        """The address of the same file, signed now."""
        return self._sign(image, shown=f"/{_SHOWN}/" in urlsplit(address).path)

    def due(self, address: str, now: datetime) -> bool:
        """Whether half of an address's life is over, or it does not say."""
        ends = end_of(address)
        return ends is None or ends - now < self.lifetime / 2

    def _path(self, image: ImageRecord, *, shown: bool) -> str:
        name = f"{_SHOWN}/{image.blob[:2]}/{image.blob}.png" if shown else f"{image.blob[:2]}/{image.blob}"
        return f"{self._root}/{name}"

    def _sign(self, image: ImageRecord, *, shown: bool) -> str:
        media_type = "image/png" if shown else image.media_type
        try:
            # A blob's name has no ending, so the store does not know what it is.
            address = self._files.sign(
                self._path(image, shown=shown),
                expiration=int(self.lifetime.total_seconds()),
                ResponseContentType=media_type,
            )
        except transport_errors() as error:
            raise BlobError(f"cannot sign an address ({explained(error)})", item=self._blobs.url) from error
        return str(address)


def unsigned(address: Any) -> Any:
    """An address without its signature; whatever is none, as it is."""
    if not isinstance(address, str) or f"{_SIGNATURE}Signature=" not in address:
        return address
    try:
        parts = urlsplit(address)
    except ValueError:
        return address
    kept = [part for part in parts.query.split("&") if not part.startswith(_SIGNATURE)]
    return urlunsplit(parts._replace(query="&".join(kept)))


def end_of(address: str) -> datetime | None:
    """The time from which an address opens its image no longer; None where it does not say."""
    try:
        query = parse_qs(urlsplit(address).query)
        signed = datetime.strptime(query[f"{_SIGNATURE}Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        return signed + timedelta(seconds=int(query[f"{_SIGNATURE}Expires"][0]))
    except (KeyError, ValueError, OverflowError):
        return None


@dataclass
class Renewed:
    """Tasks by what became of their addresses."""

    renewed: int = 0
    fresh: int = 0


def renew(
    store: Store, client: Client, places: Sequence[ServerIds], presigner: Presigner, *, everything: bool = False
) -> Renewed:
    """Sign the addresses of our tasks anew, where half of their life is over.

    Args:
        store: Knows the tasks.
        client: The server.
        places: The projects there.
        presigner: Signs.
        everything: However long they live.

    Raises:
        ServerError: The server refuses or does not answer; those that were done stay done.
    """
    done, now = Renewed(), datetime.now(UTC)

    def change(task: dict[str, Any], image: ImageRecord) -> None:
        data = task["data"]
        client.update_task(int(task["id"]), data={**data, "image": presigner.renewed(image, data["image"])})

    with ThreadPoolExecutor(_THREADS) as pool:
        for place in places:
            tasks = _signed_tasks(client, place)
            while some := list(islice(tasks, 500)):
                due = [task for task in some if everything or presigner.due(task["data"]["image"], now)]
                done.fresh += len(some) - len(due)
                pairs = _with_images(store, place, due)
                list(pool.map(lambda pair: change(*pair), pairs))
                done.renewed += len(pairs)
    return done


def _signed_tasks(client: Client, place: ServerIds) -> Iterator[dict[str, Any]]:
    for task in client.listed(place.server_id, [], fields="id,data", page=500):
        data = task.get("data")
        address = data.get("image") if isinstance(data, dict) else None
        if isinstance(address, str) and unsigned(address) != address:
            yield task


def _with_images(
    store: Store, place: ServerIds, tasks: Sequence[dict[str, Any]]
) -> list[tuple[dict[str, Any], ImageRecord]]:
    """Those of the tasks that are ours and show their own image's file; a changed one is the pull's to mend."""
    with store.read() as tx:
        known = labelling.tasks_by_ids(tx, [task_uid(task) or "" for task in tasks])
        records = images.by_ids(tx, list({task.image_id for task in known.values()}))
    pairs = []
    for task in tasks:
        ours = known.get(task_uid(task) or "")
        image = None if ours is None or ours.project_id != place.project_id else records.get(ours.image_id)
        if image is not None and image.blob in urlsplit(task["data"]["image"]).path:
            pairs.append((task, image))
    return pairs
