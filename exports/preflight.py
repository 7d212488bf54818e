"""What stands in an export's way, said before a byte is written: its folder, room on the disk, the Hub's token."""

from exports.files.export_job import ExportJob
from sdg_data.errors import ExitCode
from sdg_data.preflight.findings import Finding
from sdg_data.preflight.machine import free_bytes


def examine(job: ExportJob, *, hub: str | None) -> list[Finding]:
    """Look at where an export is to go.

    Args:
        job: The export, whose folder was looked at (`ExportJob.look`).
        hub: The dataset repository it will be uploaded to; None: none.

    Returns:
        What was found, in the order in which a run would meet it.
    """
    return [_folder(job), _room(job), *([] if hub is None else [_token(hub)])]


def _folder(job: ExportJob) -> Finding:
    state = f"{job.target.url}: {'goes on with what is there' if job.begun_before else 'a new export'}"
    return Finding("export", "folder", state)


def _room(job: ExportJob) -> Finding:
    """Pictures are nearly all of an export's bytes, so a disk that cannot hold them cannot hold the export."""
    need = sum(entry.image_bytes for entry in job.buffer.entries)
    if job.target.local is None:
        return Finding("export", "disk", f"pictures of {_gb(need)}; room is not known at a URL", None)
    free = free_bytes(job.target.local)
    state = f"pictures of {_gb(need)}, {_gb(free)} free"
    if job.begun_before or free >= need:  # what was written before is there already
        return Finding("export", "disk", state)
    fix = "Free some space, name another disk with --output, or choose fewer images (--sample, --split)."
    return Finding("export", "disk", state, False, fix, ExitCode.CONFIG)


def _token(repository: str) -> Finding:
    try:
        from huggingface_hub import get_token
    except ImportError:
        fix = "pip install 'sdg-data[train]'"
        return Finding(repository, "upload", "huggingface_hub is missing", False, fix, ExitCode.MISSING_DEPENDENCY)
    if get_token() is None:
        fix = "hf auth login, or set HF_TOKEN."
        return Finding(repository, "upload", "no token of the Hub on this machine", False, fix, ExitCode.CONFIG)
    return Finding(repository, "upload", "a token is here; whether it may write there is seen at the upload", None)


def _gb(size: int) -> str:
    return f"{size / 1e9:.3g} GB"
