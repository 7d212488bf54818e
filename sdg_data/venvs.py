"""Environments of their own, for programs that pin packages which this project needs in other versions."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


class InstallFailed(Exception):
    """The last lines of what a command said that made an environment, or installed into it."""


def install_into(venv: Path, requirements: Sequence[str]) -> None:
    """Install packages into an environment, which is made where there is none, or only a part. Takes minutes.

    Raises:
        InstallFailed: With the last lines of the output.
    """
    python = venv / "bin" / "python"
    commands = [] if (venv / "bin" / "pip").exists() else [[sys.executable, "-m", "venv", str(venv)]]
    commands.append([str(python), "-m", "pip", "install", "--quiet", *requirements])
    for command in commands:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise InstallFailed("\n".join((done.stderr or done.stdout).splitlines()[-5:]))
