"""The account of an import: everything that was seen is taken, already there, or refused with a code.

One `ImportReport` serves one import, whatever it reads: images, rows of prompts, boxes. Each of these is a unit with a
`Tally` of its own. The reader calls `saw` when it meets an item, and whoever decides about the item calls `take`,
`keep` or `refuse`; the two are counted apart, so that `check` notices an item that was lost between them.

Refused items are many at worst (a column of the wrong type in a table of a million rows). So only the first names of
each code stay in memory; all of them go to a temporary file, which `write` copies into the JSON report.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Self

from sdg_data.errors import InputError, SdgError

FIRST_NAMES: Final = 3
REPORT_VERSION: Final = 1
_SPOOL_BYTES: Final = 1 << 22
_ENOUGH_TEXT: Final = 500


@dataclass(frozen=True)
class RefusedItem:
    """An item that was not taken: `name` is its file or member, `line` its line or row from 1, where it has one."""

    unit: str
    name: str
    line: int | None
    code: str
    message: str

    @property
    def place(self) -> str:
        """The item's name, with the number of its line (`name:line`) where it has one."""
        return self.name if self.line is None else f"{self.name}:{self.line}"


@dataclass
class Tally:
    """What became of the items of one unit. `used` are files that belong to items, such as texts and metadata."""

    seen: int = 0
    taken: int = 0
    already_there: int = 0
    refused_by_code: dict[str, int] = field(default_factory=dict)
    used: int = 0

    @property
    def refused(self) -> int:
        """The number of refused items, over all codes."""
        return sum(self.refused_by_code.values())

    def as_json(self) -> dict[str, Any]:
        """The counts as a dictionary for the JSON report."""
        return {
            "seen": self.seen,
            "taken": self.taken,
            "already_there": self.already_there,
            "refused": self.refused,
            "refused_by_code": dict(sorted(self.refused_by_code.items())),
            "used": self.used,
        }


class ImportReport:
    """The account of one import. Use it as a context manager, or call `close`."""

    def __init__(self, source: str, *, unit: str) -> None:
        """`source` is what is imported, for people; `unit` is what is counted where a call does not say."""
        self.source = source
        self._unit = unit
        self.tallies: dict[str, Tally] = {unit: Tally()}
        self._first: dict[tuple[str, str], list[RefusedItem]] = {}
        self._spool: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)  # noqa: SIM115

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the temporary file of refused items, which deletes it."""
        self._spool.close()

    def tally(self, unit: str | None = None) -> Tally:
        """The tally of `unit`, made when it is asked for first."""
        return self.tallies.setdefault(unit or self._unit, Tally())

    def saw(self, number: int = 1, *, unit: str | None = None) -> None:
        """Count items that the source has, before anything is decided about them."""
        self.tally(unit).seen += number

    def take(self, number: int = 1, *, unit: str | None = None) -> None:
        """Count items of a unit that are new in the store."""
        self.tally(unit).taken += number

    def keep(self, number: int = 1, *, unit: str | None = None) -> None:
        """Count items of a unit that the store had already."""
        self.tally(unit).already_there += number

    def use(self, number: int = 1, *, unit: str | None = None) -> None:
        """Count files that are no items but belong to some: texts beside images, tables of metadata."""
        self.tally(unit).used += number

    def refuse(self, code: str, message: str, *, name: str, line: int | None = None, unit: str | None = None) -> None:
        """Count an item that is left out, and keep why.

        Args:
            code: For programs: lower-case words with hyphens.
            message: For people: what is wrong with it.
            name: The file or member.
            line: Its line or row there, from 1.
            unit: What it is, where it is not the report's own unit.
        """
        tally = self.tally(unit)
        tally.refused_by_code[code] = tally.refused_by_code.get(code, 0) + 1
        refusal = RefusedItem(unit or self._unit, name, line, code, message[:_ENOUGH_TEXT])
        first = self._first.setdefault((refusal.unit, code), [])
        if len(first) < FIRST_NAMES:
            first.append(refusal)
        self._spool.write(_line(refusal))

    @property
    def refused(self) -> int:
        """The number of items, of all units together, that were left out."""
        return sum(tally.refused for tally in self.tallies.values())

    def check(self) -> None:
        """Check that each item that was seen was taken, was already there, or was refused.

        Raises:
            SdgError: The totals of a unit do not add up, which is a fault of the program.
        """
        for unit, tally in self.tallies.items():
            accounted = tally.taken + tally.already_there + tally.refused
            if accounted != tally.seen:
                raise SdgError(
                    f"{tally.seen} {unit} were seen, but {tally.taken} taken, {tally.already_there} already there and "
                    f"{tally.refused} refused make {accounted}",
                    item=self.source,
                    hint="This is a fault of the program. Please report it; what was imported is in the store.",
                )

    def refusals(self) -> Iterator[RefusedItem]:
        """All refused items, in the order in which they were refused."""
        self._spool.seek(0)
        for line in self._spool:
            yield RefusedItem(**json.loads(line))
        self._spool.seek(0, os.SEEK_END)

    def rows(self) -> list[dict[str, Any]]:
        """A row per unit and code for the table at the end: how many, the first names, why the first was refused."""
        rows = []
        for (unit, code), first in self._first.items():
            number = self.tallies[unit].refused_by_code[code]
            more = f" … ({number - len(first)} more)" if number > len(first) else ""
            rows.append(
                {
                    "refused": number,
                    "unit": unit,
                    "code": code,
                    "first": ", ".join(refusal.place for refusal in first) + more,
                    "why": first[0].message,
                }
            )
        return sorted(rows, key=lambda row: (row["unit"], -int(row["refused"]), row["code"]))


def write_report(reports: list[ImportReport], path: Path) -> None:
    """Write the reports of a command as one JSON file: per source its totals, and every refused item.

    Raises:
        InputError: The file cannot be written. Nothing half-written stays.
    """
    temporary = path.with_name(f"{path.name[:200]}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f'{{"version": {REPORT_VERSION}, "sources": [')
            for number, report in enumerate(reports):
                totals = {unit: tally.as_json() for unit, tally in report.tallies.items()}
                file.write(",\n" if number else "\n")
                file.write(f'{{"source": {_json(report.source)}, "totals": {_json(totals)}, "refused": [')
                for index, refusal in enumerate(report.refusals()):
                    file.write((",\n " if index else "\n ") + _json(vars(refusal)))
                file.write("]}")
            file.write("\n]}\n")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"cannot write the report ({error.strerror})", item=str(path)) from error


def _line(refusal: RefusedItem) -> bytes:
    return json.dumps(vars(refusal)).encode() + b"\n"


def _json(value: Any) -> str:
    # ASCII: a name may hold bytes that are no UTF-8, as lone surrogates.
    return json.dumps(value)
