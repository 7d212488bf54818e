"""Opens the file system behind a URL, and says what is missing where its driver is not installed."""

from typing import Any

from sdg_data.errors import ConfigError, MissingDependency

_EXTRAS = {"s3": "s3", "s3a": "s3"}


def file_system_of(url: str, **options: Any) -> tuple[Any, str]:
    """fsspec's file system for a URL, and the path in it.

    Args:
        url: Such as `s3://bucket/folder`.
        **options: Of the driver.

    Raises:
        MissingDependency: The driver is not installed.
        ConfigError: There is no such kind of URL.
    """
    import fsspec.core  # its protocol machinery is only paid for where it is used

    try:
        filesystem, path = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        extra = _EXTRAS.get(url.partition("://")[0].lower())
        hint = f"pip install 'sdg-data[{extra}]'" if extra else None
        raise MissingDependency(f"this kind of URL needs another package: {error}", item=url, hint=hint) from error
    except (ValueError, TypeError, NotImplementedError) as error:
        raise ConfigError(f"this URL cannot be used: {error}", item=url) from error
    return filesystem, path
