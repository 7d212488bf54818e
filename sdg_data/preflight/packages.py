"""Which packages of an extra are missing here, or are of a version that this software was not written for."""

from __future__ import annotations

import importlib.metadata
import re

from sdg_data.errors import ExitCode
from sdg_data.preflight.findings import Finding


def check_extra(extra: str, subject: str) -> Finding:
    """Whether everything that an extra brings is installed, in the versions that it asks for.

    Args:
        extra: Its name.
        subject: Who needs it.

    Returns:
        The finding, with the command that installs what is missing.
    """
    problems = [problem for line in required(extra) if (problem := _problem(line))]
    fix = f"pip install 'sdg-data[{extra}]'"
    if problems:
        return Finding(subject, "packages", "; ".join(problems), False, fix, ExitCode.MISSING_DEPENDENCY)
    return Finding(subject, "packages", f"those of the extra {extra}")


def required(extra: str) -> list[str]:
    """The requirements of an extra, as the installed distribution states them; none where there is no such extra."""
    lines = importlib.metadata.requires("sdg-data") or []
    mark = re.compile(rf"extra\s*==\s*['\"]{re.escape(extra)}['\"]")
    return [line.partition(";")[0].strip() for line in lines if mark.search(line.partition(";")[2])]


def _problem(line: str) -> str | None:
    """What is wrong with one requirement, None if it is met."""
    match = re.match(r"[\w.-]+", line)
    name = match[0] if match else line
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return f"{name} is missing"
    try:
        from packaging.requirements import Requirement
    except ImportError:  # it comes with every model library, but not with the base install
        return None
    wanted = Requirement(line).specifier
    return None if wanted.contains(version, prereleases=True) else f"{name} {version} is not {wanted}"
