"""The questions put to vision-language models, one file each, and the hash that every answer is filed under.

They lie in the core and not in `annotate` because the exporters write them into training rows and the trainers ask them
too: one prompt for prelabelling, SFT, GRPO and evaluation (SPEC section 4).
"""

import ast
import hashlib
import json
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from schemas.codecs import AnswerCodec
from schemas.records import AnnotatedDefect
from sdg_data.errors import ConfigError

DETECT = "detect-1"
"""The question for full-size detectors."""
DETECT_SHORT = "detect-short-1"
"""The question for the mini detector."""
ENRICH = "enrich-1"

_FOLDER = Path(__file__).parent / "templates"
_HASH_DIGITS = 12
_BOXES = {
    "qwen3-vl": ("[x0, y0, x1, y1]", "integers from 0 to 1000, thousandths of the image's width and height"),
    "gemini": ("[y0, x0, y1, x1]", "integers from 0 to 1000, thousandths of the image's height and width"),
    "qwen2.5-vl": ("[x0, y0, x1, y1]", "integers, in pixels of the image"),
}
"""How each convention is put into words: the order, and what the numbers count."""


@dataclass(frozen=True)
class Template:
    """A question. `id` is its name and the first digits of its file's sha256; `image_first`: before the text."""

    name: str
    text: str
    image_first: bool
    sha256: str

    @property
    def id(self) -> str:
        """What prelabels and trained detectors are filed under: `detect-1:3f2a…`."""
        return f"{self.name}:{self.sha256[:_HASH_DIGITS]}"

    def question(self, caption: str, codec: AnswerCodec) -> str:
        """The question about an image: the template with the caption and the codec's form of boxes filled in."""
        return self._filled(codec, caption=caption)

    def question_about(self, caption: str, defects: Sequence[AnnotatedDefect], codec: AnswerCodec) -> str:
        """The text for one image whose defects are known (enrichment)."""
        lines = []
        for defect in defects:
            shown: dict[str, object] = {
                "box_2d": codec.write(defect.defect.box),
                "label": defect.defect.type.value,
                "short description": defect.defect.reason,
            }
            if defect.defect.subtype is not None:
                shown["subtype"] = defect.defect.subtype.value
            if defect.rated:
                shown["importance"] = defect.defect.importance
            lines.append(json.dumps(shown, ensure_ascii=False))
        return self._filled(codec, caption=caption, defects="\n".join(lines) or "(no defects: the image is clean)")

    def _filled(self, codec: AnswerCodec, **values: str) -> str:
        order, scale = _BOXES[codec.name]
        parts = {"order": order, "scale": scale, **values}
        # One pass over the template alone: a caption that holds "{order}" stays as it is.
        return re.sub(r"\{(\w+)\}", lambda match: parts.get(match[1], match[0]), self.text)


def names() -> list[str]:
    """The names of all templates that come with the package, in alphabetical order."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


@cache
def load_template(name: str) -> Template:
    """The template of that name, or of that id (`detect-1:3f2a…`), which must then be the very one; or of a file.

    A file is named by its path: `question.toml` with `text` and `image` ("first" or "last") as our own have them,
    `question.txt` with the text alone, or `module.py::NAME`, a string that stands in Python source under that name. The
    source is read, not run; its doubled braces are those of `str.format`. `{caption}` is where the caption goes.

    Returns:
        The template.

    Raises:
        ConfigError: There is no such name, the file of that id has changed since, or a file is no question.
    """
    if is_file(name):
        return _of_file(name)
    plain, _, digits = name.partition(":")
    path = _FOLDER / f"{plain}.toml"
    if plain not in names():
        raise ConfigError(f"there is no prompt template {plain!r}", hint=f"There are {', '.join(names())}.")
    data = path.read_bytes()
    values = tomllib.loads(data.decode())
    template = Template(plain, values["text"].strip("\n"), values["image"] == "first", hashlib.sha256(data).hexdigest())
    if digits and not template.sha256.startswith(digits):
        raise ConfigError(
            f"the prompt template has changed: {name} was asked for, this is {template.id}",
            hint="The detector was trained with another version of the prompt; train it anew, or install that version.",
        )
    return template


def is_file(name: str) -> bool:
    """Whether a template's name is a file's."""
    return "::" in name or "/" in name or name.endswith((".toml", ".txt"))


def _of_file(name: str) -> Template:
    place, _, constant = name.partition("::")
    path = Path(place).expanduser()
    try:
        data = path.read_bytes()
        source = data.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the question ({error})", item=name) from error
    first = True
    if constant:
        text = _constant(source, constant, name)
    elif path.suffix == ".toml":
        text, first = _toml(source, name)
    else:
        text = source
    if "{caption}" not in text:
        raise ConfigError("the question has no {caption}", item=name)
    sha256 = hashlib.sha256(f"{first}\n{text}".encode()).hexdigest()
    stem = re.sub(r"[^a-z0-9-]+", "-", (constant or path.stem).lower()).strip("-")
    # A string of a program is taken to the last character, as that program asks it.
    return Template(stem or "question", text if constant else text.strip("\n"), first, sha256)


def _toml(source: str, name: str) -> tuple[str, bool]:
    try:
        values = tomllib.loads(source)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not a TOML file: {error}", item=name) from error
    text, image = values.get("text"), values.get("image", "first")
    if not isinstance(text, str) or image not in ("first", "last"):
        raise ConfigError('the question is `text`, and `image` is "first" or "last"', item=name)
    return text, image == "first"


def _constant(source: str, constant: str, name: str) -> str:
    """The string that Python source assigns to a name, as `str.format` would show it but for `{caption}`."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"not Python source: {error}", item=name) from error
    text = None
    for node in ast.walk(tree):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        if any(isinstance(target, ast.Name) and target.id == constant for target in targets):
            text = value.value if isinstance(value, ast.Constant) else None
    if not isinstance(text, str):
        raise ConfigError(f"no string stands under the name {constant}", item=name)
    return text.replace("{{", "{").replace("}}", "}")
