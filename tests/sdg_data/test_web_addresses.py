"""Addresses with secrets: none is shown, and the path still goes where the server looks for it."""

import pytest

from sdg_data.web_addresses import below, without_secrets


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:s3cret@gpu7:9090/v1", "https://***@gpu7:9090/v1"),
        ("https://token@gpu7/v1 https://u:p@gpu8", "https://***@gpu7/v1 https://***@gpu8"),
        ("https://h/v1?api_key=abc&api-version=2026-01-01", "https://h/v1?api_key=***&api-version=2026-01-01"),
        ("https://h/v1?key=AIza-x#top", "https://h/v1?key=***#top"),
        ("https://h/x?X-Amz-Signature=ab12&X-Amz-Date=1: 403", "https://h/x?X-Amz-Signature=***&X-Amz-Date=1: 403"),
        ("https://h/?sv=1&sig=a%2Bb%3D", "https://h/?sv=1&sig=***"),
        ("url='https://h/v1?access_token=abc'", "url='https://h/v1?access_token=***'"),
        ("see http://x/y?to=a@b", "see http://x/y?to=a@b"),
        ("mail a@b, postgresql://h/db", "mail a@b, postgresql://h/db"),
    ],
)  # fmt: skip
def test_no_secret_is_shown(text: str, shown: str) -> None:
    assert without_secrets(text) == shown
    assert without_secrets({"a": [text, 5, None]}) == {"a": [shown, 5, None]}


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("http://h:8000/v1/", "http://h:8000/v1/models"),
        ("http://h:8000", "http://h:8000/models"),
        ("https://h/openai/deployments/d?api-version=1", "https://h/openai/deployments/d/models?api-version=1"),
        ("http://me:pw@h/v1?k=/x/", "http://me:pw@h/v1/models?k=/x/"),
    ],
)
def test_a_path_goes_in_front_of_the_query(address: str, url: str) -> None:
    assert below(address, "models") == url
    assert below(address, "") == address
