"""How every importing command ends: the totals checked, the refused items shown and written, the exit code."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from sdg_data.console import print_table, say
from sdg_data.errors import ExitCode, SdgError
from sdg_data.ingest.report import ImportReport, write_report

ReportFile = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE", help="Write the totals and every refused item to this file, as JSON"),
]
"""The option that every importing command has."""


@contextlib.contextmanager
def reporting(reports: Sequence[ImportReport], report_file: Path | None) -> Iterator[None]:
    """Write the report also when the import inside the block ends in an error: nothing of the source could be used."""
    try:
        yield
    except SdgError:
        if report_file is not None:
            write_report(list(reports), report_file)
        raise


def conclude(reports: Sequence[ImportReport], *, report_file: Path | None, as_json: bool) -> None:
    """End an importing command, after it printed its own counts.

    Args:
        reports: One for each source.
        report_file: Where `--report` writes; None for nowhere.
        as_json: Whether stdout holds JSON; the table of refused items is left out then, and the sentence stays.

    Raises:
        SdgError: The totals do not add up.
        InputError: The report cannot be written.
        typer.Exit: With `ExitCode.PARTIAL`, where anything was left out.
    """
    for report in reports:
        report.check()
    if report_file is not None:
        write_report(list(reports), report_file)
    refused = sum(report.refused for report in reports)
    if not refused:
        return
    if not as_json:
        print_table([row for report in reports for row in report.rows()])
    codes: dict[str, int] = {}
    for report in reports:
        for tally in report.tallies.values():
            for code, number in tally.refused_by_code.items():
                codes[code] = codes.get(code, 0) + number
    reasons = ", ".join(f"{number} {code}" for code, number in sorted(codes.items()))
    where = f" All of them are in {report_file}." if report_file else " --report FILE lists all of them."
    say(f"{refused} left out: {reasons}.{where}")
    raise typer.Exit(int(ExitCode.PARTIAL))
