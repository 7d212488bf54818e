"""The HTTP server of a detector: its routes and its one queue.

    GET  /health                what is served: model, state of its weights, template; no token needed
    POST /v1/chat/completions   OpenAI's protocol (`chat`)
    GET  /v1/models
    POST /setup, /predict       Label Studio's ML-backend protocol (`label_studio`)

Who may use it says `application`. Bodies, pictures and texts are bounded before anything is made of them (`admission`,
`served`, `chat`).

Requests that come together are answered in one batch. Beyond `queue` waiting ones the answer is 503 with `Retry-After`,
so that a client slows down instead of timing out.
"""

from __future__ import annotations

from fastapi import FastAPI
from pydantic import SecretStr

from annotate.serve.application import bare_application
from annotate.serve.chat import chat_router
from annotate.serve.label_studio import label_studio_router
from annotate.serve.served import Served


def make_app(served: Served, *, token: SecretStr | None = None) -> FastAPI:
    """The HTTP application that serves a model: OpenAI's protocol and Label Studio's, and `/health`.

    The backend's own queue bounds how many requests wait (`annotate.vlm.batching`).
    """

    async def close() -> None:
        if not getattr(served.backend, "computing", False):  # whoever ends a server does not wait for a batch
            await served.backend.close()

    app = bare_application("sdg detector", token=token, malformed_status=400, close=close)

    @app.get("/health")
    async def health() -> dict[str, object]:
        waiting = getattr(served.backend, "waiting", 0)
        # "UP" and model_class are what Label Studio looks for.
        return {"status": "UP", "model_class": served.backend.identity.model, "waiting": waiting, **served.about}

    app.include_router(chat_router(served))
    app.include_router(label_studio_router(served))
    return app
