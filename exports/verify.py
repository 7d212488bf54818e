"""`sdg export verify`: check that an export is what its manifest says, down to the last byte.

Looked at: the manifest itself; every file's presence, size and sha256, and files that it does not name; every row that
the format can read back (`Format.read_back`), every sample's JSON against the schema, every image's decodability, and
in shards its bytes against their sha256; the order of the samples, their splits, the index; and the counts.
A damaged byte is named twice: by its file, and by the sample that it lies in.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa
from pydantic import ValidationError

from exports.dataset.order import Fields, filled_fields, order_key, schema_examples_first
from exports.files.manifest import MANIFEST, FileEntry, Manifest, read_manifest
from exports.files.shards import INDEX
from exports.files.target import ExportError, Target
from exports.formats import format_names, load_format
from exports.formats.contract import StoredRow
from exports.formats.file_types import read_file
from schemas.sample import Sample

MAX_PROBLEMS = 100
"""So many problems are listed; the rest is counted."""


@dataclass
class VerifyReport:
    """`problems` names what is wrong, `unsaid` counts those beyond the first 100. `checked` says what was looked at."""

    url: str
    problems: list[str] = field(default_factory=list)
    unsaid: int = 0
    checked: dict[str, int] = field(default_factory=lambda: {"files": 0, "bytes": 0, "samples": 0, "images": 0})

    @property
    def sound(self) -> bool:
        """Nothing is wrong."""
        return not self.problems

    def add(self, problem: str) -> None:
        """Note a problem."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)
        else:
            self.unsaid += 1


def verify(target: Target, *, advance: Callable[[int], None] = lambda number: None) -> VerifyReport:
    """Check an export.

    Args:
        target: Its folder or URL.
        advance: Called with 1 after each step; there are two for each file.

    Returns:
        What is wrong, and how much was checked.

    Raises:
        InputError: There is no manifest to check it by, or a damaged one.
    """
    manifest, report = read_manifest(target), VerifyReport(target.url)
    damaged = False
    paths = target.names()
    named = {entry.path for entry in manifest.files} | {MANIFEST}
    for name in paths:
        if name not in named:
            report.add(f"{name}: the manifest does not know this file")
    for entry in manifest.files:
        damaged |= not _same_bytes(target, entry, report)
        advance(1)
    checks = _SampleChecks(report, manifest.settings["selection"]["seed"], frozenset(paths))
    for entry in sorted(manifest.files, key=lambda entry: entry.path == INDEX):  # the index after what it points into
        if target.size(entry.path) is not None:
            _check_contents(target, manifest, entry, checks)
            advance(1)
    if not report.problems:  # where samples are missing, others would seem to be out of order
        checks.check_order()
    _check_totals(manifest, checks, damaged=damaged)
    return report


class _Placed(NamedTuple):
    """A sample of a split, as it is stored."""

    path: str
    key: str
    order: str
    fields: Fields


@dataclass
class _SampleChecks:
    """What must hold over all samples, whatever their file."""

    report: VerifyReport
    seed: int
    paths: frozenset[str]
    keys: dict[str, str] = field(default_factory=dict)
    prompts: dict[str, str] = field(default_factory=dict)
    splits: dict[str, int] = field(default_factory=dict)
    facts: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    placed: dict[str, list[_Placed]] = field(default_factory=dict)
    fields: dict[Fields, Fields] = field(default_factory=dict)
    indexed: int = 0

    def add(self, row: StoredRow, entry: FileEntry) -> None:
        """Check a row against its file and against the rows before it."""
        if row.problem is not None:
            self.report.add(row.problem)
        for path in row.paths:
            if path not in self.paths:
                self.report.add(f"{row.where}: there is no {path}")
        self.report.checked["images"] += row.images
        if row.sample is not None:
            self._add_sample(row.sample, row, entry)
        if row.indexed is not None:
            self._compare_with_index(row.indexed, row.where)

    def check_order(self) -> None:
        """Compare every split with the order of `exports.dataset.order`."""
        for stored in self.placed.values():
            stored.sort(key=lambda placed: placed.path)  # stable: within a file as stored
            expected = schema_examples_first(
                stored, order=lambda placed: placed.order, fields=lambda placed: placed.fields
            )
            for actual, wanted in zip(stored, expected, strict=True):
                if actual.key != wanted.key:
                    message = f"{actual.path} ({actual.key}): it is out of order, {wanted.key} belongs there"
                    self.report.add(message)
                    break

    def _add_sample(self, sample: Sample, row: StoredRow, entry: FileEntry) -> None:
        if sample.split != entry.split:
            self.report.add(f"{row.where}: a sample of {sample.split} in a shard of {entry.split}")
        if self.keys.setdefault(sample.key, row.where) != row.where:
            self.report.add(f"{row.where}: the sample {sample.key} is in {self.keys[sample.key]} too")
        if self.prompts.setdefault(sample.prompt_id, sample.split) != sample.split:
            self.report.add(f"{row.where}: its prompt is in two splits: {sample.prompt!r}")
        self.splits[sample.split] = self.splits.get(sample.split, 0) + 1
        fields = filled_fields(sample.model_dump(mode="json"))
        fields = self.fields.setdefault(fields, fields)  # one object for all samples that fill the same
        placed = _Placed(entry.path, sample.key, order_key(sample.key, self.seed), fields)
        self.placed.setdefault(sample.split, []).append(placed)
        if row.facts:
            self.facts[sample.key] = row.facts
        self.report.checked["samples"] += 1

    def _compare_with_index(self, indexed: Mapping[str, Any], where: str) -> None:
        self.indexed += 1
        facts = self.facts.get(indexed["key"])
        if facts is None:
            self.report.add(f"{where}: no shard has this sample")
        elif wrong := [name for name, value in facts.items() if indexed[name] != value]:
            self.report.add(f"{where}: it differs in {', '.join(wrong)}")


def _same_bytes(target: Target, entry: FileEntry, report: VerifyReport) -> bool:
    """Whether the file is there with the size and the sha256 that the manifest has."""
    size = target.size(entry.path)
    if size is None:
        report.add(f"{entry.path}: the file is missing")
        return False
    report.checked["files"] += 1
    report.checked["bytes"] += size
    if size != entry.bytes:
        report.add(f"{entry.path}: {size} bytes, the manifest says {entry.bytes}")
        return False
    if target.hash(entry.path) != entry.sha256:
        report.add(f"{entry.path}: its bytes are not those that were written (sha256 differs)")
        return False
    return True


def _check_contents(target: Target, manifest: Manifest, entry: FileEntry, checks: _SampleChecks) -> None:
    try:
        rows = _rows(target, manifest, entry)
        if rows is None:
            return
        number = 0
        for row in rows:
            number += 1
            checks.add(row, entry)
        if entry.samples is not None and number != entry.samples:
            checks.report.add(f"{entry.path}: {number} samples, the manifest says {entry.samples}")
    except (ValueError, KeyError, TypeError, pa.ArrowException, ExportError) as error:
        text = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        checks.report.add(f"{entry.path}: {text.splitlines()[0] if text else type(error).__name__}")


def _rows(target: Target, manifest: Manifest, entry: FileEntry) -> Iterator[StoredRow] | None:
    """What the format reads back, else what the file's type allows; for a format that is not installed the latter."""
    if manifest.format in format_names():
        read_back = load_format(manifest.format).read_back
        rows = None if read_back is None else read_back(target, manifest, entry)
        if rows is not None:
            return rows
    return read_file(target, manifest, entry)


def _check_totals(manifest: Manifest, checks: _SampleChecks, *, damaged: bool) -> None:
    """What holds over all samples; the counts only where no file is known to be damaged."""
    report = checks.report
    if not damaged and checks.splits and checks.splits != manifest.counts["split"]:
        report.add(f"{MANIFEST}: it counts {manifest.counts['split']}, there are {checks.splits}")
    if not damaged and checks.facts and checks.indexed != len(checks.facts):
        report.add(f"{INDEX}: {checks.indexed} rows for {len(checks.facts)} samples")
    proof = manifest.notes.get("split_proof", {})
    if proof.get("shared_prompts") or proof.get("shared_images"):
        report.add(f"{MANIFEST}: its own split proof does not hold")
