"""The guideline: its pictures are those that the code draws, its keys and tiers those of the page and the records."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from annotate.labelstudio.config import LabelConfig
from annotate.labelstudio.guideline import GUIDELINE, instructions, pictures
from schemas.defect import ImportanceTier, Subtype, tier
from sdg_data.errors import InputError
from sdg_data.mini.oracle import examine

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture(scope="module")
def text() -> str:
    return (DOCS / GUIDELINE).read_text()


def test_the_committed_pictures_are_what_is_drawn_now(text: str) -> None:
    drawn = pictures()
    assert {f"images/guideline/{name}.png" for name in drawn} == set(re.findall(r"!\[[^]]*\]\(([^)]+)\)", text))
    for name, picture in drawn.items():
        with Image.open(DOCS / "images" / "guideline" / f"{name}.png") as file:
            committed = np.asarray(file.convert("RGB"), dtype=np.int16)
        assert committed.shape == np.asarray(picture).shape
        # 128 colours instead of all, and a font that another machine draws a hair differently
        assert np.abs(committed - np.asarray(picture, dtype=np.int16)).mean() < 2


def test_every_key_of_the_page_is_told_and_none_that_is_not(text: str) -> None:
    keys = LabelConfig(review=True).keys
    row = text[text.index("| subtype") : text.index("| the whole image")]
    artifacts, misalignments = row.split("misalignment:")
    told = {f"shift+{key.lower()}": name for key, name in re.findall(r"`(\w)` ([\w-]+)", artifacts)}
    told |= {key.lower(): name for key, name in re.findall(r"`(\w)` ([\w-]+)", misalignments)}
    assert "artifact, with `Shift`: `A`" in artifacts
    subtypes = {
        key: name.removeprefix("attribute/") for name, key in keys.items() if name.split("/")[0] in list(Subtype)
    }
    assert told == subtypes
    assert (keys["artifact"], keys["misalignment"]) == ("1", "2")
    assert (keys["no_defects"], keys["ambiguous_prompt"], keys["cannot_judge"]) == ("shift+n", "g", "q")
    assert "`Shift`+`N` no defects, `G` the prompt is ambiguous, `Q` cannot be judged" in text
    assert keys["reject"] == "shift+x"
    assert (keys["right"], keys["wrong"]) == ("j", "i")
    reviewers = text[text.index("## For reviewers") :]
    assert "| this box is right | `J`" in reviewers
    assert "| this box is wrong | `I`, type why, `Enter`" in reviewers


def test_the_tiers_are_those_of_the_records(text: str) -> None:
    rows = re.findall(r"\| (\d+)–(\d+) \| (\w+) \|", text)
    assert [name for _, _, name in rows] == list(ImportanceTier)
    covered = [number for low, high, name in rows for number in range(int(low), int(high) + 1) if tier(number) == name]
    assert sorted(covered) == list(range(1, 101))


def test_instructions_bring_their_pictures_and_nothing_that_a_page_takes_away(tmp_path: Path) -> None:
    html = instructions(tmp_path)
    shown = re.findall(r'<img src="/data/local-files/\?d=([^"]+)" width="\d+">', html)
    assert len(shown) == html.count("<img") == 4
    assert all(
        (tmp_path / path).read_bytes() == (DOCS / "images/guideline" / Path(path).name).read_bytes() for path in shown
    )
    assert html.startswith("<h2>How to mark defects in images</h2>\n")  # an h1 is drawn over the line below it
    assert "<br><h2>What a defect is</h2>" in html
    assert "<table>" in html
    assert not re.search(r"<script|javascript:|data:|<li>|style=", html)
    assert "<p>1. <strong>Cover the prompt" in html
    assert "<p>• Around the whole thing" in html


def test_without_a_folder_of_its_own_the_server_shows_the_text_alone() -> None:
    html = instructions(None)
    assert "<img" not in html
    assert "How to mark defects" in html


def test_a_guideline_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="guideline"):
        instructions(None, tmp_path)
    (tmp_path / GUIDELINE).write_text("![x](y.png)")
    with pytest.raises(InputError, match="picture"):
        instructions(tmp_path, tmp_path)


def test_clean_examples_are_clean() -> None:
    from annotate.labelstudio.guideline import clean_examples

    for picture, prompt in clean_examples():
        assert examine(np.asarray(picture), prompt).clean
