"""`sdg annotate server`: the home's own Label Studio, from its installation to its backups."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdg_data.console import Json, command_group, print_json, print_table, say, settings_of

if TYPE_CHECKING:
    from annotate.labelstudio.server import Server

server_app = command_group("The home's own Label Studio: install, start, stop, ask, back up.")

Database = Annotated[
    str | None,
    typer.Option(
        envvar="LABEL_STUDIO_DATABASE",
        metavar="ADDRESS",
        help="postgresql://user@host:port/name (its password: LABEL_STUDIO_DB_PASSWORD), or sqlite "
        "[default: the config's, else what it was started on last, at first SQLite]",
    ),
]


@server_app.command("install")
def server_install(
    ctx: typer.Context,
    version: Annotated[
        str | None,
        typer.Option(metavar="VERSION", help="Another version in its place; a backup is made first where there is one"),
    ] = None,
    database: Database = None,
) -> None:
    """Install Label Studio into a venv of its own, if it is not there yet (some minutes, about 1 GB)."""
    from annotate.labelstudio.backup import backup_before
    from annotate.labelstudio.installing import install, installed_version

    server = _server(ctx, database)
    venv = Path(server.settings.venv)
    installed = installed_version(venv)
    if version is not None and installed not in (None, version):
        made = backup_before(server, version)
        if made is not None:
            say(f"backed up to {made}")
    done = install(venv, version=version)
    say(f"Label Studio {installed_version(venv)} in {venv}: {'installed' if done else 'was installed'}")


@server_app.command("start")
def server_start(ctx: typer.Context, database: Database = None, as_json: Json = False) -> None:
    """Start it on loopback, wait until it answers, print its address and log-in.

    With LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY nothing is started: that server is asked whether it answers.
    """
    from annotate.labelstudio.connection import connection_of, credentials
    from annotate.labelstudio.database import installation

    settings = settings_of(ctx)
    if not connection_of(settings.home, settings.annotate.port).own:
        server_status(ctx, as_json)
        return
    server = _server(ctx, database)
    noted = installation(server.folder)
    if noted is not None and noted.database != server.database:
        say(f"it ran on another database before ({noted.database}): what is in there stays there")
    if not server.running():
        say("starting Label Studio; the first start makes its database, which takes a minute or more")
    server.start()
    own = credentials(settings.home)
    facts = {
        "url": settings.annotate.public_url or server.connection.url,
        "email": own.email,
        "password": own.password,
        "database": server.database,
    }
    print_json(facts) if as_json else print_table([facts])


@server_app.command("stop")
def server_stop(ctx: typer.Context) -> None:
    """Stop it."""
    say("stopped" if _server(ctx, None).stop() else "it was not running")


@server_app.command("status")
def server_status(ctx: typer.Context, as_json: Json = False) -> None:
    """Whether the server of this call answers; exit code 1 where it does not."""
    from annotate.labelstudio.client import Client, ServerError
    from annotate.labelstudio.connection import connection_of
    from sdg_data.errors import ExitCode

    settings = settings_of(ctx)
    connection = connection_of(settings.home, settings.annotate.port)
    facts: dict[str, Any] = {"url": connection.url, "own": connection.own, "answers": True}
    with Client(connection, patience=0) as client:
        try:
            facts |= {"version": client.version(), "user": client.me().get("email")}
        except ServerError as error:
            facts |= {"answers": False, "why": error.message}
    print_json(facts) if as_json else print_table([facts])
    if not facts["answers"]:
        raise typer.Exit(int(ExitCode.ERROR))


@server_app.command("invite")
def server_invite(
    ctx: typer.Context,
    reset: Annotated[
        bool, typer.Option("--reset", help="Make another link; the old one is worth nothing then")
    ] = False,
) -> None:
    """Print the link by which people make their accounts; nobody can without it. Pass it on as you would a key."""
    from annotate.labelstudio.accounts import invitation
    from annotate.labelstudio.client import Client
    from annotate.labelstudio.connection import connection_of

    annotate = settings_of(ctx).annotate
    connection = connection_of(settings_of(ctx).home, annotate.port)
    with Client(connection, patience=0) as client:
        print(invitation(client, annotate.public_url if connection.own else "", reset=reset))


@server_app.command("backup")
def server_backup(
    ctx: typer.Context,
    target: Annotated[
        Path, typer.Argument(metavar="FILE|FOLDER", help="A new folder, or a new file that ends in .tar")
    ],
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Write its database, uploads, images, settings and keys to one place, while it runs or not.

    The files hold everybody's keys and are readable by you only. What was killed half-way leaves nothing there.
    """
    from annotate.labelstudio.backup import back_up

    made = back_up(_server(ctx, database), target)
    facts = {"backup": str(target), "database": made.database, "files": len(made.files), "bytes": made.bytes}
    print_json(facts) if as_json else print_table([facts])


@server_app.command("restore")
def server_restore(
    ctx: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="FILE|FOLDER", help="What `backup` wrote", exists=True)],
    database: Database = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Where there is a server already: back that up beside it, and replace it")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make the server anew from a backup, after all of its files were compared with their hashes.

    Its database goes to where the options and the config say, else to SQLite or to the PostgreSQL that it came from.
    """
    from annotate.labelstudio.restoring import restore

    done = restore(_server(ctx, database), source, replace=replace)
    facts = {
        "database": done.database,
        "files": done.files,
        "version": done.version,
        "made": done.made.isoformat(timespec="seconds"),
        "replaced": None if done.replaced is None else str(done.replaced),
    }
    print_json(facts) if as_json else print_table([facts])
    say("start it with `sdg annotate server start`; `sdg annotate init`, then `pull`, say what it lacks")


def _server(ctx: typer.Context, database: str | None) -> Server:
    from annotate.labelstudio.server import Server

    settings = settings_of(ctx)
    return Server(settings.home, settings.annotate, database=database)
