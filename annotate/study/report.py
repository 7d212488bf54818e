"""What a study says: who is preferred and how surely, how far raters agree, and whom of them to look at."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Final, NamedTuple

from scipy.stats import binomtest

from schemas.study import Study, StudyProtocol, StudyRefusal, StudyTrial, StudyVote, TrialKind
from sdg_data.errors import ConfigError
from sdg_data.metrics.bootstrap import RESAMPLES
from sdg_data.metrics.preference import (
    Comparison,
    Preference,
    Strengths,
    as_json,
    bradley_terry,
    comparisons_of,
    items_for,
    preference,
    rater_agreement,
    side_counts,
)
from sdg_data.metrics.raters import RaterFigures, consensus, outcomes_of, rater_figures
from sdg_data.store import studies
from sdg_data.store.connection import Store, Tx
from sdg_data.words import decimal

WIDTHS: Final = (0.01, 0.02, 0.03, 0.05)
"""Half widths of the net preference's interval for which the report says how many items they need."""


@dataclass(frozen=True)
class StudyReport:
    """The figures of a study; `left_out` names raters whose votes are not in preferences, strengths and agreement."""

    study: Study
    items: int
    trials: int
    votes: int
    left_out: tuple[str, ...]
    preferences: tuple[Preference, ...]
    strengths: Strengths | None
    agreement: float | None
    sides: Counter[str]
    raters: tuple[RaterFigures, ...]
    refused: tuple[tuple[str, str, int], ...]


@dataclass(frozen=True)
class StudyData:
    """A study as it is stored."""

    study: Study
    trials: Sequence[StudyTrial]
    refusals: Sequence[StudyRefusal]
    votes: Sequence[StudyVote]


def load(store: Store, name: str) -> StudyData:
    """A study and what was said in it.

    Raises:
        ConfigError: There is none of that name.
    """
    with store.read() as tx:
        return read_study(tx, name)


def read_study(tx: Tx, name: str) -> StudyData:
    """`load` inside a transaction; raises as it does."""
    study = studies.named(tx, name)
    if study is None:
        known = ", ".join(other.name for other in studies.all_studies(tx)) or "none yet"
        raise ConfigError(f"there is no study {name!r}", hint=f"There is: {known}. `sdg study create` makes one.")
    return StudyData(study, studies.trials(tx, study.id), studies.refusals(tx, study.id), studies.votes(tx, study.id))


def build(
    data: StudyData, *, leave_out_flagged: bool = False, resamples: int = RESAMPLES, seed: int = 0
) -> StudyReport:
    """The report of a study.

    Args:
        data: The study as it is stored.
        leave_out_flagged: Whether votes of flagged raters are left out of the figures (not of the raters' own).
        resamples: Of the intervals.
        seed: Of the resamples.

    Returns:
        The report.
    """
    trials = {trial.id: trial for trial in data.trials}
    raters = _raters(data.votes, trials)
    left_out = tuple(figures.rater for figures in raters if figures.flags) if leave_out_flagged else ()
    judged = [
        comparison
        for vote in data.votes
        if vote.rater not in left_out and trials[vote.trial_id].kind is TrialKind.JUDGED
        for comparison in _comparisons(vote, trials[vote.trial_id])
    ]
    compared = {(comparison.first, comparison.second) for comparison in judged}
    pairs = [pair for pair in combinations(data.study.arms, 2) if pair in compared or pair[::-1] in compared]
    return StudyReport(
        study=data.study,
        items=len({trial.item for trial in data.trials}),
        trials=len(data.trials),
        votes=len(data.votes),
        left_out=left_out,
        preferences=tuple(preference(judged, a, b, resamples=resamples, seed=seed) for a, b in pairs),
        strengths=bradley_terry(judged, seed=seed) if len(data.study.arms) > 2 else None,
        agreement=rater_agreement(judged),
        sides=side_counts(judged),
        raters=raters,
        refused=tuple(
            (arm, reason, count)
            for (arm, reason), count in sorted(
                Counter((refusal.arm, refusal.reason) for refusal in data.refusals).items()
            )
        ),
    )


def _comparisons(vote: StudyVote, trial: StudyTrial) -> list[Comparison]:
    return comparisons_of(trial.item, vote.rater, trial.arms, vote.ranks, vote.shown)


def _raters(votes: Sequence[StudyVote], trials: Mapping[str, StudyTrial]) -> tuple[RaterFigures, ...]:
    """The figures of every rater, in alphabetical order."""
    said: dict[str, dict[str, list[Comparison]]] = {}
    seconds: dict[str, list[float]] = {}
    for vote in votes:
        said.setdefault(vote.rater, {})[vote.trial_id] = _comparisons(vote, trials[vote.trial_id])
        seconds.setdefault(vote.rater, []).append(vote.seconds)
    outcomes = {rater: outcomes_of(_of_kind(answers, trials, TrialKind.JUDGED)) for rater, answers in said.items()}
    return tuple(
        rater_figures(
            rater,
            judged=_of_kind(answers, trials, TrialKind.JUDGED),
            identical=_of_kind(answers, trials, TrialKind.IDENTICAL),
            repeats=[
                (answers[first], again)
                for trial_id, again in answers.items()
                if (first := trials[trial_id].repeats) is not None and first in answers
            ],
            seconds=seconds[rater],
            agreement=consensus(rater, outcomes),
            raters=len(said),
        )
        for rater, answers in sorted(said.items())
    )


def _of_kind(
    answers: Mapping[str, Sequence[Comparison]], trials: Mapping[str, StudyTrial], kind: TrialKind
) -> list[Comparison]:
    """The comparisons of trials of a kind; `answers` is trial id -> comparisons."""
    return [row for trial_id, rows in answers.items() if trials[trial_id].kind is kind for row in rows]


def document(report: StudyReport) -> dict[str, Any]:
    """The report as JSON."""
    return {
        "study": report.study.name,
        "protocol": report.study.protocol,
        "arms": list(report.study.arms),
        "items": report.items,
        "trials": report.trials,
        "votes": report.votes,
        "left_out": list(report.left_out),
        "preferences": [
            {
                **{name: getattr(row, name) for name in ("arm", "against", "items", "good", "same", "bad")},
                "net": as_json(row.net),
                "win_rate": as_json(row.win_rate),
                "win_rate_without_ties": as_json(row.win_rate_without_ties),
                "sign_p": row.sign_p,
            }
            for row in report.preferences
        ],
        "bradley_terry": None
        if report.strengths is None
        else {arm: as_json(strength) for arm, strength in report.strengths.estimates.items()},
        "agreement_alpha": report.agreement,
        "sides": {name: report.sides[name] for name in ("left", "same", "right")},
        "raters": [{**asdict(figures), "flags": list(figures.flags)} for figures in report.raters],
        "refused": [{"arm": arm, "reason": reason, "items": count} for arm, reason, count in report.refused],
    }


class ReportTable(NamedTuple):
    """A part of the report: a short name, a title, and rows whose cells are for people."""

    name: str
    title: str
    rows: list[dict[str, Any]]


def tables(report: StudyReport) -> list[ReportTable]:
    """The report as titled tables, for a terminal and for the dashboards' page; one without rows has nothing to say."""
    what = "ranked" if report.study.protocol is StudyProtocol.RANKS else "compared in pairs"
    title = f"{report.study.name}: {report.items} items {what}, {report.votes} votes"
    if report.left_out:
        title += f"; without {', '.join(report.left_out)}"
    return [
        ReportTable("preferences", title, [_preference_cells(row) for row in report.preferences]),
        ReportTable("strengths", "Bradley-Terry log-strengths (a tie is half a win)", _strength_rows(report)),
        ReportTable("all-raters", "All raters", _rater_rows(report)),
        ReportTable("raters", "Each rater", [_rater_cells(figures) for figures in report.raters]),
        ReportTable(
            "refused",
            "Items without an image of an arm (not in the figures)",
            [{"arm": arm, "reason": reason, "items": count} for arm, reason, count in report.refused],
        ),
        ReportTable("size", "Items needed for an interval of the net preference, at the shares seen", _sizes(report)),
    ]


def _preference_cells(row: Preference) -> dict[str, Any]:
    return {
        "arm": row.arm,
        "against": row.against,
        "items": row.items,
        "good": row.good,
        "same": row.same,
        "bad": row.bad,
        "net preference": _percent(row.net, signed=True),
        "win rate, tie ½": _percent(row.win_rate),
        "without ties": _percent(row.win_rate_without_ties),
        "sign test p": "–" if row.sign_p is None else f"{row.sign_p:.2g}",
    }


def _strength_rows(report: StudyReport) -> list[dict[str, Any]]:
    if report.strengths is None:
        return []
    ordered = sorted(report.strengths.estimates.items(), key=lambda pair: -(pair[1].value or 0))
    return [{"arm": arm, "strength": _plain(strength), "comparisons": strength.count} for arm, strength in ordered]


def _rater_rows(report: StudyReport) -> list[dict[str, Any]]:
    left, decided = report.sides["left"], report.sides["left"] + report.sides["right"]
    chance = f" (p {binomtest(left, decided).pvalue:.2g} if sides are even)" if decided else ""
    return [
        {"what": "agreement between raters, ordinal α", "value": decimal(report.agreement, 2)},
        {"what": "decisions for the left image", "value": f"{left} of {decided}{chance}"},
    ]


def _rater_cells(figures: RaterFigures) -> dict[str, Any]:
    return {
        "rater": figures.rater,
        "votes": figures.votes,
        "left": figures.left,
        "same": figures.same,
        "right": figures.right,
        "identical, called different": f"{figures.identical_wrong} of {figures.identical}",
        "repeated, answered alike": f"{figures.repeated_same} of {figures.repeated}",
        "median seconds": decimal(figures.median_seconds, 2),
        "look at": "; ".join(figures.flags),
    }


def _sizes(report: StudyReport) -> list[dict[str, Any]]:
    """How many items give intervals of these widths, if all votes fall as those that were given did."""
    rows: list[dict[str, Any]] = []
    for row in report.preferences:
        votes = row.good + row.same + row.bad
        if row.good + row.bad:
            sizes = {width: items_for(width, good=row.good / votes, bad=row.bad / votes) for width in WIDTHS}
            needed = {f"± {100 * width:g} points": number for width, number in sizes.items()}
            rows.append({"arm": row.arm, "against": row.against, **needed})
    return rows


def _percent(estimate: Any, *, signed: bool = False) -> str:
    if estimate.value is None:
        return "–"
    form = "+.1f" if signed else ".1f"
    ends = (
        "" if estimate.interval is None else f" [{' to '.join(format(100 * end, form) for end in estimate.interval)}]"
    )
    return f"{100 * estimate.value:{form}} %{ends}"


def _plain(estimate: Any) -> str:
    ends = "" if estimate.interval is None else f" [{' to '.join(f'{end:+.2f}' for end in estimate.interval)}]"
    return f"{estimate.value:+.2f}{ends}"
