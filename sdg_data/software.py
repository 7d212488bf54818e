"""The software's own name and version, as records keep it in `tool`."""

from functools import cache
from importlib.metadata import version


@cache
def software() -> str:
    """Such as "sdg-data 0.2.0". Read once: to look into the installed distribution takes longer than a small image."""
    return f"sdg-data {version('sdg-data')}"
