"""Questions from files: ours, plain text, and a string of somebody's Python source, which is read and not run."""

from pathlib import Path

import pytest

from schemas.codecs import Gemini, Qwen3VL
from sdg_data.errors import ConfigError
from sdg_data.prompt_templates import load_template

SOURCE = '''
import os
os.abort()  # never run
OTHER = f"{os}"
ASK: str = """Look at the image.
Caption: {caption}
[{{"box_2d": [x0, y0, x1, y1], "label": "artifact"}}]
"""
'''


def written(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_string_of_a_program_is_asked_as_the_program_asks_it(tmp_path: Path) -> None:
    template = load_template(written(tmp_path, "plugin.py", SOURCE) + "::ASK")
    asked = template.question("a {caption} of {order}", Qwen3VL())
    scope: dict[str, str] = {}
    exec(SOURCE.partition("ASK: str =")[1] + SOURCE.partition("ASK: str =")[2], scope)
    assert asked == scope["ASK"].format(caption="a {caption} of {order}")
    assert template.image_first
    assert template.id.startswith("ask:")


def test_our_form_and_plain_text(tmp_path: Path) -> None:
    ours = load_template(
        written(tmp_path, "mine.toml", 'image = "last"\ntext = """\nWhat of {caption}? {order}\n"""\n')
    )
    assert not ours.image_first
    assert ours.question("x", Gemini()) == "What of x? [y0, x0, y1, x1]"
    plain = load_template(written(tmp_path, "plain.txt", "What of {caption}?\n"))
    assert plain.text == "What of {caption}?"
    assert plain.id != load_template(written(tmp_path, "other.txt", "And what of {caption}?")).id


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "no place for it"),
        ("b.toml", "text = 3"),
        ("c.toml", "text = {caption}"),
        ("d.toml", 'text = "{caption}"\nimage = "beside"'),
        ("e.py::ASK", "ASK = "),
        ("f.py::ASK", "ASK = 3"),
        ("g.py::ASK", "OTHER = 'x {caption}'"),
        ("h.py::ASK", "ASK = f'{x} {{caption}}'"),
        ("i.py::ASK", "x\0y"),
    ],
)
def test_what_is_no_question_is_said(tmp_path: Path, name: str, text: str) -> None:
    place = written(tmp_path, name.partition("::")[0], text)
    with pytest.raises(ConfigError):
        load_template(place + name[len(name.partition("::")[0]) :])


@pytest.mark.parametrize("name", ["/nowhere/x.txt", "nowhere.toml", "./x.py::A", "/::A"])
def test_a_file_that_is_not_there(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load_template(name)
