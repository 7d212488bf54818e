"""vLLM in a venv of its own, because it pins packages that this project needs newer: installed, started, stopped.

A server belongs to a home and a port; its process id and log lie in `home/vllm/`. `chat` answers questions about
images (`sdg prelabel run`, the detector and the judge of `sdg train boxflow`); `rollout` is TRL's own server, which
`sdg train detector grpo` sends its weights to while it trains (`answers.vllm.mode=server`).
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.error import URLError
from urllib.request import urlopen

from sdg_data import background
from sdg_data.background import HOST
from sdg_data.errors import ConfigError, MissingDependency, SdgError
from sdg_data.locks import stage_lock
from sdg_data.venvs import InstallFailed, install_into

VERSION: Final = "0.30.0"
"""Takes the torch and transformers that the detectors are trained with; TRL takes 0.22 to 0.31."""
TRL_VERSION: Final = "1.16.0"
DEFAULT_VENV: Final = Path(".venv-vllm")
START_SECONDS: Final = 1800.0
"""Weights may have to be fetched, and graphs are captured."""
_INHERITED: Final = ("PATH", "LANG", "LC_ALL", "HOME", "TMPDIR", "USER", "LD_LIBRARY_PATH")
_INHERITED_KINDS: Final = ("CUDA_", "NVIDIA_", "NCCL_", "HF_", "VLLM_", "TORCH", "TRITON_", "XDG_")

Kind = Literal["chat", "rollout"]


class VllmFailed(SdgError):
    """vLLM cannot be installed, or does not start."""


@dataclass(frozen=True)
class VllmOptions:
    """What a server is started with. `gpus` "": all; `extra`: further words of vLLM's own command line."""

    model: str
    kind: Kind = "chat"
    port: int = 8000
    gpus: str = ""
    name: str = ""
    revision: str = ""
    max_model_length: int = 8192
    media: Path | None = None
    extra: tuple[str, ...] = ()

    @property
    def served_name(self) -> str:
        """The name that clients ask for: the given one, else the model's without owner or folders."""
        return self.name or self.model.rstrip("/").rpartition("/")[2]


def install(venv: Path, *, version: str = VERSION) -> bool:
    """Make `venv` with vLLM and TRL in it, if it is not there yet; returns whether that was needed. Takes minutes.

    Raises:
        VllmFailed: With the last lines of pip's output.
    """
    if (venv / "bin" / "vllm").exists():
        return False
    try:
        install_into(venv, [f"vllm=={version}", f"trl=={TRL_VERSION}"])
    except InstallFailed as error:
        raise VllmFailed(f"cannot install vLLM {version}:\n{error}", item=str(venv)) from error
    return True


def command(venv: Path, options: VllmOptions) -> list[str]:
    """The command line of a server."""
    if options.kind == "rollout":
        line = [str(venv / "bin" / "trl"), "vllm-serve", "--model", options.model]
        line += ["--max_model_len", str(options.max_model_length)]
    else:
        line = [str(venv / "bin" / "vllm"), "serve", options.model, "--served-model-name", options.served_name]
        line += ["--max-model-len", str(options.max_model_length), "--limit-mm-per-prompt", '{"image": 1, "video": 0}']
        if options.media is not None:
            line += ["--allowed-local-media-path", str(options.media.absolute())]
    line += ["--host", HOST, "--port", str(options.port)]
    if options.revision:
        line += ["--revision", options.revision]
    return [*line, *options.extra]


class VllmServer:
    """The vLLM server of a home on a port: starts it, stops it, and says how it is."""

    def __init__(self, home: Path, port: int, venv: Path = DEFAULT_VENV) -> None:
        self.home, self.port = home, port
        self.venv = venv.absolute()
        self.folder = home / "vllm"
        self.log = self.folder / f"{port}.log"
        self._state = self.folder / f"{port}.json"

    @property
    def url(self) -> str:
        """The server's address, without a path."""
        return f"http://{HOST}:{self.port}"

    def start(self, options: VllmOptions, *, timeout: float = START_SECONDS) -> bool:
        """Start it and wait until it answers; returns False if it ran already.

        Raises:
            VllmFailed: It does not start, or does not answer in time; or another program has the port.
            MissingDependency: vLLM is not installed there.
            ConfigError: Nothing says which model.
        """
        if not options.model:
            raise ConfigError("no model is named", hint="--model FOLDER, or a repository of the hub.")
        with stage_lock(self.home, f"vllm-{self.port}"):
            if self.running():
                self._wait(timeout)
                return False
            line = command(self.venv, options)
            if not Path(line[0]).exists():
                raise MissingDependency(
                    "vLLM is not installed there", item=str(self.venv), hint="sdg serve vllm install"
                )
            if not background.port_free(self.port):
                raise VllmFailed(
                    "another program listens there", item=f"{HOST}:{self.port}", hint="Name another --port."
                )
            self.folder.mkdir(parents=True, exist_ok=True)
            with self.log.open("ab") as log:
                process = subprocess.Popen(
                    line,
                    env=environment(options.gpus),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # so that it outlives the command and a Ctrl-C there
                )
            background.noted(self._state, process.pid, self.port)
            try:
                self._wait(timeout, process)
            except BaseException:
                background.stop(self._state)  # nobody wants a server that loads for nobody
                raise
            return True

    def stop(self) -> bool:
        """End it; returns whether it ran."""
        return background.stop(self._state)

    def running(self) -> bool:
        """Whether the process that was started here runs."""
        return background.running(self._state) is not None

    def healthy(self) -> bool:
        """Whether it answers within ten seconds that it is well."""
        try:
            with urlopen(f"{self.url}/health", timeout=10) as reply:
                return int(reply.status) == 200
        except (URLError, OSError, ValueError):
            return False

    def _wait(self, timeout: float, process: subprocess.Popen[bytes] | None = None) -> None:
        def error(has_ended: bool) -> VllmFailed:
            reason = "it ended" if has_ended else f"it did not answer within {timeout:g} s"
            hint = background.log_tail(self.log, 12)
            return VllmFailed(f"vLLM does not start: {reason}", item=str(self.log), hint=hint)

        ended = (lambda: not self.running()) if process is None else (lambda: process.poll() is not None)
        background.wait_until(self.healthy, ended, error, timeout=timeout)


def environment(gpus: str) -> dict[str, str]:
    """The environment that a server is started in: what finds GPUs, the hub and its caches, and no key of ours."""
    inherited = {
        name: value for name, value in os.environ.items() if name in _INHERITED or name.startswith(_INHERITED_KINDS)
    }
    chosen = {"CUDA_VISIBLE_DEVICES": gpus} if gpus else {}
    return {**inherited, "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", **chosen}
