"""What an evaluation is made of: two sides and a ceiling, all from the store or all from files; what was left out."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdg_data.errors import ConfigError, InputError
from sdg_data.metrics.protocol import Protocol
from sdg_data.words import counted

if TYPE_CHECKING:
    from sdg_data.metrics.release_files import FileReport
    from sdg_data.metrics.store_sources import Filter
    from sdg_data.metrics.tables import DefectTable, Pairs
    from sdg_data.settings import Settings


@dataclass(frozen=True)
class Inputs:
    """What a comparison is made of.

    Attributes:
        gt: The ground truth.
        pred: The predictions.
        ceiling: Ground truth and a second person's annotation, for the human ceiling.
        agreement: How far people agree, for the JSON.
        rows: What each side held, for the JSON.
        notes: What the user must know of the sides, a line each.
        left_out: The same, of rows and images that no figure counts.
        from_files: Whether two files were compared. They are meant to name the same images; two sources of a store are
            not, as a person sees a part of it.
    """

    gt: "DefectTable"
    pred: "DefectTable"
    ceiling: "tuple[DefectTable, DefectTable] | None"
    agreement: dict[str, Any] | None
    rows: dict[str, Any]
    notes: list[str]
    left_out: list[str] = field(default_factory=list)
    from_files: bool = False


def fills_missing(missing: str) -> bool:
    """What `--missing` says: whether an image without a prediction counts as a failure.

    Args:
        missing: The option's value.

    Returns:
        Whether it does.

    Raises:
        ConfigError: It is neither exclude nor fail.
    """
    if missing not in ("exclude", "fail"):
        raise ConfigError(f"--missing is exclude or fail, not {missing}")
    return missing == "fail"


def read_inputs(
    settings: "Settings", gt: str, pred: str, ceiling: str | None, protocol: Protocol, chosen: "Filter"
) -> Inputs:
    """Read both sides and the ceiling, all of them from files or all from the store.

    Args:
        settings: Name the store.
        gt: A file, or a source of the store: the ground truth.
        pred: The same: the predictions.
        ceiling: The same: a second person's annotation; None: what the store itself has of the kind, "none": nothing.
        protocol: How files are read.
        chosen: Which images of the store.

    Returns:
        The sides, and what the user must know of them.

    Raises:
        ConfigError: A file is to be compared with a source of the store, or images of files are to be chosen.
    """
    from sdg_data.metrics.store_sources import parse_source

    from_files = parse_source(gt) is None
    if from_files != (parse_source(pred) is None):
        raise ConfigError(
            "one is a file, the other a source of the store: their images have no common name",
            item=f"--gt {gt} --pred {pred}",
            hint="Write the store's side with `sdg export run --format release-jsonl`, and compare two files.",
        )
    if not from_files:
        return _read_store(settings, gt, pred, ceiling, chosen)
    if chosen.split is not None or chosen.models is not None:
        raise ConfigError("--split and --models choose images of the store, not rows of files")
    return _read_files(gt, pred, ceiling, protocol)


def _read_files(gt: str, pred: str, ceiling: str | None, protocol: Protocol) -> Inputs:
    """All sides are release JSONL files."""
    from sdg_data.metrics.release_files import ANNOTATIONS, ReleaseFile, copies, without_answers

    truth, guess = ReleaseFile(Path(gt), "gt", protocol), ReleaseFile(Path(pred), "pred", protocol)
    files, both, notes = {"gt": truth, "pred": guess}, None, []
    truth_table = truth.read()
    guess_table, joined = _named_like(guess.read(), truth_table)
    if joined:
        notes.append(f"{pred}: {counted(joined, 'image')} joined by the end of their path, as their folders differ")
    if guess.report.answers == ANNOTATIONS:
        if copies(truth_table, guess_table) and not Path(gt).samefile(pred):
            guess_table = without_answers(guess_table, guess.report)
            notes.append(f"{pred}: no row has a `response`, and its annotations are the ground truth's own: no answers")
        elif len(guess.report.failures) == len(guess_table):
            keys = ", ".join(guess.report.keys[:8])
            notes.append(f"{pred}: no row has a `response`, nor an annotation: no answers. The first one has: {keys}")
        else:
            notes.append(f"{pred}: no row has a `response`, so its annotations are measured like predictions")
    if ceiling not in (None, "none"):
        files["ceiling"] = ReleaseFile(Path(str(ceiling)), "gt", protocol)
        both = truth_table, _named_like(files["ceiling"].read(), truth_table)[0]
    rows = {side: file.report.as_dict() for side, file in files.items()}
    for file in (truth, guess):
        notes += _notes(file.report)
    left_out = [note for file in (truth, guess) for note in _left_out(file.report)]
    return Inputs(truth_table, guess_table, both, None, rows, notes, left_out, from_files=True)


def _named_like(table: "DefectTable", truth: "DefectTable") -> tuple["DefectTable", int]:
    """The table with the ground truth's names of its images, and how many were joined by the end of their path."""
    from sdg_data.metrics.image_paths import normalised, partners

    names = partners(truth.keys, table.keys)
    keys = tuple(names.get(key, key) for key in table.keys)
    joined = sum(normalised(key) != normalised(name) for key, name in names.items())
    return replace(table, keys=keys), joined


def _left_out(report: "FileReport") -> Iterator[str]:
    if report.rejected:
        first = ", ".join(f"line {line['line']} ({line['code']})" for line in report.rejected_lines[:3])
        yield f"{report.path}: left out as no row: {counted(report.rejected, 'line')}: {first}"
    if report.conflicting:
        images = f"{counted(len(report.conflicting), 'image')} left out, with rows that contradict each other"
        yield f"{report.path}: {images}: {some(tuple(report.conflicting))}"


def _notes(report: "FileReport") -> Iterator[str]:
    for code, count in report.reasons.most_common():
        names = tuple(failure["filepath"] for failure in report.failures if failure["code"] == code)
        yield f"{report.path}: answers that could not be read: {code} {count} ({some(names)})"
    if report.dropped:
        yield f"{report.path}: {counted(report.dropped, 'item')} without box_2d or label dropped"
    if report.misplaced:
        yield f"{report.path}: matching nothing: {counted(report.misplaced, 'item')} whose box is not four numbers"


def _read_store(settings: "Settings", gt: str, pred: str, ceiling: str | None, chosen: "Filter") -> Inputs:
    """All sides are sources of the store; the ceiling is what people judged twice, unless it names another source."""
    from sdg_data.blobs import Blobs
    from sdg_data.metrics.agreement import agreement
    from sdg_data.metrics.ceiling import overlapping, second_opinions
    from sdg_data.metrics.store_sources import KINDS, StoreSource, parse_source
    from sdg_data.store.connection import Store

    store, rows = Store(settings.home), {}

    def read(name: str, side: str) -> "DefectTable":
        source = parse_source(name)
        if source is None:
            raise ConfigError(
                f"there is no source {name!r}", item=f"--{side}", hint=f"A source of the store is {KINDS}."
            )
        table = StoreSource(store, source, chosen, Blobs(settings.blob_url)).read()
        rows[side] = {"source": name, "images": len(table), "split": chosen.split, "models": chosen.models}
        return table

    truth, guess = read(gt, "gt"), read(pred, "pred")
    if ceiling == "none":
        return Inputs(truth, guess, None, None, rows, [])
    with store.read() as tx:
        people = overlapping(tx, chosen)
    agreed = asdict(agreement(people)) if people else None
    if ceiling is not None:
        return Inputs(truth, guess, (truth, read(ceiling, "ceiling")), agreed, rows, [])
    if not people:
        notes = ["no human ceiling: no image was judged by two people independently"]
        return Inputs(truth, guess, None, None, rows, notes)
    return Inputs(truth, guess, second_opinions(people), agreed, rows, [])


def check_common(pairs: "Pairs") -> None:
    """Make sure that there is an image to measure.

    Args:
        pairs: Both sides.

    Raises:
        InputError: There is none.
    """
    if not pairs.common:
        raise InputError(
            f"no image in common: the ground truth has {some(pairs.missing)}; the predictions {some(pairs.extra)}",
            hint="Files are joined by `filepath`: the whole path, or the end of a longer one.",
        )
    if not len(pairs.gt):
        raise InputError("no image has a ground truth that can be read", item=some(pairs.unreadable))


def some(keys: tuple[str, ...]) -> str:
    """The first of some names, for a message."""
    return ", ".join(keys[:3]) + (", …" if len(keys) > 3 else "")
