"""What a preflight found: lines for people and machines, and the exit code of a run that cannot work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from sdg_data.errors import ConfigError, ExitCode, GenerationError, MissingDependency, SdgError


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: Whom it is about: a model's name, or a part of the configuration.
        what: What was looked at, such as "disk".
        state: What was found.
        ok: False where a run cannot work so; None where it could not be checked, or is only told.
        fix: What to do about it.
        code: The exit code of a run that ends for it.
    """

    subject: str
    what: str
    state: str
    ok: bool | None = True
    fix: str | None = None
    code: ExitCode = ExitCode.GENERATION


_ERRORS: Final[dict[ExitCode, type[SdgError]]] = {
    ExitCode.CONFIG: ConfigError,
    ExitCode.MISSING_DEPENDENCY: MissingDependency,
}


def faults(findings: Sequence[Finding]) -> list[Finding]:
    """The findings for which something cannot work."""
    return [finding for finding in findings if finding.ok is False]


def error_of(finding: Finding) -> SdgError:
    """A finding as the error that a command ends with."""
    kind = _ERRORS.get(finding.code, GenerationError)
    return kind(f"{finding.what}: {finding.state}", item=finding.subject, hint=finding.fix)


def show(findings: Sequence[Finding]) -> None:
    """Print the findings as a table, and what to do about each below it."""
    from sdg_data.console import print_table, say

    marks = {True: "ok", False: "--", None: "??"}
    print_table(
        [
            {"": marks[finding.ok], "of": finding.subject, "what": finding.what, "state": finding.state}
            for finding in findings
        ]
    )
    for finding in findings:
        if finding.fix and finding.ok is not True:
            say(f"{finding.subject}, {finding.what}: {finding.fix}")


def as_rows(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """The findings as JSON has them."""
    return [asdict(finding) | {"code": int(finding.code) if finding.ok is False else None} for finding in findings]
