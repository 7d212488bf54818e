"""What `sdg refine` says on the screen: the plan, the end of a run, and the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from generators.editors.presets import EditorPreset
from sdg_data.console import print_json, print_table, say
from sdg_data.words import decimal
from trainers.refinement.settings import RefineSettings
from trainers.refinement.source import Work


def summary_of(
    work: Work, states: Mapping[str, int], verdicts: Mapping[str, int], failed: Mapping[str, int], seconds: float
) -> dict[str, Any]:
    """The end of a run as JSON: states of images, verdicts of edits, failures, and what was not edited."""
    return {
        "images": dict(sorted(states.items())),
        "edits": dict(sorted(verdicts.items())),
        "failed": dict(sorted(failed.items())),
        "not_edited": {
            "done before": work.done,
            "clean": work.clean,
            "unreadable": work.unreadable,
            "not judged": work.not_judged,
            "edits themselves": work.edits,
        },
        "seconds": round(seconds, 3),
    }


def conclusion(summary: dict[str, Any]) -> str:
    """The end of a run in a sentence."""
    from sdg_data.progress import duration

    states = ", ".join(f"{number} {state}" for state, number in summary["images"].items()) or "none"
    edits = ", ".join(f"{number} {verdict}" for verdict, number in summary["edits"].items()) or "none"
    text = f"images: {states}; edits: {edits}; in {duration(summary['seconds'])}"
    if summary["failed"]:
        failed = ", ".join(f"{number} {code}" for code, number in summary["failed"].items())
        text += f"; failed: {failed} (recorded; --retry-failures CODE does these images again)"
    return text


def show_plan(work: Work, refine: RefineSettings, preset: EditorPreset, limit: int | None, as_json: bool) -> None:
    """What there is to do, as a table or JSON."""
    due = len(work.defects) if limit is None else min(limit, len(work.defects))
    each = refine.budget or refine.candidates * refine.most_rounds
    plan = {
        "arm": refine.arm,
        "editor": preset.name,
        "images to refine": due,
        "defects": sum(len(defects) for defects in list(work.defects.values())[:due]),
        "edits at most": due * min(each, refine.candidates * refine.most_rounds),
        "done before": work.done,
        "with failures": work.incomplete,
        "clean": work.clean,
        "unreadable": work.unreadable,
        "not judged": work.not_judged,
    }
    if as_json:
        print_json(plan)
    else:
        print_table([plan])


def print_report(facts: dict[str, Any]) -> None:
    """The figures of `sdg_data.metrics.refinement` as tables."""

    def shown(name: str, row: dict[str, Any]) -> dict[str, Any]:
        return {"what": name, "number": row["count"], **_fall_cells(row)}

    say(f"run {facts['run'][:12]}, arm {facts['arm']}: {facts['images']} images, {facts['edits']} edits")
    print_table([{"what": "images", **facts["states"]}])
    if facts["verdicts"]:
        print_table([{"what": "edits", **facts["verdicts"]}])
    if facts["reasons"]:
        print_table([{"reason": reason, "edits": number} for reason, number in facts["reasons"].items()])
    rows = [shown("images, by the run's detector", facts["detector"])]
    if "judged" in facts:
        judged = facts["judged"]
        names = {
            "accepted": "accepted edits, by the judge",
            "all_edits": "all edits, by the judge",
            "results": "images, by the judge",
            "refined_images": "changed images, by the judge",
        }
        rows += [shown(name, judged[key]) for key, name in names.items()]
    print_table(rows)
    if "judged" in facts:
        accepted = facts["judged"]["accepted"]
        say(
            f"accepted edits that the judge calls worse: {accepted['false_acceptances']} of {accepted['count']}; "
            f"no better: {accepted['unchanged']}"
        )
    say(f"pixels changed outside of masks: {facts['pixels_changed_outside']}")
    if "explained" in facts:
        _print_explained(facts["explained"])


def _print_explained(explained: Mapping[str, list[dict[str, Any]]]) -> None:
    """The tables of `trainers.refinement.explain`."""

    def outcome(row: Mapping[str, Any]) -> dict[str, Any]:
        return {"accepted": row["accepted"], **_fall_cells(row), "worse": row["worse"]}

    say("accepted edits, by the judge")
    print_table(
        [
            {"by": row["by"], "value": row["value"], "candidates": row["candidates"], **outcome(row)}
            for row in explained["where"]
        ]
    )
    if explained["worse"]:
        say("why the judge calls accepted edits worse")
        print_table(explained["worse"])
    say("what other tests would have taken of the same candidates")
    print_table([{"test": row["test"], "rounds": row["rounds"], **outcome(row)} for row in explained["tests"]])


def _fall_cells(row: Mapping[str, Any]) -> dict[str, str]:
    """Burdens before and after and the fall with its interval, as they are printed."""
    fall, between = "–", row["interval"]
    if row["fall"] is not None:
        fall = f"{100 * row['fall']:.0f} %"
        fall += "" if between is None else f" [{100 * between[0]:.0f} to {100 * between[1]:.0f}]"
    return {
        "before": decimal(row["before"]),
        "after": decimal(row["after"]),
        "fall": fall,
    }
