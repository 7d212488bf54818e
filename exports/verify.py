"""`sdg export verify`: check that an export is what its manifest says, down to the last byte.

Looked at: the manifest itself and its own hash; every file's presence, size and sha256; links, FIFOs and files that it
does not name (listed, never followed or opened); what Croissant says of the files; every row that the format can
read back (`Format.read_back`): a sample's JSON against the schema, its image's bytes against their sha256, its size
against the record, in shards also every header and everything between and behind the members; the order of the samples,
their splits, the index with its offsets; the counts, and the hash over all samples.
A damaged byte is named twice: by its file, and by the sample that it lies in.

Whoever changes a file and every hash of it, in the manifest, its own hash and Croissant, cannot be caught where nothing
else speaks of the file: the rows of a chat format, say. Formats that hold whole samples are held to the hash over them.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa
from pydantic import ValidationError

from exports.dataset.assemble import sample_json
from exports.dataset.order import Fields, filled_fields, order_key, schema_examples_first
from exports.describe.croissant import CROISSANT, stated_files
from exports.files.manifest import MANIFEST, FileEntry, Manifest, SampleCounts, is_as_written, read_manifest
from exports.files.shards import INDEX
from exports.files.target import STATE, ExportError, Kind, Target
from exports.formats import format_names, load_format
from exports.formats.contract import StoredRow
from exports.formats.file_types import PICTURES, read_file, wrong_size
from schemas.records import Split
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
        """Whether the export was found without any problem."""
        return not self.problems

    def add(self, problem: str) -> None:
        """Note a problem; those beyond the most that are listed are only counted."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)
        else:
            self.unsaid += 1


def verify(target: Target, *, advance: Callable[[int], None] = lambda number: None) -> VerifyReport:
    """Check the files and samples of an export against its manifest.

    Args:
        target: Its folder or URL.
        advance: Called with 1 after each step; there are two for each file.

    Returns:
        What is wrong, and how much was checked.

    Raises:
        InputError: There is no manifest to check it by, or a damaged one.
    """
    manifest, report = read_manifest(target, changed=True), VerifyReport(target.url)
    if not is_as_written(target.read(MANIFEST) or b""):
        report.add(f"{MANIFEST}: it is not as it was written (its own hash differs)")
    entries = target.entries()
    _check_names(manifest, entries, report)
    whole = {entry.path for entry in manifest.files if _same_bytes(target, entry, entries, report, advance)}
    _check_croissant(target, manifest, entries, report)
    seed = _seed(manifest, report)
    checks = _SampleChecks(report, seed, {entry.path: entry for entry in manifest.files if entries.get(entry.path)})
    for entry in sorted(manifest.files, key=_reading_order):
        if entries.get(entry.path) == "file":
            _check_contents(target, manifest, entry, checks)
            advance(1)
    if not report.problems:  # where samples are missing, others would seem to be out of order
        checks.check_order()
    _check_totals(manifest, checks, damaged=len(whole) < len(manifest.files))
    return report


def _reading_order(entry: FileEntry) -> int:
    """Pictures before the rows that speak of them, the index after what it points into."""
    return 2 if entry.path == INDEX else int(not entry.path.endswith(PICTURES))


class _Placed(NamedTuple):
    """A sample of a split, as it is stored."""

    path: str
    key: str
    order: str
    fields: Fields
    digest: bytes


@dataclass
class _SampleChecks:
    """What must hold over all samples, whatever their file."""

    report: VerifyReport
    seed: int | None
    files: Mapping[str, FileEntry]
    keys: dict[str, str] = field(default_factory=dict)
    prompts: dict[str, str] = field(default_factory=dict)
    counts: SampleCounts = field(default_factory=SampleCounts)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    facts: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    placed: dict[Split, list[_Placed]] = field(default_factory=dict)
    fields: dict[Fields, Fields] = field(default_factory=dict)
    indexed: set[str] = field(default_factory=set)

    def add(self, row: StoredRow, entry: FileEntry) -> None:
        """Check a row against its file and against the rows before it."""
        if row.problem is not None:
            self.report.add(row.problem)
        for path in row.paths:
            if path not in self.files:
                self.report.add(f"{row.where}: there is no {path}")
        self.sizes.update(row.sizes)
        self.report.checked["images"] += row.images
        if row.sample is not None:
            self._add_sample(row.sample, row, entry)
            self._compare_with_picture(row.sample, row)
        if row.indexed is not None:
            self._compare_with_index(row.indexed, row.where)

    def check_order(self) -> None:
        """Compare every split with the order of `exports.dataset.order`."""
        if self.seed is None:
            return
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
        self.counts.add(sample)
        fields = filled_fields(sample.model_dump(mode="json"))
        fields = self.fields.setdefault(fields, fields)  # one object for all samples that fill the same
        digest = row.digest or hashlib.sha256(sample_json(sample)).digest()
        placed = _Placed(entry.path, sample.key, order_key(sample.key, self.seed or 0), fields, digest)
        self.placed.setdefault(sample.split, []).append(placed)
        if row.facts:
            self.facts[sample.key] = row.facts
        self.report.checked["samples"] += 1

    def content(self) -> str:
        """The hash over all samples, train first, each split's in the order of its files."""
        total = hashlib.sha256()
        for split in Split:
            for placed in sorted(self.placed.get(split, []), key=lambda placed: placed.path):
                total.update(placed.digest)
        return total.hexdigest()

    def _compare_with_picture(self, sample: Sample, row: StoredRow) -> None:
        for path in row.paths:
            size, entry = self.sizes.get(path), self.files.get(path)
            if size is not None and (problem := wrong_size(sample, size, row.where)):
                self.report.add(problem)
            if entry is not None and entry.sha256 != sample.sha256:
                self.report.add(f"{row.where}: {path} is another image than its record's")

    def _compare_with_index(self, indexed: Mapping[str, Any], where: str) -> None:
        if indexed["key"] in self.indexed:
            self.report.add(f"{where}: this sample has two rows")
        self.indexed.add(indexed["key"])
        facts = self.facts.get(indexed["key"])
        if facts is None:
            self.report.add(f"{where}: no shard has this sample")
        elif wrong := [name for name, value in facts.items() if indexed[name] != value]:
            self.report.add(f"{where}: it differs in {', '.join(wrong)}")


_KINDS: dict[Kind, str] = {
    "file": "a file",
    "link": "a link",
    "folder": "an empty folder",
    "other": "a FIFO, a socket or a device",
}


def _check_names(manifest: Manifest, entries: Mapping[str, Kind], report: VerifyReport) -> None:
    """What stands in the folder beside what the manifest names, and what has one of these names and is no file."""
    named = [entry.path for entry in manifest.files] + [MANIFEST]
    for name in sorted({name for name in named if named.count(name) > 1} if len(set(named)) < len(named) else ()):
        report.add(f"{MANIFEST}: it names {name} twice")
    known = set(named)
    for name, kind in entries.items():
        if name in known and kind != "file":
            report.add(f"{name}: this is {_KINDS[kind]}, not a file")
        elif name not in known and (name, kind) != (STATE, "folder"):
            report.add(f"{name}: the manifest does not know this {_KINDS[kind].split(' ', 1)[1]}")


def _same_bytes(
    target: Target, entry: FileEntry, entries: Mapping[str, Kind], report: VerifyReport, advance: Callable[[int], None]
) -> bool:
    """Whether the file is there with the size and the sha256 that the manifest has."""
    advance(1)
    if entries.get(entry.path) != "file":
        if entry.path not in entries:
            report.add(f"{entry.path}: the file is missing")
        return False
    size = target.size(entry.path)
    report.checked["files"] += 1
    report.checked["bytes"] += size or 0
    if size != entry.bytes:
        report.add(f"{entry.path}: {size} bytes, the manifest says {entry.bytes}")
        return False
    if target.hash(entry.path) != entry.sha256:
        report.add(f"{entry.path}: its bytes are not those that were written (sha256 differs)")
        return False
    return True


def _check_croissant(target: Target, manifest: Manifest, entries: Mapping[str, Kind], report: VerifyReport) -> None:
    """Croissant states hashes too: whoever changed a file and the manifest has to have thought of it."""
    if entries.get(CROISSANT) != "file":
        return
    listed = {entry.path: entry for entry in manifest.files}
    try:
        stated = stated_files(target.read(CROISSANT) or b"")
    except (ValueError, KeyError, TypeError) as error:
        report.add(f"{CROISSANT}: it cannot be read: {error}")
        return
    for path, (size, sha256) in stated.items():
        entry = listed.get(path)
        if entry is None:
            report.add(f"{CROISSANT}: it names {path}, the manifest does not")
        elif (f"{entry.bytes} B", entry.sha256) != (size, sha256):
            report.add(f"{CROISSANT}: it says otherwise of {path} than the manifest")


def _seed(manifest: Manifest, report: VerifyReport) -> int | None:
    selection = manifest.settings.get("selection")
    seed = selection.get("seed") if isinstance(selection, dict) else None
    if type(seed) is int:
        return seed
    report.add(f"{MANIFEST}: its settings do not say the seed of the order")
    return None


def _check_contents(target: Target, manifest: Manifest, entry: FileEntry, checks: _SampleChecks) -> None:
    try:
        rows = _rows(target, manifest, entry)
        if rows is None:
            return
        number = 0
        records = hashlib.sha256()
        for row in rows:
            number += 1
            records.update(row.digest or b"")
            checks.add(row, entry)
        if entry.records is not None and entry.records != records.hexdigest():
            checks.report.add(f"{entry.path}: its records are not those that the manifest says")
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
    counts = checks.counts.tables()
    for split, number in manifest.counts["split"].items():
        stated = [entry.samples for entry in manifest.files if entry.split == split and entry.samples is not None]
        if stated and sum(stated) != number:
            report.add(f"{MANIFEST}: it counts {number} samples of {split}, its files have {sum(stated)}")
    if not damaged and checks.placed:
        for name, table in counts.items():
            if manifest.counts.get(name) != table:
                report.add(f"{MANIFEST}: it counts {name} as {manifest.counts.get(name)}, there are {table}")
        if manifest.content != checks.content():
            report.add(f"{MANIFEST}: its hash over all samples is not that of these samples")
    if not damaged and checks.facts and len(checks.indexed) != len(checks.facts):
        report.add(f"{INDEX}: {len(checks.indexed)} rows for {len(checks.facts)} samples")
    proof = manifest.notes.get("split_proof", {})
    if not isinstance(proof, dict) or proof.get("shared_prompts") or proof.get("shared_images"):
        report.add(f"{MANIFEST}: its own split proof does not hold")
