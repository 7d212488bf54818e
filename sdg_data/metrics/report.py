"""The evaluation for people: report.md with figures (SVG), the table of the terminal, and the JSON file.

Everything is taken from the JSON document, so a report can be made again from a stored one.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from schemas.defect import DEFECT_TYPES
from sdg_data.errors import InputError
from sdg_data.metrics.definitions import Metric, headline_metrics
from sdg_data.metrics.report_charts import count_chart, headline_chart, model_chart

_WORST = 20


def write_json(document: Mapping[str, Any], path: Path | None) -> None:
    """Write a document as indented JSON.

    `InputError` is raised where the file cannot be written.

    Args:
        document: values that JSON can hold.
        path: the file; None: standard output.
    """
    data = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    if path is None:
        with open(1, "wb", closefd=False) as stdout:
            stdout.write(data)
        return
    _write(path, data)


def write_report(document: Mapping[str, Any], folder: Path) -> Path:
    """Write an evaluation as `report.md` with its charts (SVG).

    `InputError` is raised where a file cannot be written.

    Args:
        document: the evaluation's JSON.
        folder: where the files go; it is made where it is missing.

    Returns:
        The path of `report.md`.
    """
    charts = {
        "boxes.svg": headline_chart(document, "boxes", "BoxF1"),
        "images.svg": headline_chart(document, "image_level", "Image level"),
        "models.svg": model_chart(document),
        "counts.svg": count_chart(document),
    }
    for name, svg in charts.items():
        _write(folder / name, svg.encode())
    _write(folder / "report.md", markdown(document).encode())
    return folder / "report.md"


def summary_rows(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The headline metrics, a row for each metric and type, with n, interval, ceiling and published ones.

    Args:
        document: The evaluation's JSON.

    Returns:
        The rows; where images are unanswered with "at worst", the figure with each charged with the worst answer.
    """
    published, ceiling = document["published"]["models"], document["ceiling"]
    worst = document["at_worst"] if document["at_worst"]["unanswered"] else None
    rows = []
    for name, metric in headline_metrics().items():
        for kind in DEFECT_TYPES:
            interval, count = metric.interval(document, kind), metric.count(document, kind)
            rows.append(
                {
                    "metric": metric.title,
                    "type": kind,
                    "value": _number(metric.value(document, kind)),
                    "n": "" if count is None else count,
                    "95 % interval": "" if interval is None else f"{interval[0]:.3f}–{interval[1]:.3f}",
                    **({} if worst is None else {"at worst": _worst_value(metric, worst, kind)}),
                    "ceiling": "" if ceiling is None else _number(metric.value(ceiling, kind)),
                    "SDG SFT (published)": _number(published["SDG SFT"].get(name, {}).get(kind)),
                    "human (published)": _number(published["human"].get(name, {}).get(kind)),
                }
            )
    return rows


def worst_images(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows of `Evaluation.per_image` with an F1 at 0.5 under 1: the lowest first, then most boxes, then name."""
    not_right = [row for row in rows if row["f1@0.5"] is not None and row["f1@0.5"] < 1]
    return sorted(not_right, key=lambda row: (row["f1@0.5"], -(row["gt_all"] + row["pred_all"]), row["filepath"]))


def markdown(document: Mapping[str, Any]) -> str:
    """The report's text. Names out of the data are shown as text, whatever they contain."""
    parsing, rows = document["parsing"], document["rows"]
    similarity = document["description"]["similarity"]
    lines = [
        "# SDG-Eval",
        "",
        (
            f"Protocol **{document['protocol']}**, {document['images']} images, similarity of reasons "
            f"**{_text(similarity)}**."
        ),
        "",
    ]
    if document["protocol"] != document["published"]["protocol"] or similarity != document["published"]["similarity"]:
        lines += [
            (
                f"The published figures are of protocol {document['published']['protocol']} with "
                f"{document['published']['similarity']}: where protocol or similarity differ, do not compare."
            ),
            "",
        ]
    lines += markdown_table(summary_rows(document))
    if document["ceiling"] is None:
        lines += ["", "No human ceiling: give a second person's annotation with `--ceiling`."]
    else:
        lines += ["", f"The ceiling is a second annotation of {document['ceiling']['images']} of the images."]
    lines += ["", "![Boxes](boxes.svg)", "", "![Images](images.svg)", "", "## What was read", ""]
    lines += [
        (
            f"- Predictions: {parsing['parsed']} parsed, {parsing['failed']} failed, {parsing['degenerate']} "
            f"degenerate (parse-failure rate {_number(parsing['rate'])})."
        ),
        (
            f"- {len(rows['missing'])} images without a prediction, {len(rows['extra'])} predictions without ground "
            f"truth, {len(rows['unreadable'])} images left out because their ground truth cannot be read."
        ),
    ]
    for side in ("gt", "pred", "ceiling"):
        if side in rows:
            lines.append(_file_line(side, rows[side]))
    lines += [
        "",
        "## Boxes",
        "",
        *markdown_table(_box_rows(document)),
        "",
        "## Images",
        "",
        *markdown_table(_image_rows(document)),
    ]
    lines += ["", "## Reasons", "", *markdown_table(_reason_rows(document)), ""]
    count = document["count"]
    lines += [
        (
            f"Detection-aware similarity {_number(document['description']['detection_aware'])}, token-F1 "
            f"{_number(document['description']['token_f1']['detection_aware'])}."
        ),
        "",
        "## Number of boxes",
        "",
        (
            f"Mean absolute error {_number(count['mae'])}, exact on {_number(count['exact_match'])} of the images, "
            f"correlation {_number(count['correlation'])}."
        ),
        "",
        "![Number of boxes](counts.svg)",
        "",
        "## By generator",
        "",
        *markdown_table(_model_rows(document)),
        "",
        "![By generator](models.svg)",
    ]
    for name in ("subtype", "tier", "size"):
        if document["breakdown"][name]:
            lines += ["", f"## By {name}", "", *markdown_table(_part_rows(document["breakdown"][name], name))]
    lines += _calibration_lines(document["calibration"])
    lines += _false_alarm_lines(document)
    if "confusion" in document:
        lines += _confusion_lines(document["confusion"])
    lines += [
        "",
        f"## Worst images (F1 at 0.5, of those with boxes; {_WORST} at most)",
        "",
        *markdown_table(_worst(document)),
    ]
    return "\n".join(lines) + "\n"


# --- tables


def _box_rows(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"IoU ≥": threshold, "type": scope, **{name: _number(value) for name, value in values.items()}}
        for threshold, scopes in document["boxes"].items()
        for scope, values in scopes.items()
    ]


def _image_rows(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": scope, **{name.replace("_", " "): _number(value) for name, value in values.items()}}
        for scope, values in document["image_level"].items()
    ]


def _reason_rows(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    description = document["description"]
    rows = []
    for name, tree in ((description["similarity"], description), ("token-F1", description["token_f1"])):
        for scope in ("all", *DEFECT_TYPES):
            part = tree[scope]
            shares = {f"share ≥ {edge}": _number(share) for edge, share in part["shares"].items()}
            means = {key: _number(part[key]) for key in ("mean", "median")}
            rows.append({"measure": name, "type": scope, "pairs": part["pairs"], **means, **shares})
    return rows


def _model_rows(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for model, part in document["breakdown"]["model"].items():
        row = {"generator": model, "images": part["images"], "unparsed": part["parse_failures"]}
        for kind in DEFECT_TYPES:
            row[f"DetTypeF1 {kind}"] = _number(part["image_level"][kind]["f1"])
            row[f"BoxF1@0.5 {kind}"] = _number(part["boxes"]["0.5"][kind]["f1"])
        rows.append(row)
    return rows


def _part_rows(parts: Mapping[str, Any], title: str) -> list[dict[str, Any]]:
    rows = []
    for name, part in parts.items():
        row = {title: name, "ground truth": part["gt"], "predicted": part["pred"]}
        for threshold in ("0.1", "0.5"):
            row[f"recall@{threshold}"] = _number(part["boxes"][threshold]["recall"])
            row[f"precision@{threshold}"] = _number(part["boxes"][threshold]["precision"])
        row |= {"pairs": part["pairs"], f"same {title}": _number(part["same"])}
        row |= {"DescCos": _number(part["description"]), "ImpAcc": _number(part["importance"])}
        rows.append(row)
    return rows


def _worst_value(metric: Metric, worst: Mapping[str, Any], kind: str) -> str:
    """A figure of `at_worst`; a metric that another package added has none there."""
    try:
        return _number(metric.value(worst, kind))
    except KeyError:
        return ""


def _points(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.1f}"


def _calibration_lines(document: Mapping[str, Any]) -> list[str]:
    rows = [
        {
            "type": scope,
            "pairs": part["pairs"],
            "predicted − true": _signed(part["bias"]),
            "calibration error": _points(part["error"]),
            "Spearman": _number(part["spearman"]),
        }
        for scope in ("all", *DEFECT_TYPES)
        for part in [document[scope]]
    ]
    bins = [
        {
            "predicted importance": f"{part['low']}–{part['high']}",
            "pairs": part["pairs"],
            "mean predicted": _points(part["predicted"]),
            "mean true": _points(part["true"]),
        }
        for part in document["all"]["bins"]
    ]
    about = f"Of pairs matched at IoU ≥ {document['threshold']}, in points of importance."
    return ["", "## Is the importance calibrated?", "", about, "", *markdown_table(rows), "", *markdown_table(bins)]


def _false_alarm_lines(document: Mapping[str, Any]) -> list[str]:
    lines = ["", "## False alarms where there is nothing", ""]
    rows = [
        {
            "images": group,
            "n": document["n"]["false_alarms"][group][scope]["share"],
            "type": scope,
            "share with a false alarm": _number(part[scope]["share"]),
            "boxes an image": _number(part[scope]["boxes"]),
        }
        for group, part in document["false_alarms"].items()
        for scope in ("all", *DEFECT_TYPES)
    ]
    lines += markdown_table(rows)
    for group, part in document["false_alarms"].items():
        if part["subtype"]:
            named = ", ".join(f"{_text(name)} {number}" for name, number in part["subtype"].items())
            lines += ["", f"Boxes on {group} images by subtype: {named}."]
    return lines


def _confusion_lines(document: Mapping[str, Any]) -> list[str]:
    lines = []
    for name in ("type", "subtype"):
        labels, counts = document[name]["labels"], document[name]["counts"]
        rows = [{"": label, **dict(zip(labels, row, strict=True))} for label, row in zip(labels, counts, strict=True)]
        lines += ["", f"## What is taken for what: {name}", ""]
        lines += [f"Boxes matched whatever their type (IoU ≥ {document['threshold']}); rows are the ground truth.", ""]
        lines += markdown_table(rows)
    return lines


def _worst(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "image": row["filepath"],
            "ground truth": row["gt_all"],
            "predicted": row["pred_all"],
            "matched": row["tp_all@0.5"],
            "parsing": row["parsing"],
        }
        for row in worst_images(document["per_image"])[:_WORST]
    ]


def _file_line(side: str, report: Mapping[str, Any]) -> str:
    if "source" in report:
        return f"- {side}, {_text(report['source'])}: {report['images']} images of the store."
    parts = [f"{report['images']} images in {report['rows']} rows"]
    for key, words in (
        ("rejected", "lines that are no row"),
        ("repeated", "repeated rows"),
        ("repaired", "answers read with repairs"),
        ("dropped", "items dropped"),
    ):
        if report[key]:
            parts.append(f"{report[key]} {words}")
    if report["conflicting"]:
        parts.append(f"{len(report['conflicting'])} images left out, their rows contradict each other")
    parts += [f"{code}: {count}" for code, count in report["reasons"].items()]
    return f"- {side}, {_text(report['path'])}: {', '.join(parts)}."


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The lines of a table; what a cell holds is shown as text, whatever it is. `(none)` for no rows."""
    if not rows:
        return ["(none)"]
    names = list(rows[0])
    return [
        "| " + " | ".join(names) + " |",
        "|" + "---|" * len(names),
        *("| " + " | ".join(_text(row[name]) for name in names) + " |" for row in rows),
    ]


def _text(value: object) -> str:
    """Anything as text inside a Markdown table: no line breaks, no markup."""
    text = " ".join(str(value).split())
    for mark in "\\`*_[]<>|#!":
        text = text.replace(mark, f"\\{mark}")
    return text


def _number(value: float | int | None) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def write_text(path: Path, text: str) -> Path:
    """Write a page, in a folder that is made where it is missing; `InputError` is raised where that fails.

    Args:
        path: The page.
        text: What it holds.

    Returns:
        The path.
    """
    _write(path, text.encode())
    return path


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise InputError(f"cannot write it ({error.strerror})", item=str(path)) from error
