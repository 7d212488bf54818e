"""What people are called where others read it: by name, or, in an anonymous home, by a stable pseudonym.

Records call a person by the labelling tool's number of them (`user-7`), which stays. Their names are the lead's: they
lie in `people.json` beside the tool's credentials, readable by their owner only, and in no record, export or copy of
the store.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sdg_data.errors import ConfigError

_PSEUDONYM = re.compile(r"person-[0-9a-f]{12}\Z")
_PERSON = re.compile(r"\buser-[0-9]+\b")
_LONGEST = 60


def pseudonym(name: str) -> str:
    """A stable stand-in for a person's name: `person-` and 12 hex digits of its sha256; one already is kept.

    It hides names from readers, not from somebody who can guess a name and hash it.
    """
    if _PSEUDONYM.match(name):
        return name
    return f"person-{hashlib.sha256(f'sdg-person:{name}'.encode()).hexdigest()[:12]}"


def plain_name(name: str) -> str:
    """A name in one line of plain words, at most 60 characters; "" for what reads like the person of a record."""
    printable = "".join(character if character.isprintable() else " " for character in name)
    plain = " ".join(printable.replace("<", "").replace(">", "").split())[:_LONGEST].strip()
    return "" if _PERSON.search(plain) or _PSEUDONYM.search(plain) else plain


@dataclass(frozen=True)
class People:
    """What people are called. `names`: those that are known, by the person of records."""

    names: Mapping[str, str] = field(default_factory=dict)
    anonymous: bool = False

    def called(self, person: str) -> str:
        """A person's name, or their pseudonym; what records call them where no name is known.

        Two people of one name are told apart by what records call them.
        """
        if self.anonymous:
            return pseudonym(person)
        name = self.names.get(person)
        if name is None:
            return person
        return name if list(self.names.values()).count(name) == 1 else f"{name} ({person})"

    @property
    def mark(self) -> str:
        """Changes with what people are called; "" where everybody is called as records call them."""
        if not self.names and not self.anonymous:
            return ""
        text = json.dumps([self.anonymous, dict(self.names)], sort_keys=True)
        return f"-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def in_text(self, text: str) -> str:
        """A text with the people in it called as readers are to read them."""
        return _PERSON.sub(lambda match: self.called(match.group()), text)


def people_of(home: Path, *, anonymous: bool = False) -> People:
    """The people of a home.

    Raises:
        ConfigError: The file of names cannot be read.
    """
    path = _path(home)
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        held = {}
    except (OSError, ValueError) as error:
        raise ConfigError("the file of people's names cannot be read", item=str(path)) from error
    if not isinstance(held, dict) or not all(isinstance(name, str) for name in held.values()):
        raise ConfigError("the file of people's names is no object of names by person", item=str(path))
    return People(held, anonymous)


def remember(home: Path, names: Mapping[str, str]) -> None:
    """Keep people's names, beside those that are known.

    Raises:
        ConfigError: The file cannot be read or written.
    """
    known = people_of(home).names
    if {**known, **names} == known:
        return
    path = _path(home)
    temporary = path.with_name(f".{secrets.token_hex(8)}")
    text = json.dumps({**known, **names}, ensure_ascii=False, indent=2, sort_keys=True) + "\n"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise ConfigError("people's names cannot be kept", item=str(path)) from error


def _path(home: Path) -> Path:
    return home / "labelstudio" / "people.json"
