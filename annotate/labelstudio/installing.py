"""Label Studio in a venv of its own: which version is there, and putting another in its place."""

from __future__ import annotations

import re
from pathlib import Path

from sdg_data.errors import InputError, SdgError
from sdg_data.venvs import InstallFailed, install_into

VERSION = "1.23.2"
"""What it was tested with; any 1.23 will do."""


class ServerFailed(SdgError):
    """Label Studio cannot be installed, does not start, or does not stop."""


def install(venv: Path, *, version: str | None = None) -> bool:
    """Make `venv` with Label Studio in it, or put this version into it; returns whether that was needed.

    Takes minutes. A server that runs from there has to be stopped before.

    Args:
        venv: The folder.
        version: The version wanted; None: any that is there, else the tested one.

    Raises:
        InputError: The version is not of the form 1.23.2.
        ServerFailed: With the last lines of pip's output.
    """
    if version is not None and not re.fullmatch(r"\d+\.\d+\.\d+(\.post\d+)?", version, re.ASCII):
        raise InputError("not a version of Label Studio", item=version, hint=f"For example {VERSION}.")
    if (venv / "bin" / "label-studio").exists() and version in (None, installed_version(venv)):
        return False
    wanted = version or VERSION
    try:
        install_into(venv, [f"label-studio=={wanted}"])
    except InstallFailed as error:
        raise ServerFailed(f"cannot install Label Studio {wanted}:\n{error}", item=str(venv)) from error
    return True


def installed_version(venv: Path) -> str | None:
    """The version of Label Studio in a venv, None where there is none or nothing says which."""
    folders = sorted(venv.glob("lib/python3*/site-packages/label_studio-*.dist-info"))
    return folders[-1].name.removeprefix("label_studio-").removesuffix(".dist-info") if folders else None


def version_key(version: str) -> tuple[int, ...]:
    """What versions are ordered by: their first three numbers."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])
