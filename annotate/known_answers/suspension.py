"""Suspending people who are under the bar, and admitting them again.

A decision is a record first: from then on whatever the person enters is held back (`QuarantineCode.SUSPENDED`), on any
server. On the home's own server their account is closed too, so that they are given no task at all. Label Studio's API
cannot close an account (a member who was removed is let in again by its own middleware), so that is done by its own
program beside the running server; on another server its administrator has to do it, and is told so.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from annotate.known_answers.standing import BY_ITSELF, new_alarms
from annotate.labelstudio.server import Server
from schemas.known_answers import Decision, PersonDecision
from sdg_data.errors import InputError
from sdg_data.people import People
from sdg_data.settings import AnnotateSettings
from sdg_data.store import known_answers
from sdg_data.store.connection import Store, Tx
from sdg_data.store.rows import select

_SECONDS = 120
_SCRIPT = """
import os, sys
import django
import label_studio
sys.path.insert(0, os.path.dirname(label_studio.__file__))
os.environ["DJANGO_SETTINGS_MODULE"] = "core.settings.label_studio"
django.setup()
from users.models import User
active = sys.argv[1] == "active"
print("changed", User.objects.filter(pk__in=[int(number) for number in sys.argv[2:]]).update(is_active=active))
"""


def suspend_those_under(store: Store, settings: AnnotateSettings, home: Path, *, own: bool) -> list[str]:
    """Suspend everybody who is under the bar and was not suspended yet.

    Accounts are closed before it is recorded: killed in between, the next pull does both again.

    Args:
        store: The store.
        settings: The bars, and where the server is.
        home: The home whose server it is.
        own: Whether the people's server is the home's own.

    Returns:
        Who was suspended and why, a line each, and what became of the accounts.
    """
    with store.read() as tx:
        under = new_alarms(tx, settings.known_answers)
    if not under:
        return []
    outcome = close_or_open(home, settings, dict.fromkeys(under, Decision.SUSPENDED), own=own)
    with store.write() as tx:
        for person, reason in under.items():
            known_answers.decide(tx, person, Decision.SUSPENDED, reason=reason, by=BY_ITSELF)
    lines = [
        f"{person} is suspended: {reason}. `sdg annotate people admit` lets them go on"
        for person, reason in under.items()
    ]
    return [*lines, *([outcome] if outcome else [])]


def find_person(store: Store, people: People, said: str) -> str:
    """Whom somebody means: what records call a person, or what readers call them.

    Raises:
        InputError: Several people are called so, or nobody.
    """
    with store.read() as tx:
        known = sorted(_people(tx))
    if said in known:
        return said
    namesakes = [person for person in known if people.called(person) == said]
    if len(namesakes) == 1:
        return namesakes[0]
    names = ", ".join(namesakes or map(people.called, known)) or "nobody"
    if namesakes:
        raise InputError("several people are called so", item=said, hint=f"Say which: {names}.")
    raise InputError("nobody of this name has answered anything", item=said, hint=f"There is: {names}.")


def decide(store: Store, person: str, decision: Decision, *, reason: str, by: str) -> PersonDecision:
    """Record a lead's decision.

    Raises:
        InputError: There is no reason, or the decision stands already.
    """
    if not reason.strip() or not by.strip():
        raise InputError("a decision about a person needs a reason and who decided", item=person, hint="--reason, --by")
    with store.write() as tx:
        suspended = person in known_answers.suspended(tx)
        if suspended is (decision is Decision.SUSPENDED):
            raise InputError(f"is {'suspended' if suspended else 'not suspended'} already", item=person)
        return known_answers.decide(tx, person, decision, reason=reason, by=by)


def close_or_open(home: Path, settings: AnnotateSettings, decided: Mapping[str, Decision], *, own: bool) -> str:
    """Close the accounts of those who were suspended, open those of the admitted; says what became of that.

    Args:
        home: The home whose server it is.
        settings: Where the server's program and database are.
        decided: Person to what was decided.
        own: Whether the people's server is the home's own.

    Returns:
        A sentence for whoever called; "" where nothing was to do.
    """
    if not decided:
        return ""
    if not own:
        names = ", ".join(sorted(decided))
        return (
            f"the accounts of {names} are on a server of others: its administrator has to close or open them; what "
            "suspended people enter meanwhile is held back"
        )
    failed = []
    for decision in Decision:
        numbers = [
            person.removeprefix("user-")
            for person, last in sorted(decided.items())
            if last is decision and person.removeprefix("user-").isdecimal()
        ]
        if numbers and not _set_active(Server(home, settings), numbers, active=decision is Decision.ADMITTED):
            failed += [f"user-{number}" for number in numbers]
    if failed:
        return (
            f"the accounts of {', '.join(failed)} could not be changed (is the server's venv there?); what suspended "
            "people enter is held back all the same"
        )
    return ""


def _set_active(server: Server, numbers: list[str], *, active: bool) -> bool:
    python = Path(server.settings.venv).absolute() / "bin" / "python"
    if not python.exists():
        return False
    command = [str(python), "-c", _SCRIPT, "active" if active else "closed", *numbers]
    try:
        done = subprocess.run(
            command,
            env=server.environment(),
            cwd=server.folder,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and f"changed {len(numbers)}" in done.stdout


def _people(tx: Tx) -> set[str]:
    rows = select(
        tx,
        """
        SELECT DISTINCT annotator AS person FROM label_entries WHERE number IS NOT NULL
        UNION SELECT DISTINCT person FROM known_answers UNION SELECT DISTINCT person FROM people_decisions
        UNION SELECT DISTINCT annotator FROM annotations
        """,
    )
    return {row["person"] for row in rows}
