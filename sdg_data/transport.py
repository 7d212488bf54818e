"""What object stores' drivers raise when a request fails, for those who try again or say so.

fsspec's file systems translate what a server answers into OSError. What happens below (a connection that is reset, a
reply that is cut off) some of them let through as their HTTP library's own errors, which are none.
"""

import sys

_LIBRARIES = {
    "aiohttp": ("ClientError",),
    "botocore.exceptions": ("BotoCoreError", "ClientError"),
    "gcsfs.retry": ("HttpError",),
    "ftplib": ("Error",),
    "httpx": ("HTTPError", "InvalidURL"),
    "httpx2": ("HTTPError", "InvalidURL"),
    "requests.exceptions": ("RequestException",),
}


def transport_errors() -> tuple[type[Exception], ...]:
    """The classes of errors that reading or writing at a URL can raise: `except transport_errors() as error`.

    Returns:
        `OSError`, and the base errors of those HTTP libraries that are loaded.
    """
    types: list[type[Exception]] = [OSError]
    for name, errors in _LIBRARIES.items():
        module = sys.modules.get(name)  # one that is not loaded has raised nothing
        if module is not None:
            types.extend(getattr(module, error) for error in errors)
    return tuple(types)


def explained(error: Exception) -> str:
    """An error's message in one line: the system's own words for it where there are some."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return " ".join(text.split())
