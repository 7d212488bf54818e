"""Ports to serve on, taken before anybody is told of them."""

import errno
import socket

from sdg_data.errors import ConfigError


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
