"""`sdg` in a process that starts at once: forked from a server that has imported torch and diffusers already.

A real process, to be killed, interrupted and given a disk of its own, without the seconds that its imports cost.
"""

import ctypes
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from diffusers import FluxPipeline, ZImagePipeline  # noqa: F401  (preloads them)

import generators.stage  # noqa: F401
from sdg_data import cli

CANNOT_MOUNT = 77
_NEW_MOUNTS, _NEW_USER = 0x00020000, 0x10000000  # CLONE_NEWNS, CLONE_NEWUSER of linux/sched.h

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__])


@dataclass
class Running:
    """A command on its way."""

    process: BaseProcess
    out: Path
    err: Path

    def until(self, condition: Callable[[], bool]) -> bool:
        """Watch until the condition holds; False when the process ended before."""
        while not condition():
            self.process.join(timeout=0.002)
            if self.process.exitcode is not None:
                return False
        return True

    def wait(self, timeout: float = 300) -> tuple[int, str, str]:
        """Exit code (minus the signal's number for a killed process), stdout and stderr."""
        self.process.join(timeout)
        code = self.process.exitcode
        if code is None:
            self.process.kill()
            raise TimeoutError(self.err.read_text())
        return code, self.out.read_text(), self.err.read_text()


def start(arguments: list[str], folder: Path, *, mount: list[str] | None = None, save: Path | None = None) -> Running:
    """Run `sdg ARGUMENTS`, its output kept in `folder`.

    `mount`: options of `mount`, the last one where; only this process sees it. `save`: copy it there before it is gone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    number = len(list(folder.iterdir()))
    out, err = folder / f"{number}.out", folder / f"{number}.err"
    out.touch()
    process = _context.Process(target=_child, args=(arguments, out, err, mount, save))
    process.start()
    return Running(process, out, err)


def _child(arguments: list[str], out: Path, err: Path, mount: list[str] | None, save: Path | None) -> None:
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    for path, number in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    if mount is not None and not _mount(mount):
        sys.exit(CANNOT_MOUNT)
    code = cli.run(arguments)
    if mount is not None and save is not None:
        subprocess.run(["cp", "-a", mount[-1], str(save)], check=True)
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(code)


def _mount(options: list[str]) -> bool:
    """Mount something in a mount namespace of this process's own; False where the system does not allow it."""
    user, group = os.getuid(), os.getgid()
    if ctypes.CDLL(None).unshare(_NEW_USER | _NEW_MOUNTS):
        return False
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    commands = (["mount", "--make-rprivate", "/"], ["mount", *options])
    return all(subprocess.run(command, check=False).returncode == 0 for command in commands)
