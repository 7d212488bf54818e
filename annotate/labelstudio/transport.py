"""Requests to a Label Studio through label-studio-sdk, and what the SDK has not: three outcomes.

A request is answered, or it is known that nothing happened (`Unavailable`), or it is not known (`Unknown`). Questions
and changes that may be sent twice are repeated on connection errors, time-outs, 408, 425, 429 and 5xx until `patience`
seconds have passed. What creates something is sent once; where no answer arrives the caller must look whether it took
effect. The SDK's own retries are off, because it repeats POST too.

What is asked once a run (projects, webhooks, users) goes through the SDK's typed API (`typed`, `typed_once`). Tasks go
through its raw requests: it would rebuild a body of 500 tasks in Python, and make a thousand records of an answer.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx2 as httpx

from annotate.labelstudio.connection import Connection
from sdg_data.errors import MissingDependency, SdgError
from sdg_data.retry import waits

if TYPE_CHECKING:
    from label_studio_sdk.client import LabelStudio
    from label_studio_sdk.core.request_options import RequestOptions

CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
IMPORT_SECONDS = 180.0
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
Answer = TypeVar("Answer")


class ServerError(SdgError):
    """Label Studio refuses a request, or gives an answer that cannot be used."""

    def __init__(
        self, message: str, *, status: int | None = None, item: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, item=item, hint=hint)
        self.status = status


class Unavailable(ServerError):
    """No answer, or only answers that say "not now", until the time for tries ran out."""


class Unknown(ServerError):
    """A request that creates something got no answer: it may have been carried out, or not, or be under way."""


class Transport:
    """Requests to one server, safe to send from several threads. Close it, or use it in a `with`."""

    def __init__(
        self,
        connection: Connection,
        *,
        patience: float = 120.0,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        read_seconds: float = READ_SECONDS,
        import_seconds: float = IMPORT_SECONDS,
    ) -> None:
        self.connection = connection
        self._patience = patience
        self._sleep = sleep
        self._read_seconds, self._import_seconds = read_seconds, import_seconds
        self.server_time: datetime | None = None
        """The server's time at its last answer."""
        self._http = httpx.Client(
            base_url=connection.url,
            timeout=self._limits(None),
            transport=transport,
            verify=connection.trust(),
            headers={"Accept": "application/json"},
            event_hooks={"response": [self._note_time]},
        )
        # A personal access token is a refresh token: it buys access tokens that live for minutes.
        self._personal = connection.key.count(".") == 2
        self._access = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the server."""
        self._http.close()

    @cached_property
    def sdk(self) -> LabelStudio:
        """The SDK's client, which sends through our connections: no retries, our time-outs, our key at each request.

        Raises:
            MissingDependency: It is not installed.
        """
        try:
            from label_studio_sdk.client import LabelStudio
        except ImportError as error:
            raise MissingDependency(
                "label-studio-sdk is not installed", hint="pip install 'sdg-data[annotate]'"
            ) from error
        # `options` gives the key to each request; a personal token here would have the SDK renew it by itself.
        make: Callable[..., LabelStudio] = LabelStudio  # its class has no types
        return make(
            base_url=self.connection.url,
            api_key="" if self._personal else self.connection.key,
            max_retries=0,
            httpx_client=self._http,
        )

    # --- raw requests

    def get(self, path: str, *, params: dict[str, Any] | None = None, tries: int | None = None) -> Any:
        """The JSON of an answer.

        Args:
            path: The path on the server.
            params: The query.
            tries: The most requests that are answered with a 500; None: until patience ends.

        Raises:
            Unavailable: There is no answer, or none but passing errors.
            ServerError: The request is refused; `status` says how.
        """
        return self._repeated(self._item("GET", path), lambda: self._send("GET", path, params=params), tries=tries)

    def patch(self, path: str, body: Any, *, tries: int | None = None) -> Any:
        """Send a change, as `get` does; `body` must be such that sending it twice is the same as once."""
        return self._repeated(self._item("PATCH", path), lambda: self._send("PATCH", path, body=body), tries=tries)

    def delete(self, path: str) -> None:
        """Delete, as `get` does. It is no error where there is nothing (any more)."""
        try:
            self._repeated(self._item("DELETE", path), lambda: self._send("DELETE", path))
        except ServerError as error:
            if error.status != 404:
                raise

    def post(self, path: str, body: Any, *, params: dict[str, Any] | None = None, timeout: float | None = None) -> Any:
        """Create something: sent once, never repeated.

        Raises:
            Unavailable: The server cannot be reached, so nothing was created.
            Unknown: No answer says whether it was created.
            ServerError: The request is refused.
        """
        send = lambda: self._send("POST", path, params=params, body=body, timeout=timeout)  # noqa: E731
        return self._once(self._item("POST", path), send)

    def _send(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, Any] | None = None,
        body: Any = None,
        timeout: float | None = None,
    ) -> Any:
        content = None if body is None else json.dumps(body, allow_nan=False).encode()
        raw = self.sdk._client_wrapper.httpx_client
        for fresh in (False, True):
            answer = raw.request(
                path,
                method=method,
                params=params,
                content=content,
                headers=None if content is None else {"Content-Type": "application/json"},
                request_options=self._options(renew=fresh, timeout=timeout),
            )
            if answer.status_code != 401 or not self._personal:
                break  # a 401 changed nothing, so a request with a new access token is no second attempt
        item = self._item(method, path)
        if answer.status_code >= 400:
            raise self._refusal(answer.status_code, _message(answer.content, answer.headers), item)
        if not answer.content:
            return None
        try:
            return json.loads(answer.content)
        except ValueError as error:
            raise ServerError("the answer is no JSON", status=None, item=item) from error

    # --- typed requests

    def typed(self, what: str, call: Callable[[RequestOptions], Answer]) -> Answer:
        """What a call of the SDK returns; repeated as `get` is.

        Args:
            what: What is asked for, for messages.
            call: Calls the SDK with these options.

        Raises:
            Unavailable: There is no answer, or none but passing errors.
            ServerError: The request is refused; `status` says how.
        """
        item = f"{self.connection.url}: {what}"
        return self._repeated(item, lambda: self._call(item, call))

    def typed_once(self, what: str, call: Callable[[RequestOptions], Answer]) -> Answer:
        """What a call of the SDK returns that creates something: sent once, as `post` does. Raises as it does."""
        item = f"{self.connection.url}: {what}"
        return self._once(item, lambda: self._call(item, call))

    def _call(self, item: str, call: Callable[[RequestOptions], Answer]) -> Answer:
        from label_studio_sdk.core.api_error import ApiError
        from label_studio_sdk.core.parse_error import ParsingError

        for fresh in (False, True):
            try:
                return call(self._options(renew=fresh))
            except ApiError as error:
                status = error.status_code or 0
                if status == 401 and self._personal and not fresh:
                    continue
                body = error.body if isinstance(error.body, str) else json.dumps(error.body)
                raise self._refusal(status, _message(body.encode(), error.headers or {}), item) from error
            except ParsingError as error:
                raise ServerError(
                    f"the answer is not as label-studio-sdk knows it: {str(error.cause)[:200]}",
                    item=item,
                    hint="Does the SDK's version suit the server's?",
                ) from error
        raise AssertionError("the second try returns or raises")

    # --- outcomes

    def _once(self, item: str, send: Callable[[], Answer]) -> Answer:
        try:
            return send()
        except httpx.ConnectError as error:
            raise Unavailable("the server cannot be reached", item=item) from error
        except httpx.HTTPError as error:
            raise Unknown(f"no answer ({error or type(error).__name__})", item=item) from error
        except ServerError as error:
            if error.status not in _PASSING:
                raise
            raise Unknown(f"answered {error.status}", status=error.status, item=item) from error

    def _repeated(self, item: str, send: Callable[[], Answer], *, tries: int | None = None) -> Answer:
        pauses = waits(0.1, 5.0, time.monotonic() + self._patience)
        sent = 0
        while True:
            sent += 1
            try:
                return send()
            except httpx.HTTPError as error:
                problem, status = str(error) or type(error).__name__, None
            except ServerError as error:
                if error.status not in _PASSING:
                    raise
                problem, status = f"answered {error.status}", error.status
            pause = next(pauses, None)
            if pause is None or (tries is not None and sent >= tries and status == 500):
                raise Unavailable(
                    f"does not answer as it should ({problem})",
                    status=status,
                    item=item,
                    hint="Is Label Studio running (`sdg annotate server status`)? Run the same command again then.",
                )
            self._sleep(pause)

    def _refusal(self, status: int, message: str, item: str) -> ServerError:
        hint = "Is LABEL_STUDIO_API_KEY a key of this server?" if status in (401, 403) else None
        return ServerError(f"answered {status}: {message}", status=status, item=item, hint=hint)

    # --- what every request carries

    def _options(self, *, renew: bool = False, timeout: float | None = None) -> RequestOptions:
        return {
            "max_retries": 0,
            "timeout": self._limits(timeout),  # type: ignore[typeddict-item]
            "additional_headers": {"Authorization": self._authorisation(renew=renew)},
        }

    def _limits(self, timeout: float | None) -> httpx.Timeout:
        return httpx.Timeout(timeout or self._read_seconds, connect=CONNECT_SECONDS)

    def _authorisation(self, *, renew: bool) -> str:
        if not self._personal:
            return f"Token {self.connection.key}"
        if renew or not self._access:
            answer = self._http.post("/api/token/refresh", json={"refresh": self.connection.key})
            if answer.status_code in (400, 401, 403):
                raise ServerError(
                    "the personal access token is not accepted",
                    status=answer.status_code,
                    item=self.connection.url,
                    hint="Make a new one in Label Studio (Account & Settings) and set LABEL_STUDIO_API_KEY.",
                )
            if answer.status_code >= 400:
                message = _message(answer.content, answer.headers)
                raise self._refusal(answer.status_code, message, self._item("POST", "/api/token/refresh"))
            self._access = str(answer.json().get("access", ""))
        return f"Bearer {self._access}"

    def _note_time(self, answer: httpx.Response) -> None:
        if "date" in answer.headers:
            self.server_time = parsedate_to_datetime(answer.headers["date"]).astimezone(UTC)

    def _item(self, method: str, path: str) -> str:
        return f"{method} {self.connection.url}{path}"


def _message(content: bytes, headers: Any) -> str:
    """A short text of an error answer: its `detail` and validation errors, else its first words (no page of HTML)."""
    try:
        body = json.loads(content)
    except ValueError:
        text = content.decode(errors="replace")
        return "a page" if "html" in str(headers.get("content-type", "")) else text[:200]
    if isinstance(body, dict):
        parts = [str(body[name]) for name in ("detail", "validation_errors") if body.get(name)]
        return " ".join(parts)[:500]
    return str(body)[:500]
