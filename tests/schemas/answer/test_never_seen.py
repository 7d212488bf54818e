"""The quick look at a long trace never hides what the pattern finds."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.answer.claims import is_doubtful
from schemas.answer.unseen import _ENGLISH, _LANGUAGES, _PICTURES, never_seen

WORDS = [
    *("I", "Can't", "cannot", "cant", "couldn't", "couldnt", "unable", "to", "not", "able", "don't", "dont", "do"),
    *(
        "see",
        "view",
        "the",
        "any",
        "image",
        "IMAGES",
        "picture",
        "photo",
        "no",
        "isn't",
        "isnt",
        "was",
        "hasnt",
        "been",
    ),
    *("did", "load", "provided", "found", "nothing", "different", "front", "can", "could"),
]


def test_every_denial_is_found() -> None:
    denials = ["can't", "cant", "cannot", "can not", "couldn't", "couldnt", "could not", "unable to", "not able to",
               "don't", "dont", "do not"]  # fmt: skip
    for denial, sight in itertools.product(denials, ["image", "picture", "photos"]):
        assert never_seen(f"Well, I {denial} really see the {sight} here"), denial
    for verb, sight in itertools.product(
        ["isn't", "isnt", "was not", "hasnt been", "didn't", "does not", "couldnt be"], ["image", "picture", "photo"]
    ):
        assert never_seen(f"The {sight} {verb} provided"), verb
    assert never_seen("there is no photo attached")


@settings(deadline=None, max_examples=500)
@given(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join))
def test_the_quick_look_agrees_with_the_pattern(text: str) -> None:
    assert never_seen(f"x {text}") == (_ENGLISH.search(f"x {text}") is not None)


def test_every_hint_in_ascii_has_a_word_for_pictures() -> None:
    hints = [hint for language in _LANGUAGES for hint in language.hints if hint.isascii()]
    assert hints
    assert [hint for hint in hints if not any(picture in hint for picture in _PICTURES)] == []


@pytest.mark.parametrize(
    "word",
    [
        *("defects", "artifacts", "artefacts", "misalignments", "issues", "problems", "errors", "flaws"),
        *("anomalies", "glitches", "inconsistencies"),
    ],
)
def test_each_word_for_what_is_wrong_is_looked_for(word: str) -> None:
    assert is_doubtful(f"There are two {word} here.")
    assert not is_doubtful(f"There are no {word} here.")
