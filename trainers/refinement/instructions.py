"""The text that an editor is given, from versioned template files with `{prompt}`, `{defects}` and `{list}`.

A template is filed under its name and the first digits of its file's sha256, like the questions put to detectors. A
file of one's own may stand instead of a name.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from schemas.defect import Defect
from schemas.geometry import GRID, Box
from sdg_data.errors import ConfigError

_FOLDER: Final = Path(__file__).parent / "templates"
_DIGITS: Final = 12


@dataclass(frozen=True)
class InstructionTemplate:
    """A text with places to fill in. `id` is its name and the first digits of its file's sha256."""

    name: str
    text: str
    sha256: str

    @property
    def id(self) -> str:
        """What edits are filed under: `defect-1:3f2a…`."""
        return f"{self.name}:{self.sha256[:_DIGITS]}"

    def fill(self, prompt: str, defects: Sequence[Defect]) -> str:
        """The instruction for a prompt's image and its defects; a caption that holds "{list}" stays as it is."""
        said = [f"{place(defect.box)}, {said_of(defect)}." for defect in defects]
        parts = {
            "prompt": prompt,
            "defects": " ".join(said),
            "list": "\n".join(f"- {text}" for text in said) or "- nothing is marked",
        }
        return re.sub(r"\{(\w+)\}", lambda match: parts.get(match[1], match[0]), self.text)


def load_instruction(name: str) -> InstructionTemplate:
    """The template of a name, or of a TOML file with `text`.

    Args:
        name: A built-in template's name, or a path that ends in `.toml`.

    Returns:
        The template.

    Raises:
        ConfigError: There is no such template, or the file has no text with `{prompt}` in it.
    """
    own = name.endswith(".toml")
    path = Path(name) if own else _FOLDER / f"{name}.toml"
    known = ", ".join(sorted(file.stem for file in _FOLDER.glob("*.toml")))
    if not own and not re.fullmatch(r"[\w-]+", name):
        raise ConfigError("there is no such instruction", item=name, hint=f"Known: {known}; or a file NAME.toml.")
    try:
        data = path.read_bytes()
        values = tomllib.loads(data.decode("utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot read the instruction ({error.strerror})", item=name, hint=f"Known: {known}; or a file NAME.toml."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"not a TOML file: {error}", item=name) from error
    text = values.get("text")
    if not isinstance(text, str) or "{prompt}" not in text:
        raise ConfigError("an instruction needs a `text` that has {prompt} in it", item=name)
    return InstructionTemplate(path.stem, text.strip("\n"), hashlib.sha256(data).hexdigest())


def said_of(defect: Defect) -> str:
    """A defect in words: its subtype or type, and the reason without its full stop."""
    kind = defect.type.value if defect.subtype is None else f"{defect.type.value} ({defect.subtype.value})"
    return f"{kind}: {' '.join(defect.reason.split()).rstrip('.')}"


def place(box: Box) -> str:
    """Where a box lies, in the thirds of the image: "at the top left", "in the middle"."""
    x, y = (box.x0 + box.x1) / 2 / GRID, (box.y0 + box.y1) / 2 / GRID
    row = "top" if y < 1 / 3 else "bottom" if y > 2 / 3 else ""
    column = "left" if x < 1 / 3 else "right" if x > 2 / 3 else ""
    return f"at the {' '.join(part for part in (row, column) if part)}" if row or column else "in the middle"
