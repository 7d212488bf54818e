"""`sdg serve rewards`: rewards over HTTP, each in a process of its own."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sdg_data.console import say

if TYPE_CHECKING:
    from fastapi import FastAPI

    from trainers.rewards.serving.process import RewardProcess


app = typer.Typer(add_completion=False)


@app.command("rewards")
def rewards_command(
    reward: Annotated[
        list[str] | None,
        typer.Option(
            "--reward", metavar="NAME", help="A built-in reward, or a table of --file; again for each further one"
        ),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="A file of TOML with a table for each reward (docs/rewards.md)")
    ] = None,
    host: Annotated[str, typer.Option(help="Where to listen; anything but this machine needs a token")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 9191,
    max_body: Annotated[int, typer.Option(min=1, metavar="MIB", help="Of a request; beyond that: 413")] = 128,
    max_buffered: Annotated[
        int, typer.Option(min=1, metavar="MIB", help="Of all requests being read or answered; beyond that: 503")
    ] = 512,
    token_env: Annotated[
        str, typer.Option(help="Environment variable with the token that clients must send")
    ] = "SDG_SERVE_TOKEN",
) -> None:
    """Answer POST /score in the form of UniRL's reward service; /rewards says what figures mean, /health how it is."""
    from pydantic import SecretStr

    from sdg_data.errors import MissingDependency
    from sdg_data.listening import listen, required_token
    from trainers.rewards.serving.settings import read_rewards

    try:
        import uvicorn  # noqa: F401

        from trainers.rewards.serving.app import make_app
    except ImportError as error:
        raise MissingDependency(f"{error.name} is not installed", hint="pip install 'sdg-data[vlm]'") from error
    from trainers.rewards.serving.process import RewardProcess

    served = read_rewards(reward or [], file)
    token = required_token(host, token_env, clients="name it with api_key_env")
    listener = listen(host, port, accept=False)
    place = f"http://{host}:{listener.getsockname()[1]}"

    async def run() -> None:
        processes = {settings.name: RewardProcess(settings) for settings in served}
        app = make_app(
            processes,
            token=SecretStr(token) if token else None,
            max_body=max_body * 2**20,
            max_buffered=max(max_body, max_buffered) * 2**20,
        )
        try:
            await _start(processes)
            say(f"{place}/score")
            await _serve(app, listener)
        finally:
            for process in processes.values():  # all before the first wait, which another Ctrl-C may end
                process.kill()
            await asyncio.gather(*(process.stop() for process in processes.values()))

    try:
        asyncio.run(run())
    except KeyboardInterrupt:
        say("ended")


async def _start(processes: dict[str, RewardProcess]) -> None:
    """Start all processes at once; the first one that does not load ends the others. Say what their figures mean."""
    say(f"loading {', '.join(processes)}")
    await asyncio.gather(*(process.start() for process in processes.values()))
    for name, process in processes.items():
        facts = process.settings.facts
        say(
            f"{name}: {process.version}"
            + (f"; {facts.scale}, usually {facts.low:g} to {facts.high:g}" if facts else "")
        )


async def _serve(app: FastAPI, listener: socket.socket) -> None:
    import uvicorn

    from annotate.serve.connections import configuration

    await uvicorn.Server(configuration(app)).serve(sockets=[listener])
