"""Write images as files, for formats whose rows name paths. The original bytes are kept, never encoded anew."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from exports.dataset.sample_buffer import Entry
from exports.files.export_job import ExportJob
from exports.files.manifest import FileEntry
from exports.files.source_images import image_bytes
from schemas.sample import EXTENSIONS

_Result = TypeVar("_Result")
PathOf = Callable[[Entry], str]


def default_path(entry: Entry) -> str:
    """The path of an image in an export, unless a format says otherwise: `images/<split>/<key>.<ext>`."""
    return f"images/{entry.split}/{entry.key}.{EXTENSIONS[entry.media_type]}"


def write_images(job: ExportJob, path_of: PathOf = default_path) -> list[FileEntry]:
    """Write every sample's image to its path; a file that is there with the right bytes stays."""
    job.claim(path_of(entry) for entry in job.buffer.entries)

    def write_image(entry: Entry) -> FileEntry:
        job.check()
        name = path_of(entry)
        if not job.intact(name, entry.image_bytes, entry.blob):
            job.withdraw_manifest()
            job.target.write(name, image_bytes(job.blobs, entry))
        job.progress.advance(1)
        return FileEntry(path=name, bytes=entry.image_bytes, sha256=entry.blob)

    return in_threads(job, write_image, job.buffer.entries)


def in_threads(job: ExportJob, work: Callable[[Entry], _Result], entries: Sequence[Entry]) -> list[_Result]:
    """Call `work` for every entry, `job.workers` at a time; results in order. The first error ends it."""
    with ThreadPoolExecutor(job.workers, thread_name_prefix="export") as pool:
        try:
            return list(pool.map(work, entries))
        except BaseException:
            job.stop()
            pool.shutdown(cancel_futures=True)
            raise
