"""Debian's nginx as docs/annotate-team.md configures it, on loopback, with a certificate of an authority of our own."""

import contextlib
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.annotate.labelstudio.postgres_cluster import unprivileged_user

PAGE = Path(__file__).parents[3] / "docs" / "annotate-team.md"
_PROGRAM = shutil.which("nginx") or "/usr/sbin/nginx"
_MAIN = """\
pid {folder}/nginx.pid;
error_log {folder}/error.log;
daemon off;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{server}
}}
"""


@dataclass(frozen=True)
class Proxy:
    """Where people reach the server, and the authority that its certificate is of."""

    url: str
    ca: Path


def documented() -> str:
    """The server block of the page."""
    (block,) = re.findall(r"```nginx\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return str(block)


@contextlib.contextmanager
def tls_before(port: int, upstream: int) -> Iterator[Proxy | None]:
    """nginx at `port`, before a server at `upstream`; None where it is not installed."""
    if not Path(_PROGRAM).exists() or shutil.which("openssl") is None:
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="sdg-nginx-"))
    user = unprivileged_user()
    try:
        _make_certificates(folder)
        block = documented()
        for old, new in (
            ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
            ("server_name label.example.org", "server_name 127.0.0.1"),
            ("/etc/ssl/label.example.org.pem", f"{folder}/server.pem"),
            ("/etc/ssl/private/label.example.org.key", f"{folder}/server.key"),
            ("http://127.0.0.1:8085", f"http://127.0.0.1:{upstream}"),
        ):
            assert block.count(old) == 1, old
            block = block.replace(old, new)
        (folder / "nginx.conf").write_text(_MAIN.format(folder=folder, server=block))
        if user is not None:
            for path in [folder, *folder.iterdir()]:
                shutil.chown(path, user)
        command = [_PROGRAM, "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
        process = subprocess.Popen(command, user=user, stderr=subprocess.DEVNULL)
        try:
            _wait(process, port, folder / "error.log")
            yield Proxy(f"https://127.0.0.1:{port}", folder / "ca.pem")
        finally:
            process.terminate()
            process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make_certificates(folder: Path) -> None:
    """An authority, and a certificate for 127.0.0.1 that it signed."""
    new = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    for name, subject, more in (
        ("ca", "/CN=test authority", ["-addext", "basicConstraints=critical,CA:TRUE"]),
        ("server", "/CN=127.0.0.1", ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "subjectAltName=IP:127.0.0.1"]),
    ):
        command = [*new, "-subj", subject, "-keyout", f"{name}.key", "-out", f"{name}.pem", *more]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
