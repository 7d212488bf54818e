"""`sdg serve detector`."""

from __future__ import annotations

import ipaddress
import os
from typing import Annotated

import typer

from sdg_data.console import say, settings_of

_GRACE = 10
"""Seconds that Ctrl-C waits for answers under way; a second Ctrl-C does not wait."""

app = typer.Typer(help="Serve a detector over HTTP.", no_args_is_help=True, add_completion=False)


@app.callback()
def _serve() -> None:
    """Serve a detector over HTTP."""


@app.command()
def detector(
    ctx: typer.Context,
    backend: Annotated[str | None, typer.Option(help="mini or transformers [default: the profile's]")] = None,
    model: Annotated[str | None, typer.Option(help="A folder, or a repository of the hub")] = None,
    revision: Annotated[str | None, typer.Option(help="The state of the model's weights")] = None,
    host: Annotated[str, typer.Option(help="Where to listen; anything but this machine needs a token")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 9090,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Questions a call")] = None,
    linger: Annotated[float, typer.Option(min=0, help="Milliseconds to wait for company for a batch")] = 5.0,
    queue: Annotated[int, typer.Option(min=1, help="Questions that may wait; beyond that: 503")] = 256,
    token_env: Annotated[
        str, typer.Option(help="Environment variable with the token that clients must send")
    ] = "SDG_SERVE_TOKEN",
    with_home: Annotated[bool, typer.Option(help="Answer about images of this home by their id (Label Studio)")] = True,
) -> None:
    """Answer questions about images: OpenAI's protocol under /v1, Label Studio's under /predict, /health for both."""
    from pydantic import SecretStr

    from sdg_data.errors import MissingDependency

    try:
        import uvicorn

        from annotate.serve.app import make_app
    except ImportError as error:
        raise MissingDependency(f"{error.name} is not installed", hint="pip install 'sdg-data[vlm]'") from error
    from annotate.serve.served import Served
    from annotate.vlm.local import LocalBackend
    from annotate.vlm.registry import template_for
    from sdg_data.blobs import Blobs
    from sdg_data.errors import ConfigError
    from sdg_data.store.connection import Store

    settings = settings_of(ctx)
    section = settings.prelabel
    if backend is not None and backend != section.backend:
        section = section.model_copy(update={"backend": backend, "model": "", "revision": "", "template": ""})
    given = {"model": model, "revision": revision, "batch_size": batch_size}
    section = section.model_copy(update={name: value for name, value in given.items() if value is not None})
    if section.backend not in ("mini", "transformers"):
        raise ConfigError(f"{section.backend!r} is no model on this machine", hint="--backend mini or transformers")
    token = os.environ.get(token_env) or None
    if token is None and not is_loopback(host):
        raise ConfigError(
            "a server that others can reach needs a token",
            item=f"--host {host}",
            hint=f"Put one into the environment variable {token_env}; clients send it as their API key.",
        )
    local = LocalBackend(section, name=section.backend, max_wait=linger / 1000, max_waiting=queue)
    local.load()
    has_home = with_home and Store(settings.home).path.exists()
    served = Served(
        local,
        template_for(local, section),
        section.max_tokens,
        section.temperature,
        Store(settings.home) if has_home else None,
        Blobs(settings.blob_url) if has_home else None,
    )
    identity = local.identity
    say(f"{identity.model} ({identity.revision[:12]}) on http://{host}:{port}/v1, template {served.template.id}")
    uvicorn.run(
        make_app(served, token=SecretStr(token) if token else None),
        host=host,
        port=port,
        log_level="warning",
        timeout_graceful_shutdown=_GRACE,
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
