"""Where each person stands by their answers to known-answer items: new, qualified, under the bar, or suspended.

Two runs of numbers are watched, each against a bar of its own (`sequential`):

    accuracy   the share of right decisions of each answer
    own eyes   of the prelabels that were shown with a fault, whether the fault was mended (1) or left in (0); of blind
               answers, the share of right decisions

The second finds who copies the machine: where the machine is right they are right, so their accuracy looks fair. Both
begin anew when a lead admits somebody again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import groupby
from statistics import fmean
from typing import Any

from annotate.known_answers.incoming import IOU
from annotate.known_answers.scoring import above_chance, chance, own_eyes
from annotate.known_answers.sequential import Bar, Course, follow
from schemas.known_answers import Decision, PersonDecision
from sdg_data.settings import KnownAnswerSettings
from sdg_data.store import known_answers
from sdg_data.store.connection import Tx
from sdg_data.store.known_answers import ScoredAnswer
from sdg_data.words import rounded

RECENT = 20
"""How many of the last answers stand beside the mean of all, so that a fall can be seen before it is an alarm."""
_IN_WORDS = {"under the bar": "under the bar and gets no more tasks", "suspended": "suspended"}
BY_ITSELF = "known-answers"
"""Who decided, where an alarm did."""


class State(StrEnum):
    """`new`: too few answers to tell. `qualified`: shown to be above the bar. `under the bar`: an alarm stands.

    `suspended`: a lead said so.
    """

    NEW = "new"
    QUALIFIED = "qualified"
    UNDER = "under the bar"
    SUSPENDED = "suspended"


@dataclass(frozen=True)
class Watched:
    """What the two bars say of one person's answers; `alarm`: why they are under one, in words."""

    accuracy: Course
    own_eyes: Course
    alarm: str | None


@dataclass(frozen=True)
class PersonStanding:
    """One person's answers to known-answer items, and where they stand.

    Attributes:
        person: The annotator's name in the store.
        state: Where they stand.
        answers: Items that they answered and that have a score.
        no_claim: Items that they skipped or could not judge, which count for nothing.
        hits: True defects found under the right type.
        wrong_type: True defects found under the other type.
        missed: True defects not found.
        false_boxes: Boxes on nothing.
        importance_error: Mean error of the importance of the hits; None where it is not known.
        share: Mean share of right decisions; None without an answer.
        by_chance: What the same answers score on other items.
        above_chance: (share − chance) / (1 − chance).
        recent: The mean share of the last `RECENT` answers.
        faults: How many prelabels with a fault they were shown.
        followed: How many of these faults they left in.
        suspicion: How near an alarm is, 0..1, by the nearer of the two bars.
        reason: Why they are under the bar or suspended; None: they are not.
        seconds: The time of these answers, which is part of no hours of the dataset.
    """

    person: str
    state: State
    answers: int
    no_claim: int
    hits: int
    wrong_type: int
    missed: int
    false_boxes: int
    importance_error: float | None
    share: float | None
    by_chance: float | None
    above_chance: float | None
    recent: float | None
    faults: int
    followed: int
    suspicion: float
    reason: str | None
    seconds: float


def watch(answers: Sequence[ScoredAnswer], settings: KnownAnswerSettings) -> Watched:
    """What the bars say of one person's answers, in the order in which they were entered."""
    shares = [answer.share for answer in answers if answer.share is not None]
    scored = [answer for answer in answers if answer.share is not None]
    own = [own_eyes(answer.share or 0.0, answer.followed, led=answer.led) for answer in scored]
    alone = [value for value in own if value is not None]
    accuracy = follow(shares, Bar(settings.accuracy, settings.alpha))
    unled = follow(alone, Bar(settings.own_eyes, settings.alpha))
    alarm = None
    if accuracy.alarm_at is not None:
        seen = shares[: accuracy.alarm_at]
        alarm = (
            f"{fmean(seen[-RECENT:]):.0%} of the decisions were right in the last {len(seen[-RECENT:])} known answers"
        )
        alarm += f" (the bar is {settings.accuracy:.0%})"
    elif unled.alarm_at is not None:
        seen = alone[: unled.alarm_at][-RECENT:]
        alarm = f"where the prelabel was wrong or not shown, {fmean(seen):.0%} was right in the last {len(seen)}"
        alarm += f" known answers (the bar is {settings.own_eyes:.0%})"
    return Watched(accuracy, unled, alarm)


def new_alarms(tx: Tx, settings: KnownAnswerSettings) -> dict[str, str]:
    """Who is under a bar and not suspended yet, and why; what every pull asks, and no more than that."""
    suspended, since = known_answers.suspended(tx), _admitted(known_answers.decisions(tx))
    alarms = {}
    for person, group in groupby(known_answers.scored(tx), key=lambda answer: answer.person):
        if person not in suspended:
            reason = watch(_counted(list(group), since.get(person)), settings).alarm
            if reason is not None:
                alarms[person] = reason
    return alarms


def _admitted(decided: Sequence[PersonDecision]) -> dict[str, datetime]:
    """Since when the bars of those count who were admitted again."""
    return {entry.person: entry.created_at for entry in decided if entry.decision is Decision.ADMITTED}


def _counted(answers: Sequence[ScoredAnswer], since: datetime | None) -> list[ScoredAnswer]:
    return [answer for answer in answers if since is None or answer.created_at > since]


def standings(tx: Tx, settings: KnownAnswerSettings) -> list[PersonStanding]:
    """Everybody who answered a known-answer item or about whom something was decided, by name."""
    answers = known_answers.scored(tx)
    by_person = {person: list(group) for person, group in groupby(answers, key=lambda answer: answer.person)}
    decided: dict[str, list[PersonDecision]] = defaultdict(list)
    for decision in known_answers.decisions(tx):
        decided[decision.person].append(decision)
    chances = _chances(tx, answers)
    return [
        _standing(person, by_person.get(person, []), decided.get(person, []), chances.get(person), settings)
        for person in sorted({*by_person, *decided})
    ]


def _standing(
    person: str,
    answers: Sequence[ScoredAnswer],
    decided: Sequence[PersonDecision],
    by_chance: float | None,
    settings: KnownAnswerSettings,
) -> PersonStanding:
    last = decided[-1] if decided else None
    watched = watch(_counted(answers, _admitted(decided).get(person)), settings)
    scored = [answer for answer in answers if answer.share is not None]
    shares = [answer.share for answer in scored if answer.share is not None]
    errors = [answer.importance_error for answer in scored if answer.importance_error is not None]
    state, reason = State.NEW, None
    if last is not None and last.decision is Decision.SUSPENDED:
        state, reason = (State.UNDER if last.decided_by == BY_ITSELF else State.SUSPENDED), last.reason
    elif watched.alarm is not None:
        state, reason = State.UNDER, watched.alarm
    elif watched.accuracy.qualified_at is not None:
        state = State.QUALIFIED
    mean = fmean(shares) if shares else None
    return PersonStanding(
        person=person,
        state=state,
        answers=len(scored),
        no_claim=len(answers) - len(scored),
        hits=sum(answer.hits or 0 for answer in scored),
        wrong_type=sum(answer.wrong_type or 0 for answer in scored),
        missed=sum(answer.missed or 0 for answer in scored),
        false_boxes=sum(answer.false_boxes or 0 for answer in scored),
        importance_error=fmean(errors) if errors else None,
        share=mean,
        by_chance=by_chance,
        above_chance=None if mean is None else above_chance(mean, by_chance),
        recent=fmean(shares[-RECENT:]) if shares else None,
        faults=sum(answer.followed is not None for answer in scored),
        followed=sum(answer.followed is True for answer in scored),
        suspicion=max(watched.accuracy.suspicion, watched.own_eyes.suspicion),
        reason=reason,
        seconds=sum(answer.seconds or 0.0 for answer in answers),
    )


def _chances(tx: Tx, answers: Sequence[ScoredAnswer]) -> dict[str, float | None]:
    """What each person's answers score on other items, by person."""
    scored = [answer for answer in answers if answer.share is not None]
    said = known_answers.annotations_by_ids(tx, [answer.annotation_id for answer in scored])
    items = known_answers.items(tx, [answer.image_id for answer in scored])
    chances = {}
    for person, group in groupby(scored, key=lambda answer: answer.person):
        own = list(group)
        drawn = [[defect.defect for defect in said[answer.annotation_id].defects] for answer in own]
        chances[person] = chance(drawn, [items[answer.image_id].truth for answer in own], iou=IOU)
    return chances


def described(people: Sequence[PersonStanding]) -> str:
    """What a table of standings is about, with what it is kept out of."""
    answers, hours = (
        sum(person.answers + person.no_claim for person in people),
        sum(person.seconds for person in people) / 3600,
    )
    return f"Known answers ({answers} answers, {hours:.2f} hours, counted in nothing else)"


def alarms(people: Sequence[PersonStanding]) -> list[str]:
    """A line for each person who is under the bar or suspended, with the reason."""
    return [
        f"{person.person} is {_IN_WORDS[person.state]}: {person.reason}"
        for person in people
        if person.reason is not None
    ]


def as_rows(people: Sequence[PersonStanding]) -> list[dict[str, Any]]:
    """One row of a table for each person, who is nearest to an alarm first."""
    ordered = sorted(people, key=lambda person: (person.reason is None, -person.suspicion, person.person))
    return [
        {
            "person": person.person,
            "state": person.state.value,
            "known answers": person.answers,
            "no claim": person.no_claim,
            "right": rounded(person.share, 2),
            "last 20": rounded(person.recent, 2),
            "above chance": rounded(person.above_chance, 2),
            "found": person.hits,
            "wrong type": person.wrong_type,
            "missed": person.missed,
            "false boxes": person.false_boxes,
            "importance off by": rounded(person.importance_error, 1),
            "faults left in": f"{person.followed}/{person.faults}",
            "suspicion": round(person.suspicion, 2),
        }
        for person in ordered
    ]
