"""Names of one image in two files: what is joined, and what is not."""

import pytest

from sdg_data.metrics.image_paths import normalised, partners


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("SDG/a.png", "SDG/a.png"),
        ("./SDG/./a.png", "SDG/a.png"),
        ("SDG\\x\\a.png", "SDG/x/a.png"),
        ("/SDG//x/../a.png", "/SDG/a.png"),
        ("e\u0301.png", "\u00e9.png"),
        ("a.b/..c.png", "a.b/..c.png"),
        ("", ""),
    ],
)
def test_normalised(path: str, expected: str) -> None:
    assert normalised(path) == expected
    assert normalised(normalised(path)) == expected


def test_the_end_of_a_path_joins_either_way() -> None:
    truths = ["SDG/flux2/1.png", "/d/SDG/flux2/2.png", "SDG/flux2/3.png"]
    predictions = ["/data/SDG/flux2/1.png", "flux2/2.png", "SDG/sana/3.png"]
    assert partners(truths, predictions) == {
        "/data/SDG/flux2/1.png": "SDG/flux2/1.png",
        "flux2/2.png": "/d/SDG/flux2/2.png",
    }


def test_half_a_name_is_no_end_of_a_path() -> None:
    assert partners(["SDG/test_1.png"], ["1.png"]) == {}
    assert partners(["lux2/1.png"], ["flux2/1.png"]) == {}


def test_what_could_be_two_images_is_none() -> None:
    """Base names repeat between generators."""
    truths = ["SDG/flux2/test/1.png", "SDG/sana/test/1.png", "SDG/sana/test/2.png"]
    assert partners(truths, ["1.png", "2.png"]) == {"2.png": "SDG/sana/test/2.png"}
    assert partners(["1.png"], ["a/1.png", "b/1.png"]) == {}


def test_equal_paths_come_first() -> None:
    assert partners(["SDG/1.png"], ["/x/SDG/1.png", "./SDG/1.png"]) == {"./SDG/1.png": "SDG/1.png"}
