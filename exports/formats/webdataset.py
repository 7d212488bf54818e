"""The main format: shards and their index (`exports.files.shards`)."""

from exports.files import shards as webdataset
from exports.files.export_job import Job
from exports.files.manifest import FileEntry
from exports.files.options import ExportOptions


def write(job: Job, options: ExportOptions) -> list[FileEntry]:
    """See `exports.files.shards.write`."""
    return webdataset.write(job, shard_bytes=options.shard_bytes)
