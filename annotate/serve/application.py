"""An HTTP server without routes, as every server of a model starts: bounds, errors in OpenAI's form, and a token.

With a token, every path but /health wants it: as `Authorization: Bearer`, or as the password of basic authentication,
which is what Label Studio can send.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import SecretStr

from annotate.serve.admission import MAX_BODY, MAX_BUFFERED, Admission
from schemas.base import without_lone_surrogates
from sdg_data.http_basic import basic_credentials


async def _nothing() -> None:
    pass


def bare_application(
    title: str,
    *,
    token: SecretStr | None,
    malformed_status: int,
    max_body: int = MAX_BODY,
    max_buffered: int = MAX_BUFFERED,
    close: Callable[[], Awaitable[None]] = _nothing,
) -> FastAPI:
    """An application that waits for its routes.

    Args:
        title: What it is called.
        token: That clients must send; None: none.
        malformed_status: The answer's status where a body is not of the form that its route takes.
        max_body: Bytes of a request.
        max_buffered: Bytes of all requests that are being read or answered.
        close: Called when the server ends.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await close()

    app = FastAPI(
        title=title,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=lifespan,
        max_body_size=max_body,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        return _refusal(error.status_code, str(error.detail), dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        problems = [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()[:5]]
        return _refusal(malformed_status, "; ".join(problems))

    @app.middleware("http")
    async def check_token(request: Request, proceed: Callable[[Request], Awaitable[Response]]) -> Response:
        if token is not None and request.url.path != "/health" and not _allowed(request, token):
            return _refusal(401, "a token is needed", {"www-authenticate": "Bearer"})
        return await proceed(request)

    app.add_middleware(Admission, any_host=token is not None, max_body=max_body, max_buffered=max_buffered)
    return app


def _refusal(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error in OpenAI's form, which its clients show to people."""
    message = without_lone_surrogates(message)
    return JSONResponse({"error": {"message": message, "type": "error", "code": status}}, status, headers)


def _allowed(request: Request, token: SecretStr) -> bool:
    """Whether a request shows the token, as `Bearer` or as the password of basic authentication."""
    header = request.headers.get("authorization", "")
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "bearer":
        credentials = basic_credentials(header)
        if credentials is None:
            return False
        value = credentials[1]
    return secrets.compare_digest(value.encode(), token.get_secret_value().encode())
