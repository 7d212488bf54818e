"""Importing prompts: normalised, checked, deduplicated, split, stored; what is unusable goes to a rejects file.

A prompt's id is the hash of its normalised text and its split a function of the id, so importing a file twice, or two
files that overlap, changes nothing the second time and never puts a prompt in two splits. Each source is one import, to
be listed, to go on with after a crash, and to be withdrawn, as those of images are.
"""

import hashlib
import json
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO

from schemas.records import Prompt
from sdg_data.errors import InputError, StoreError
from sdg_data.ids import normalise_prompt, prompt_id, split_of
from sdg_data.ingest.import_unit import ImportUnit, Records, import_unit
from sdg_data.ingest.prompt_files import BlankLine, Row, check_source, open_rows
from sdg_data.ingest.report import ImportReport
from sdg_data.ingest.tables import BadRow
from sdg_data.store import prompts as table
from sdg_data.store.connection import Store

MAX_CHARACTERS = 10_000
CHUNK = 10_000
SHOWN_REJECTS = 10
_ENOUGH_RAW = 500
# Control characters that are no white space, and halves of surrogate pairs.
_UNFIT = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff]")

log = logging.getLogger(__name__)


@dataclass
class PromptImportCounts:
    """What became of a file's rows: `read` is the sum of the others. `rejects_file` is set if there are any."""

    file: str
    read: int = 0
    new: int = 0
    duplicates_in_file: int = 0
    already_there: int = 0
    rejected: int = 0
    rejected_by_code: dict[str, int] = field(default_factory=dict)
    rejects_file: str | None = None


@dataclass(frozen=True)
class PromptImportOptions:
    """`source` None: the file's name. `limit` counts rows of each file. `dry_run` counts and stores nothing."""

    test_share: float
    column: str | None = None
    source: str | None = None
    licence: str | None = None
    limit: int | None = None
    hub_split: str = "train"
    dry_run: bool = False


def import_prompts(
    store: Store, sources: Iterable[str], options: PromptImportOptions, *, reports: list[ImportReport] | None = None
) -> list[PromptImportCounts]:
    """Import each source, one result each.

    Args:
        store: Where they go.
        sources: Files, or `hf:owner/name`.
        options: What holds for all of them.
        reports: Is filled with the account of each source, also of one that raises.

    Raises:
        InputError: A source cannot be read or has no usable prompt; sources before it are imported by then, but none
            is if one of them is missing, empty or of an unknown kind.
    """
    names = list(sources)
    for name in names:
        check_source(name)
    kept = [] if reports is None else reports
    results = []
    for name in names:
        kept.append(ImportReport(name, unit="prompts"))
        results.append(_import_one(store, name, options, kept[-1]))
    return results


def check_prompt(text: str) -> tuple[str, str] | None:
    """Why `text` is no prompt, as (code, message); None if it is one."""
    unfit = _UNFIT.search(text)
    if unfit is not None:
        if unfit[0] >= "\ud800":
            return "not-utf8", "holds half of a surrogate pair"
        return "control-character", f"holds the control character U+{ord(unfit[0]):04X}"
    normalised = normalise_prompt(text)
    if not normalised:
        return "empty", "empty"
    if len(normalised) > MAX_CHARACTERS:
        return "too-long", f"{len(normalised)} characters; {MAX_CHARACTERS} are the most"
    return None


def stored_aliases(store: Store) -> dict[str, str]:
    """`store.prompts.aliases` of a store that may not be there yet."""
    if not store.path.exists():
        return {}
    with store.read() as tx:
        return table.aliases(tx)


def _import_one(store: Store, name: str, options: PromptImportOptions, report: ImportReport) -> PromptImportCounts:
    counts = PromptImportCounts(name)
    source = options.source or (name if name.startswith("hf:") else f"file:{Path(name).name}")
    aliases = stored_aliases(store)
    rows = open_rows(name, column=options.column, hub_split=options.hub_split)
    with ExitStack() as stack:
        rejects = stack.enter_context(_Rejects(store.home, name, counts, report, write=not options.dry_run))
        good = _usable(islice(rows, options.limit), counts, rejects, report)
        unit = None
        while texts := list(islice(good, CHUNK)):
            if unit is None and not options.dry_run:  # not before it is known that there is something to import
                stated = {**asdict(options), "source": source}
                unit = stack.enter_context(import_unit(store, None, command="prompts", source=name, options=stated))
            prompts = [
                Prompt(
                    id=aliases.get(identity, identity),
                    text=text,
                    source=source,
                    licence=options.licence,
                    split=split_of(identity, options.test_share),
                )
                for identity, text in texts
            ]
            new = _new(store, prompts) if unit is None else _insert(store, unit, prompts)
            counts.new += new
            counts.already_there += len(prompts) - new
            report.take(new)
            report.keep(len(prompts) - new)
            log.debug("%s: %d rows read", name, counts.read)
        if unit is not None:
            unit.end({"prompts": report.tally("prompts").as_json()})
    if counts.read == 0:
        raise InputError("the file has no rows", item=name)
    if counts.rejected == counts.read:
        reasons = ", ".join(f"{number} {code}" for code, number in counts.rejected_by_code.items())
        where = f"See {counts.rejects_file}." if counts.rejects_file else None
        raise InputError(f"no usable prompt in {counts.read} rows ({reasons})", item=name, hint=where)
    return counts


def _usable(
    rows: Iterable[Row | BadRow], counts: PromptImportCounts, rejects: "_Rejects", report: ImportReport
) -> Iterator[tuple[str, str]]:
    """(id, normalised text) of the rows that are prompts and were not in this file before; counts the others."""
    seen: set[bytes] = set()
    for row in rows:
        counts.read += 1
        if isinstance(row, BlankLine):
            # Nothing stood there, so nothing is left out: it is no item of the report.
            rejects.add(BadRow(row.line, "empty", "empty", row.text), reported=False)
            continue
        report.saw()
        if isinstance(row, BadRow):
            rejects.add(row)
            continue
        problem = check_prompt(row.text)
        if problem is not None:
            rejects.add(BadRow(row.line, *problem, row.text))
            continue
        identity = prompt_id(row.text)
        key = bytes.fromhex(identity)
        if key in seen:
            counts.duplicates_in_file += 1
            report.keep()
            continue
        seen.add(key)
        yield identity, normalise_prompt(row.text)


def _insert(store: Store, unit: ImportUnit, prompts: list[Prompt]) -> int:
    with store.write() as tx:
        return len(unit.insert(tx, Records(prompts=prompts))["prompt"])


def _new(store: Store, prompts: list[Prompt]) -> int:
    if not store.path.exists():
        return len(prompts)
    with store.read() as tx:
        return len(prompts) - len(table.by_ids(tx, [prompt.id for prompt in prompts]))


class _Rejects:
    """Writes bad rows to `home/rejects/prompts-<name>-<hash>.jsonl`, and says the first ones aloud.

    One file per source, written anew by each import of it and gone when nothing was rejected.
    """

    def __init__(
        self, home: Path, source: str, counts: PromptImportCounts, report: ImportReport, *, write: bool
    ) -> None:
        place = source if source.startswith("hf:") else str(Path(source).absolute())
        short = hashlib.sha256(place.encode("utf-8", "surrogateescape")).hexdigest()[:8]
        stem = "".join(c if c.isalnum() or c in "-_." else "-" for c in Path(source).stem)[:60]
        self._path = home / "rejects" / f"prompts-{stem}-{short}.jsonl"
        self._counts = counts
        self._report = report
        self._write = write
        self._file: IO[str] | None = None

    def __enter__(self) -> "_Rejects":
        if self._write:
            try:
                self._path.unlink(missing_ok=True)
            except OSError as error:
                raise self._failed(error) from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
        unsaid = self._counts.rejected - SHOWN_REJECTS
        if unsaid > 0:
            log.warning("%s: … and %d more rejected", self._counts.file, unsaid)

    def add(self, row: BadRow, *, reported: bool = True) -> None:
        """Count the row, say it (the first ones), and write it; `reported`: it also goes into the report."""
        counts = self._counts
        counts.rejected += 1
        counts.rejected_by_code[row.code] = counts.rejected_by_code.get(row.code, 0) + 1
        if reported:
            self._report.refuse(row.code, row.message, name=counts.file, line=row.line)
        if counts.rejected <= SHOWN_REJECTS:
            log.warning("%s:%d: rejected: %s", counts.file, row.line, row.message)
        if not self._write:
            return
        entry = {**asdict(row), "file": counts.file, "raw": row.raw[:_ENOUGH_RAW]}
        try:
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._path.open("w", encoding="utf-8", errors="backslashreplace")
                counts.rejects_file = str(self._path)
            self._file.write(json.dumps(entry, ensure_ascii=False) + "\n")
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> StoreError:
        return StoreError(f"cannot write the rejects file ({error.strerror})", item=str(self._path))
