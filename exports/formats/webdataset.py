"""The main format: shards and their index (`exports.webdataset`)."""

from exports import webdataset
from exports.job import Job
from exports.manifest import FileEntry
from exports.options import ExportOptions


def write(job: Job, options: ExportOptions) -> list[FileEntry]:
    """See `exports.webdataset.write`."""
    return webdataset.write(job, shard_bytes=options.shard_bytes)
