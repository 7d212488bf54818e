"""`sdg serve detector` and `sdg serve vllm`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from sdg_data.console import Json, command_group, print_json, print_table, say, settings_of

vllm_app = command_group("vLLM in a venv of its own: install, start, stop, ask.")

Port = Annotated[int, typer.Option(min=1, max=65535, help="Of the server, on this machine")]
Venv = Annotated[Path, typer.Option(help="The folder of vLLM's own venv")]


def detector(
    ctx: typer.Context,
    backend: Annotated[str | None, typer.Option(help="mini or transformers [default: the profile's]")] = None,
    model: Annotated[str | None, typer.Option(help="A folder, or a repository of the hub")] = None,
    revision: Annotated[str | None, typer.Option(help="The state of the model's weights")] = None,
    host: Annotated[str, typer.Option(help="Where to listen; anything but this machine needs a token")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 9090,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Questions a call")] = None,
    linger: Annotated[
        float, typer.Option(min=0, help="Milliseconds to wait for more questions, to answer them as one batch")
    ] = 5.0,
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
        from annotate.serve.app import make_app
        from annotate.serve.connections import run
    except ImportError as error:
        raise MissingDependency(f"{error.name} is not installed", hint="pip install 'sdg-data[vlm]'") from error
    from annotate.serve.served import Served
    from annotate.vlm.local import LocalBackend
    from annotate.vlm.registry import template_for
    from sdg_data.blobs import Blobs
    from sdg_data.errors import ConfigError
    from sdg_data.listening import listen, required_token
    from sdg_data.store.connection import Store

    settings = settings_of(ctx)
    section = settings.prelabel
    if backend is not None and backend != section.backend:
        section = section.model_copy(update={"backend": backend, "model": "", "revision": "", "template": ""})
    given = {"model": model, "revision": revision, "batch_size": batch_size}
    section = section.model_copy(update={name: value for name, value in given.items() if value is not None})
    if section.backend not in ("mini", "transformers"):
        raise ConfigError(f"{section.backend!r} is no model on this machine", hint="--backend mini or transformers")
    token = required_token(host, token_env)
    listener = listen(host, port, accept=False)  # a port that is taken is said before minutes go into loading
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
    place = f"http://{host}:{listener.getsockname()[1]}/v1"
    say(f"{identity.model} ({identity.revision[:12]}) on {place}, template {served.template.id}")
    run(make_app(served, token=SecretStr(token) if token else None), listener, lambda: local.computing)


@vllm_app.command("install")
def vllm_install(ctx: typer.Context, venv: Venv = Path(".venv-vllm")) -> None:
    """Install vLLM and TRL's server into a venv of their own, if they are not there yet (some minutes, about 10 GB)."""
    from annotate.serve.vllm_server import VERSION, install

    say(f"vLLM {VERSION} in {venv}: {'installed' if install(venv) else 'was there'}")


@vllm_app.command("start")
def vllm_start(
    ctx: typer.Context,
    model: Annotated[str, typer.Option(help="A folder, or a repository of the hub")],
    kind: Annotated[
        str, typer.Option(help="chat: answers about images; rollout: samples for sdg train detector grpo")
    ] = "chat",
    port: Port = 8000,
    gpus: Annotated[str, typer.Option(help="Numbers of GPUs by comma [default: all]")] = "",
    name: Annotated[str, typer.Option(help="What clients call it [default: the last part of the model's name]")] = "",
    revision: Annotated[str, typer.Option(help="Of a model of the hub")] = "",
    max_model_length: Annotated[int, typer.Option(min=1, help="Tokens of question and answer")] = 8192,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds until it must answer")] = 1800.0,
    venv: Venv = Path(".venv-vllm"),
    extra: Annotated[
        list[str] | None, typer.Argument(metavar="[-- VLLM_OPTIONS]", help="Further options, as vLLM calls them")
    ] = None,
    as_json: Json = False,
) -> None:
    """Start a server on this machine, wait until it answers, and say how it is used. It goes on until it is stopped."""
    from annotate.serve.vllm_server import VllmOptions, VllmServer
    from sdg_data.errors import ConfigError

    if kind not in ("chat", "rollout"):
        raise ConfigError(f"there is no kind {kind!r}", hint="It is chat or rollout.")
    settings = settings_of(ctx)
    server = VllmServer(settings.home, port, venv)
    options = VllmOptions(
        model=model,
        kind="rollout" if kind == "rollout" else "chat",
        port=port,
        gpus=gpus,
        name=name,
        revision=revision,
        max_model_length=max_model_length,
        media=None if "://" in settings.blob_url else Path(settings.blob_url),
        extra=tuple(extra or ()),
    )
    if not server.running():
        say(f"starting vLLM with {model}; its log is {server.log}")
    started = server.start(options, timeout=timeout)
    facts = {"url": server.url, "model": options.served_name, "kind": kind, "started": started, "log": str(server.log)}
    if as_json:
        print_json(facts)
        return
    print_table([facts])
    if kind == "rollout":
        say(f"--set answers.vllm.mode=server --set answers.vllm.base_url={server.url}")
    else:
        say(f"sdg prelabel run --backend openai --base-url {server.url}/v1 --model {shlex.quote(options.served_name)}")
        say(f"sdg train boxflow --detector openai --detector-url {server.url}/v1")


@vllm_app.command("stop")
def vllm_stop(ctx: typer.Context, port: Port = 8000) -> None:
    """Stop the server of this home on the port."""
    from annotate.serve.vllm_server import VllmServer

    say("stopped" if VllmServer(settings_of(ctx).home, port).stop() else "it was not running")


@vllm_app.command("status")
def vllm_status(ctx: typer.Context, port: Port = 8000, as_json: Json = False) -> None:
    """Whether the server of this home on the port answers; exit code 1 where it does not."""
    from annotate.serve.vllm_server import VllmServer

    server = VllmServer(settings_of(ctx).home, port)
    facts = {"url": server.url, "running": server.running(), "answers": server.healthy(), "log": str(server.log)}
    print_json(facts) if as_json else print_table([facts])
    if not facts["answers"]:
        raise typer.Exit(1)
