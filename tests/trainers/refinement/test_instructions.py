"""Instructions: what is filled in, versions by content, files of one's own."""

import hashlib
from pathlib import Path

import pytest

from schemas.defect import Defect, DefectType, Subtype
from schemas.geometry import Box
from sdg_data.errors import ConfigError
from trainers.refinement.instructions import load_instruction, place

HAND = Defect(
    box=Box(x0=0, y0=0, x1=200, y1=200),
    type=DefectType.ARTIFACT,
    subtype=Subtype.ANATOMY,
    reason="six  fingers.",
    importance=80,
)


def test_place_kind_and_reason_are_named_and_a_caption_with_braces_stays_as_it_is() -> None:
    text = load_instruction("defect-1").fill("a {list} and {defects}", [HAND])
    assert "at the top left, artifact (anatomy): six fingers." in text
    assert "a {list} and {defects}" in text


def test_the_paper_lists_every_defect_and_the_caption_alone_is_the_caption() -> None:
    text = load_instruction("feedback-1").fill("a hand", [HAND, HAND])
    assert text.count("- at the top left, artifact (anatomy): six fingers.") == 2
    assert load_instruction("caption-1").fill("a hand", [HAND]) == "a hand"
    assert "nothing is marked" in load_instruction("heatmaps-1").fill("a hand", [])


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((400, 400, 600, 600), "in the middle"),
        ((0, 400, 100, 600), "at the left"),
        ((400, 900, 600, 1000), "at the bottom"),
        ((900, 900, 1000, 1000), "at the bottom right"),
    ],
)
def test_places(box: tuple[int, int, int, int], words: str) -> None:
    assert place(Box(x0=box[0], y0=box[1], x1=box[2], y1=box[3])) == words


def test_a_file_of_ones_own_is_filed_under_its_content(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('text = "repair {defects} in {prompt}"', encoding="utf-8")
    template = load_instruction(str(path))
    assert template.id == f"mine:{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
    assert template.fill("p", []) == "repair  in p"


@pytest.mark.parametrize("content", ['text = "no place"', "text = 3", "text =", "other = 1"])
def test_a_file_without_a_prompt_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError):
        load_instruction(str(path))


@pytest.mark.parametrize("name", ["nothing-1", "../caption-1", "/etc/passwd", "none.toml"])
def test_a_name_that_is_none_says_which_there_are(name: str) -> None:
    with pytest.raises(ConfigError, match="caption-1"):
        load_instruction(name)
