"""Ports to serve on, taken before anybody is told of them; who can reach them; and how a server of ours ends."""

import errno
import ipaddress
import logging
import os
import socket
import sys
from typing import NoReturn

from sdg_data.errors import ConfigError, ExitCode


def listen(host: str, port: int, *, accept: bool = True) -> socket.socket:
    """A socket that listens on an address; a server takes it over.

    Args:
        host: A name or an address of this machine.
        port: From 1; 0 for any that is free.
        accept: Whether others may connect from now on; else only when the server listens, and are refused until then.

    Returns:
        The socket.

    Raises:
        ConfigError: The port is taken, or not allowed, or this machine has no such address.
    """
    address = f"{host}:{port}"
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"this machine has no such address ({error.strerror or error})", item=address) from error
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(place)
        if accept:
            listener.listen()
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ConfigError("the port is taken", item=address, hint="Name another one by --port.") from error
        raise ConfigError(f"cannot listen there ({error.strerror or error})", item=address) from error
    return listener


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def required_token(host: str, variable: str, *, clients: str = "send it as their API key") -> str | None:
    """The token that a server asks its clients for.

    Args:
        host: Where it listens.
        variable: The environment variable that holds the token.
        clients: What clients do with it, for the message.

    Returns:
        The token; None where there is none, and only this machine can reach the server.

    Raises:
        ConfigError: Others can reach the server, and there is no token.
    """
    token = os.environ.get(variable) or None
    if token is None and not is_loopback(host):
        raise ConfigError(
            "a server that others can reach needs a token",
            item=f"--host {host}",
            hint=f"Put one into the environment variable {variable}; clients {clients}.",
        )
    return token


def was_not_cut_off(record: logging.LogRecord) -> bool:
    """A filter of a server's log: none of the tracebacks of requests that the server's own end cancelled."""
    import asyncio

    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


def leave() -> NoReturn:
    """End the process at once, as after Ctrl-C, with all that was printed; threads at work are not waited for."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(ExitCode.INTERRUPTED)
