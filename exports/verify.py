"""`sdg export verify`: is an export what its manifest says, down to the last byte?

Looked at: the manifest itself; every file's presence, size and sha256, and files that it does not name; every sample of
the shards (header, JSON against the schema, image bytes against their sha256, decodability), their order, their split,
the index's rows; every row of JSONL, COCO and parquet files; every single image; the counts; and the split proof anew.
A damaged byte is named twice: by its file, and by the sample that it lies in.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from exports.dataset.order import Fields, arranged, filled_fields, order_key
from exports.files.manifest import MANIFEST, FileEntry, Manifest, read_manifest
from exports.files.shards import INDEX, facts
from exports.files.target import ExportError, Target
from exports.formats import coco
from exports.read.decode import decode_rgb
from exports.read.reader import ShardReader
from schemas.sample import Sample

_IMAGES = (".png", ".jpg", ".webp")
_ENOUGH = 100
"""So many problems are told; the rest is counted."""


@dataclass
class Report:
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
        """One more."""
        if len(self.problems) < _ENOUGH:
            self.problems.append(problem)
        else:
            self.unsaid += 1


def verify(target: Target, *, advance: Callable[[int], None] = lambda number: None) -> Report:
    """Check an export. Raises InputError where there is no manifest to check it by; `advance` hears of each file."""
    manifest, report = read_manifest(target), Report(target.url)
    damaged = set()
    named = {entry.path for entry in manifest.files} | {MANIFEST}
    for name in target.names():
        if name not in named:
            report.add(f"{name}: the manifest does not know this file")
    for entry in manifest.files:
        if not _same(target, entry, report):
            damaged.add(entry.path)
        advance(1)
    seen = _Seen(report)
    for entry in sorted(manifest.files, key=lambda entry: entry.path == INDEX):  # the index after what it points into
        if target.size(entry.path) is not None:
            _contents(target, manifest, entry, seen)
            advance(1)
    if not report.problems:  # where samples are missing, others would lead
        _order(seen)
    _whole(manifest, seen, damaged)
    return report


def _order(seen: "_Seen") -> None:
    """Every split as `exports.dataset.order` arranges it."""
    for stored in seen.placed.values():
        stored.sort(key=lambda one: one.shard)  # stable: within a shard as stored
        expected = arranged(stored, order=lambda one: one.order, fields=lambda one: one.fields)
        for found, wanted in zip(stored, expected, strict=True):
            if found.key != wanted.key:
                seen.report.add(f"{found.shard} ({found.key}): it is out of order, {wanted.key} belongs there")
                break


class _Placed(NamedTuple):
    """A sample of a split's shards, as it is stored."""

    shard: str
    key: str
    order: str
    fields: Fields


@dataclass
class _Seen:
    """What the samples said so far, for what must hold over all of them."""

    report: Report
    keys: dict[str, str] = field(default_factory=dict)
    prompts: dict[str, str] = field(default_factory=dict)
    splits: dict[str, int] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    placed: dict[str, list["_Placed"]] = field(default_factory=dict)
    fields: dict[Fields, Fields] = field(default_factory=dict)
    rows: int = 0

    def add(self, sample: Sample, where: str) -> None:
        """Check a sample against those before it."""
        if self.keys.setdefault(sample.key, where) != where:
            self.report.add(f"{where}: the sample {sample.key} is in {self.keys[sample.key]} too")
        if self.prompts.setdefault(sample.prompt_id, sample.split) != sample.split:
            self.report.add(f"{where}: its prompt is in two splits: {sample.prompt!r}")
        self.splits[sample.split] = self.splits.get(sample.split, 0) + 1
        self.report.checked["samples"] += 1


def _same(target: Target, entry: FileEntry, report: Report) -> bool:
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


def _contents(target: Target, manifest: Manifest, entry: FileEntry, seen: _Seen) -> None:
    kind = PurePosixPath(entry.path).suffix
    try:
        if kind == ".tar":
            _shard(target, manifest, entry, seen)
        elif kind == ".parquet":
            _table(target, manifest, entry, seen)
        elif kind == ".jsonl":
            _lines(target, entry, seen)
        elif kind == ".json" and manifest.format == "coco" and entry.samples is not None:
            _coco(target, entry, seen)
        elif kind in _IMAGES:
            decode_rgb(target.read(entry.path) or b"")
            seen.report.checked["images"] += 1
    except (ValueError, KeyError, TypeError, pa.ArrowException, ExportError) as error:
        text = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        seen.report.add(f"{entry.path}: {text.splitlines()[0] if text else type(error).__name__}")


def _shard(target: Target, manifest: Manifest, entry: FileEntry, seen: _Seen) -> None:
    reader = ShardReader([target.path(entry.path)], decode="numpy", check_bytes=True, on_error="skip", rank=0, world=1)
    seed = manifest.settings["selection"]["seed"]
    count = 0
    for example in reader:
        sample = example.sample
        assert sample is not None
        where = f"{entry.path} ({sample.key})"
        fields = filled_fields(sample.model_dump(mode="json"))
        fields = seen.fields.setdefault(fields, fields)  # one for all samples that fill the same
        placed = _Placed(entry.path, sample.key, order_key(sample.key, seed), fields)
        seen.placed.setdefault(sample.split, []).append(placed)
        if example.key != sample.key:
            seen.report.add(f"{where}: it lies under the key {example.key}")
        if sample.split != entry.split:
            seen.report.add(f"{where}: a sample of {sample.split} in a shard of {entry.split}")
        seen.add(sample, where)
        seen.facts[sample.key] = {"shard": entry.path, **facts(sample)}
        seen.report.checked["images"] += 1
        count += 1
    for problem in reader.skipped:
        seen.report.add(problem.removeprefix(f"{target.url}/"))
    if count + len(reader.skipped) != entry.samples:
        seen.report.add(f"{entry.path}: {count + len(reader.skipped)} samples, the manifest says {entry.samples}")


def _table(target: Target, manifest: Manifest, entry: FileEntry, seen: _Seen) -> None:
    with target.open(entry.path) as file:
        table = pq.ParquetFile(file)
        if entry.path == INDEX:
            for row in _rows(table):
                known = seen.facts.get(row["key"])
                wrong = [] if known is None else [name for name, value in known.items() if row[name] != value]
                if known is None or wrong:
                    what = "no shard has this sample" if known is None else f"it differs in {', '.join(wrong)}"
                    seen.report.add(f"{entry.path} ({row['key']}): {what}")
                seen.rows += 1
            return
        if table.metadata.num_rows != entry.samples:
            seen.report.add(f"{entry.path}: {table.metadata.num_rows} rows, the manifest says {entry.samples}")
        for row in _rows(table):
            for image in [row.pop("image")] if manifest.format == "hf" else row["images"]:
                decode_rgb(image["bytes"])
                seen.report.checked["images"] += 1
            if manifest.format == "hf":
                sample = Sample.model_validate(row)
                seen.add(sample, f"{entry.path} ({sample.key})")


def _rows(table: pq.ParquetFile) -> Iterator[dict[str, Any]]:
    for batch in table.iter_batches(batch_size=100):
        yield from batch.to_pylist()


def _lines(target: Target, entry: FileEntry, seen: _Seen) -> None:
    known = set(target.names())
    number = 0
    with target.open(entry.path) as file:
        for number, line in enumerate(file, start=1):
            row = orjson.loads(line)
            paths = [row[name] for name in ("image", "chosen", "rejected") if name in row] + list(row.get("images", []))
            for path in paths:
                if path not in known:
                    seen.report.add(f"{entry.path}:{number}: there is no {path}")
    if entry.samples is not None and number != entry.samples:
        seen.report.add(f"{entry.path}: {number} rows, the manifest says {entry.samples}")


def _coco(target: Target, entry: FileEntry, seen: _Seen) -> None:
    data = json.loads(target.read(entry.path) or b"")
    found: dict[int, list[dict[str, Any]]] = {}
    for one in data["annotations"]:
        found.setdefault(one["image_id"], []).append(one)
    for image in data["images"]:
        sample = coco.sample_of(image, found.get(image["id"], []))
        seen.add(sample, f"{entry.path} ({sample.key})")


def _whole(manifest: Manifest, seen: _Seen, damaged: set[str]) -> None:
    """What holds over all samples; the counts only where no file is known to be damaged."""
    if not damaged and seen.splits and seen.splits != manifest.counts["split"]:
        seen.report.add(f"{MANIFEST}: it counts {manifest.counts['split']}, there are {seen.splits}")
    if not damaged and seen.facts and seen.rows != len(seen.facts):
        seen.report.add(f"{INDEX}: {seen.rows} rows for {len(seen.facts)} samples")
    proof = manifest.notes.get("split_proof", {})
    if proof.get("shared_prompts") or proof.get("shared_images"):
        seen.report.add(f"{MANIFEST}: its own split proof does not hold")
