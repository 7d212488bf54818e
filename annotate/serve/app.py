"""The HTTP server of a detector: its routes, its one queue, and who may use it.

    GET  /health                what is served: model, state of its weights, template; no token needed
    POST /v1/chat/completions   OpenAI's protocol (`chat`)
    GET  /v1/models
    POST /setup, /predict       Label Studio's ML-backend protocol (`label_studio`)

Bodies, pictures and texts are bounded before anything is made of them (`admission`, `served`, `chat`).

Requests that come together are answered in one batch. Beyond `queue` waiting ones the answer is 503 with `Retry-After`,
so that a client slows down instead of timing out. With a token, every path but /health wants it: as `Authorization:
Bearer`, or as the password of basic authentication, which is what Label Studio can send.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import SecretStr

from annotate.serve.admission import MAX_BODY, Admission
from annotate.serve.chat import chat_router
from annotate.serve.label_studio import label_studio_router
from annotate.serve.served import Served
from schemas.base import without_lone_surrogates
from sdg_data.http_basic import basic_credentials


def make_app(served: Served, *, token: SecretStr | None = None) -> FastAPI:
    """The application. The backend's own queue bounds how many requests wait (`annotate.vlm.batching`)."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        if not getattr(served.backend, "computing", False):  # whoever ends a server does not wait for a batch
            await served.backend.close()

    app = FastAPI(
        title="sdg detector",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=lifespan,
        max_body_size=MAX_BODY,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        return refusal(error.status_code, str(error.detail), dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        problems = error.errors()[:5]
        return refusal(
            400, "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in problems)
        )

    @app.middleware("http")
    async def check_token(request: Request, proceed: Callable[[Request], Awaitable[Response]]) -> Response:
        if token is not None and request.url.path != "/health" and not allowed(request, token):
            return refusal(401, "a token is needed", {"www-authenticate": "Bearer"})
        return await proceed(request)

    @app.get("/health")
    async def health() -> dict[str, object]:
        waiting = getattr(served.backend, "waiting", 0)
        # "UP" and model_class are what Label Studio looks for.
        return {"status": "UP", "model_class": served.backend.identity.model, "waiting": waiting, **served.about}

    app.include_router(chat_router(served))
    app.include_router(label_studio_router(served))
    app.add_middleware(Admission, any_host=token is not None)
    return app


def refusal(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error in OpenAI's form, which its clients show to people."""
    message = without_lone_surrogates(message)
    return JSONResponse({"error": {"message": message, "type": "error", "code": status}}, status, headers)


def allowed(request: Request, token: SecretStr) -> bool:
    """Whether a request shows the token, as `Bearer` or as the password of basic authentication."""
    header = request.headers.get("authorization", "")
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "bearer":
        credentials = basic_credentials(header)
        if credentials is None:
            return False
        value = credentials[1]
    return secrets.compare_digest(value.encode(), token.get_secret_value().encode())
