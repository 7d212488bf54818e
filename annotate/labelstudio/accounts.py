"""Accounts on a Label Studio, created through the invitation link as people create them."""

from __future__ import annotations

from typing import Any

import httpx2 as httpx

from annotate.labelstudio.client import Client, ServerError
from annotate.labelstudio.connection import Connection

_SECONDS = 60.0


def invitation(client: Client, public_url: str = "", *, reset: bool = False) -> str:
    """The link by which people make their accounts.

    Args:
        client: A client of a member.
        public_url: The address by which people reach the server; "": the client's.
        reset: Make another; the old one is worth nothing then.

    Raises:
        ServerError: The server refuses or does not answer.
    """
    answer = client.post("/api/invite/reset-token", {}) if reset else client.get("/api/invite")
    base = public_url.rstrip("/") or client.connection.url
    return base + _path(base, str(answer["invite_url"]))


def sign_up(inviting: Client, email: str, password: str) -> Connection:
    """A connection as the member with this address, who is signed up by the invitation link where there is none.

    Args:
        inviting: A client of a member, which reads the invitation link.
        email: The address.
        password: The password of a new account, or of the one there is.

    Raises:
        ServerError: Neither signing up nor logging in succeeds, or the account gives no API token.
    """
    url = inviting.connection.url
    link = invitation(inviting)
    trust = inviting.connection.trust()
    with httpx.Client(base_url=url, timeout=_SECONDS, follow_redirects=True, verify=trust) as browser:
        if not _submit_form(browser, _path(url, link), email, password) and not _submit_form(
            browser, "/user/login/", email, password
        ):
            raise ServerError("cannot sign up or log in", item=email, hint="Is there an account with another password?")
        answer = browser.get("/api/current-user/token")
        if answer.status_code != 200:
            raise ServerError(f"gives no API token ({answer.status_code})", status=answer.status_code, item=email)
        return Connection(url, str(answer.json()["token"]), own=False, ca=inviting.connection.ca)


def _submit_form(browser: httpx.Client, path: str, email: str, password: str) -> bool:
    """Fill in the form as a browser does, and say whether that logged us in."""
    form: dict[str, Any] = {"email": email, "password": password}
    page = browser.get(path)
    if page.status_code != 200:
        return False
    form["csrfmiddlewaretoken"] = browser.cookies.get("csrftoken") or ""
    browser.post(path, data=form, headers={"Referer": str(browser.base_url.join(path))})
    whoami = browser.get("/api/current-user/whoami")
    return whoami.status_code == 200 and whoami.json().get("email") == email.lower()


def _path(url: str, link: str) -> str:
    """The link's path; its host is where the server thinks that it is, which may be another address than ours."""
    parsed = httpx.URL(url).join(link)
    return parsed.raw_path.decode()
