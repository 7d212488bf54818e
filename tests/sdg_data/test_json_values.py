"""JSON as others write it."""

import json

import pytest

from sdg_data.json_values import DoubledKey, finite_number, parse_json


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b'{"a": NaN, "b": [Infinity, -Infinity, 1e999, 1.5]}', {"a": None, "b": [None, None, None, 1.5]}),
        (b'"caf\\u00e9"', "café"),
    ],
)
def test_what_python_writes_beyond_json_is_read_as_null(data: bytes, value: object) -> None:
    assert parse_json(data) == value


@pytest.mark.parametrize("data", [b"", b"{", b"[" * 200_000, b"[" * 200_000 + b"NaN", b"9" * 5_000, b"\xff"])
def test_what_is_no_json(data: bytes) -> None:
    with pytest.raises(ValueError):
        parse_json(data)


@pytest.mark.parametrize(
    "data", [b'["\\ud83d", NaN]', b"[" * 300 + b"NaN" + b"]" * 300, b"[NaN, 18446744073709551616]"]
)
def test_what_can_be_written_nowhere_is_refused_unless_the_caller_looks_itself(data: bytes) -> None:
    with pytest.raises(ValueError, match="no JSON"):
        parse_json(data)
    assert isinstance(parse_json(data, strict=False), list)


@pytest.mark.parametrize(
    ("value", "number"),
    [(3, 3.0), (-2.5, -2.5), (True, None), ("1", None), (None, None), (float("nan"), None), (float("-inf"), None),
     (10**400, None), (-(10**400), None), ([1], None)],
    ids=lambda value: f"{value!r:.20}",
)  # fmt: skip
def test_a_number_that_can_be_counted_with(value: object, number: float | None) -> None:
    assert finite_number(value) == number


@pytest.mark.parametrize(
    "data",
    [
        b'{"a": 1, "a": 2}',
        b'[[{"b": {"a": [], "a": [1]}}]]',
        b'{"a": {"x": 1}, "a": {"x": 2}}',
        b'{"a": NaN, "b": 1, "b": 2}',
        b'{"a": null, "a": false}',
        b'{"caf\\u00e9": 1, "caf\xc3\xa9": 2}',
    ],
)
def test_an_object_that_says_two_things_is_refused(data: bytes) -> None:
    with pytest.raises(DoubledKey, match="stands twice"):
        parse_json(data, strict=False)


@pytest.mark.parametrize("data", [b'{"a": 1, "a": 1}', b'{"a": {"b": 1}, "b": 2}', b'[{"a": 1}, {"a": 2}]', b"{}"])
def test_keys_that_say_one_thing_are_none_too_many(data: bytes) -> None:
    assert parse_json(data) == json.loads(data)


def test_a_deep_value_is_refused_with_a_word() -> None:
    with pytest.raises(ValueError):
        parse_json(b"[" * 1000 + b"]" * 1000)
