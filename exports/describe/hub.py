"""Upload a finished export to the Hugging Face Hub."""

from glob import escape
from pathlib import Path
from typing import Any

from exports.files.manifest import MANIFEST, read_manifest
from exports.files.target import ExportError, Target
from sdg_data.errors import MissingDependency


def push(folder: Path, repository: str, *, api: Any = None) -> str:
    """Upload a finished export as a dataset repository, which is made if it is not there.

    Only the export's own files are: others that lie in its folder stay where they are.

    Args:
        folder: The export.
        repository: `owner/name` on the Hub.
        api: Stands in for `huggingface_hub.HfApi()`.

    Returns:
        The dataset's address.

    Raises:
        InputError: The folder has no manifest: it is no finished export.
        MissingDependency: huggingface_hub is not installed.
        ExportError: The upload failed.
    """
    manifest = read_manifest(Target(folder))
    if api is None:
        try:
            from huggingface_hub import HfApi
        except ImportError as error:
            raise MissingDependency("huggingface_hub is not installed", hint="pip install 'sdg-data[train]'") from error
        api = HfApi()
    try:
        api.create_repo(repository, repo_type="dataset", exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            repo_type="dataset",
            folder_path=str(folder),
            allow_patterns=[escape(entry.path) for entry in manifest.files] + [MANIFEST],
            commit_message=f"{manifest.name}: {manifest.samples} samples as {manifest.format}",
        )
    except OSError as error:  # the Hub's errors are
        raise ExportError(f"the upload failed: {str(error).splitlines()[0]}", item=repository) from error
    return f"https://huggingface.co/datasets/{repository}"
