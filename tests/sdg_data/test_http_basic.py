"""Basic credentials against headers put together by the `httpx` client, and headers that are malformed."""

import base64

import httpx
import pytest

from sdg_data.http_basic import basic_credentials


@pytest.mark.parametrize(("user", "password"), [("ann", "päss:word"), ("", ""), ("a b", ":"), ("who", "x" * 500)])
def test_what_a_client_sends(user: str, password: str) -> None:
    request = next(httpx.BasicAuth(user, password).auth_flow(httpx.Request("GET", "http://localhost/")))
    assert basic_credentials(request.headers["authorization"]) == (user, password)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic ",
        "Basic !!",
        "Basic é",
        "Bearer YTpi",
        "YTpi",
        "Basic " + base64.b64encode(b"no colon").decode(),
        "Basic " + base64.b64encode(b"\xff\xfe:latin").decode(),
    ],
)
def test_what_is_malformed(header: str) -> None:
    assert basic_credentials(header) is None
    assert basic_credentials("bAsIc YTpi") == ("a", "b")
