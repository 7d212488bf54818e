"""`sdg dashboard`: look at the store in a browser."""

import logging
from typing import Annotated

import typer

from sdg_data.console import say, settings_of
from sdg_data.errors import ConfigError
from sdg_data.listening import leave, listen, was_not_cut_off

_PATIENCE = 1
"""Seconds that an answer under way may take after Ctrl-C. An open page holds a connection for as long as it is open."""


def dashboard_command(
    ctx: typer.Context,
    host: Annotated[
        str, typer.Option(help="The address to serve on; beyond this machine only with a login")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 7860,
    publish_every: Annotated[
        float, typer.Option(min=1, help="Seconds that data may be old before the changed store is copied again")
    ] = 60.0,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="A name that browsers know this server by, beside this machine's own; may be repeated"),
    ] = None,
) -> None:
    """Serve the dashboards: Overview, Browse, Map, Agreement, Evaluate, Health.

    They read a published copy of the store and keep no writer waiting. With SDG_DASHBOARD_USER and
    SDG_DASHBOARD_PASSWORD in the environment a browser has to log in.
    """
    import uvicorn

    from sdg_data.blobs import Blobs
    from sdg_data.dashboard.access import PASSWORD, USER, login_from
    from sdg_data.dashboard.app import make_app
    from sdg_data.people import people_of

    settings = settings_of(ctx)
    login = login_from()
    if login is None and host not in ("127.0.0.1", "localhost", "::1"):
        raise ConfigError(
            "an address beyond this machine needs a login", item=f"--host {host}", hint=f"Set {USER} and {PASSWORD}."
        )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    listener = listen(host, port)
    say("reading the store …")
    app = make_app(
        settings.home,
        Blobs(settings.blob_url),
        every=publish_every,
        login=login,
        hosts=allow_host or (),
        people=people_of(settings.home, anonymous=settings.annotate.anonymous),
        prepare=True,
    )
    say(f"dashboards of {settings.home}: http://{host}:{port}  (Ctrl-C ends them)")
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=_PATIENCE)
    logging.getLogger("uvicorn.error").addFilter(_is_no_ending)
    try:
        uvicorn.Server(config).run(sockets=[listener])  # Ctrl-C comes out of it as KeyboardInterrupt
    finally:
        # Comparisons, snapshots and requests are computed in threads. They die with the process, but not while Python
        # shuts down around them: DuckDB's and others' C++ would abort it. What they write is swept by the next run.
        say("ended")
        leave()


def _is_no_ending(record: logging.LogRecord) -> bool:
    """Whether a line is none of those about requests that the server's own end cut off: open pages always have some."""
    return was_not_cut_off(record) and "timeout graceful shutdown exceeded" not in record.getMessage()
