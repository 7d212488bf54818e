"""The tables of studies: what is compared, who rates, and every vote with its earlier revisions."""

from collections.abc import Sequence
from datetime import UTC, datetime

from schemas.study import Study, StudyRefusal, StudyTrial, StudyVote
from sdg_data.ids import content_id
from sdg_data.store.connection import Tx
from sdg_data.store.rows import as_record, as_stored, insert_new, select


def insert(tx: Tx, study: Study, trials: Sequence[StudyTrial], refusals: Sequence[StudyRefusal]) -> int:
    """Insert a study with its trials; what is there already stays. Returns how many trials are new."""
    row = {**study.model_dump(mode="json"), "created_at": as_stored(study.created_at)}
    insert_new(tx, "studies", [row], key=["id"])
    insert_new(tx, "study_refusals", [refusal.model_dump() for refusal in refusals], key=["study_id", "item", "arm"])
    return insert_new(tx, "study_trials", [trial.model_dump(mode="json") for trial in trials], key=["id"])


def all_studies(tx: Tx) -> list[Study]:
    """Every study, the oldest first."""
    rows = select(tx, "SELECT * FROM studies ORDER BY created_at, name")
    return [Study(**{**row, "created_at": as_record(row["created_at"])}) for row in rows]


def named(tx: Tx, name: str) -> Study | None:
    """The study of a name; None: there is none."""
    return next((study for study in all_studies(tx) if study.name == name), None)


def trials(tx: Tx, study_id: str) -> list[StudyTrial]:
    """The trials of a study in the order of their numbers."""
    rows = select(tx, "SELECT * FROM study_trials WHERE study_id = ? ORDER BY number", [study_id])
    return [StudyTrial(**row) for row in rows]


def refusals(tx: Tx, study_id: str) -> list[StudyRefusal]:
    """What an arm has no image for, by item."""
    rows = select(tx, "SELECT * FROM study_refusals WHERE study_id = ? ORDER BY item, arm", [study_id])
    return [StudyRefusal(**row) for row in rows]


def add_raters(tx: Tx, study_id: str, names: Sequence[str]) -> None:
    """Give each new rater the next number, which decides the sides that the rater sees."""
    known = raters(tx, study_id)
    new = [name for name in dict.fromkeys(names) if name not in known]
    rows = [{"study_id": study_id, "rater": name, "number": len(known) + k} for k, name in enumerate(new)]
    insert_new(tx, "study_raters", rows, key=["study_id", "rater"])


def raters(tx: Tx, study_id: str) -> dict[str, int]:
    """The raters of a study and their numbers, in order of these."""
    rows = select(tx, "SELECT rater, number FROM study_raters WHERE study_id = ? ORDER BY number", [study_id])
    return {row["rater"]: row["number"] for row in rows}


def vote(
    tx: Tx, trial: StudyTrial, rater: str, *, shown: Sequence[int], ranks: Sequence[int], seconds: float
) -> StudyVote:
    """Store a rater's answer as a new revision, unless the rater's last answer to the trial says the same.

    Args:
        tx: A transaction that writes.
        trial: What was asked.
        rater: Who answered.
        shown: Places in `trial.arms`, from left to right as they were shown.
        ranks: The rank of each of `trial.arms`, 1 the best.
        seconds: From the question to the answer.

    Returns:
        The vote as it is stored. Pydantic's ValidationError is raised where places or ranks are none of this trial.
    """
    last = select(
        tx,
        "SELECT * FROM study_votes WHERE trial_id = ? AND rater = ? ORDER BY revision DESC LIMIT 1",
        [trial.id, rater],
    )
    if last and (tuple(last[0]["ranks"]), tuple(last[0]["shown"])) == (tuple(ranks), tuple(shown)):
        return _vote(last[0])
    revision = last[0]["revision"] + 1 if last else 0
    new = StudyVote(
        id=content_id("vote", trial.id, rater, revision),
        study_id=trial.study_id,
        trial_id=trial.id,
        rater=rater,
        revision=revision,
        shown=tuple(shown),
        ranks=tuple(ranks),
        seconds=seconds,
        created_at=datetime.now(UTC),
    )
    insert_new(tx, "study_votes", [{**new.model_dump(), "created_at": as_stored(new.created_at)}], key=["id"])
    return new


def votes(tx: Tx, study_id: str, rater: str | None = None) -> list[StudyVote]:
    """The votes that count: of each trial and rater the last revision, in the order in which they were given."""
    rows = select(
        tx,
        """
        SELECT * FROM study_votes WHERE study_id = ? AND (? IS NULL OR rater = ?)
        QUALIFY revision = max(revision) OVER (PARTITION BY trial_id, rater)
        ORDER BY created_at, trial_id, rater
        """,
        [study_id, rater, rater],
    )
    return [_vote(row) for row in rows]


def _vote(row: dict[str, object]) -> StudyVote:
    created_at = row["created_at"]
    assert isinstance(created_at, datetime)
    return StudyVote.model_validate({**row, "created_at": as_record(created_at)})
