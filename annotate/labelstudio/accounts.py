"""Accounts for people: made as people make them, through the invitation link, and logged into."""

from __future__ import annotations

from typing import Any

import httpx2 as httpx

from annotate.labelstudio.client import Client, ServerError
from annotate.labelstudio.connection import Connection

_SECONDS = 60.0


def sign_up(inviting: Client, email: str, password: str) -> Connection:
    """A connection as the member with this address, who joins by the invitation link if they are none yet.

    Raises ServerError where neither signing up nor logging in succeeds.
    """
    url = inviting.connection.url
    invitation = str(inviting.get("/api/invite")["invite_url"])
    with httpx.Client(base_url=url, timeout=_SECONDS, follow_redirects=True) as browser:
        if not _posted(browser, _path(url, invitation), email, password) and not _posted(
            browser, "/user/login/", email, password
        ):
            raise ServerError("cannot sign up or log in", item=email, hint="Is there an account with another password?")
        answer = browser.get("/api/current-user/token")
        if answer.status_code != 200:
            raise ServerError(f"gives no API token ({answer.status_code})", status=answer.status_code, item=email)
        return Connection(url, str(answer.json()["token"]), own=False)


def _posted(browser: httpx.Client, path: str, email: str, password: str) -> bool:
    """Fill in the form as a browser does; whether that logged us in."""
    form: dict[str, Any] = {"email": email, "password": password}
    page = browser.get(path)
    if page.status_code != 200:
        return False
    form["csrfmiddlewaretoken"] = browser.cookies.get("csrftoken") or ""
    browser.post(path, data=form, headers={"Referer": str(browser.base_url.join(path))})
    whoami = browser.get("/api/current-user/whoami")
    return whoami.status_code == 200 and whoami.json().get("email") == email.lower()


def _path(url: str, link: str) -> str:
    """The link as a path of this server: it says where the server thinks that it is."""
    parsed = httpx.URL(url).join(link)
    return parsed.raw_path.decode()
