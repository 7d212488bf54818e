"""What the hub says of a repository before anything is fetched: is it there, may we have it, is the revision real."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from sdg_data.preflight.findings import Finding
from sdg_data.transport import transport_errors

TIMEOUT: Final = 4.0
"""Seconds to wait for an answer."""
NO_ANSWER: Final = "the hub does not answer"
NETWORK_HINT: Final = "Is the network there? HF_ENDPOINT names a mirror. What was downloaded before runs without it."

State = Literal["there", "gated", "no-repository", "no-revision", "no-answer", "offline"]


@dataclass(frozen=True)
class HubAnswer:
    """What the hub said: a state, and its own words where there are some."""

    state: State
    words: str = ""


def ask_hub(repository: str, revision: str) -> HubAnswer:
    """Ask whether a revision of a repository can be fetched with the token that is here, if any."""
    if offline():
        return HubAnswer("offline")
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            OfflineModeIsEnabled,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ImportError:
        return HubAnswer("no-answer", "huggingface_hub is not installed")
    try:
        api = HfApi()
        if api.model_info(repository, revision=revision or "main", timeout=TIMEOUT).gated:
            # The facts of a gated repository are open to all, its files are not.
            api.auth_check(repository)
        return HubAnswer("there")
    except GatedRepoError as error:
        return HubAnswer("gated", _first_line(error))
    except RevisionNotFoundError as error:
        return HubAnswer("no-revision", _first_line(error))
    except RepositoryNotFoundError as error:
        return HubAnswer("no-repository", _first_line(error))
    except OfflineModeIsEnabled:
        return HubAnswer("offline")
    except (HfHubHTTPError, ValueError) as error:
        return HubAnswer("no-answer", _first_line(error))
    except transport_errors() as error:
        return HubAnswer("no-answer", _first_line(error))


def check_hub(subject: str, repository: str, revision: str) -> Finding:
    """The hub's answer as a finding."""
    answer = ask_hub(repository, revision)
    page = f"https://huggingface.co/{repository}"
    if answer.state == "there":
        return Finding(subject, "hub", f"{repository} at {revision[:10] or 'main'} is there")
    if answer.state == "gated":
        return Finding(subject, "hub", "the hub lets nobody have it without its licence", False, gate_hint(repository))
    if answer.state == "no-revision":
        fix = f"Look at {page}/commits/main, and name another `revision` in a config file."
        return Finding(subject, "hub", f"{repository} has no revision {revision}", False, fix)
    if answer.state == "no-repository":
        fix = f"Is the name right, and may you see it ({page})? `hf auth login` for a private one."
        return Finding(subject, "hub", f"there is no repository {repository}", False, fix)
    if answer.state == "offline":
        return Finding(subject, "hub", "HF_HUB_OFFLINE is set, and the model is not here", False, "Unset it.")
    return Finding(
        subject, "hub", f"{NO_ANSWER} ({answer.words or 'timed out'}), and the model is not here", False, NETWORK_HINT
    )


def offline() -> bool:
    """Whether the hub's library was told not to use the network."""
    return any(
        os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE")
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    )


def has_token() -> bool:
    """Whether somebody is logged in at the hub here: HF_TOKEN, or the file of `hf auth login`."""
    try:
        from huggingface_hub import get_token
    except ImportError:
        return bool(os.environ.get("HF_TOKEN"))
    return get_token() is not None


def cache_folder() -> Path:
    """The folder in which downloaded models are kept."""
    try:
        from huggingface_hub.constants import HF_HUB_CACHE
    except ImportError:
        return Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser() / "hub"
    return Path(HF_HUB_CACHE)


def gate_hint(repository: str) -> str:
    """How to get at a gated repository."""
    return f"Accept its licence at https://huggingface.co/{repository}, then `hf auth login` or set HF_TOKEN."


def is_cached(repository: str, revision: str) -> bool:
    """Whether a repository's configuration, and so presumably the whole, was downloaded before."""
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return False
    return isinstance(try_to_load_from_cache(repository, "config.json", revision=revision or "main"), str)


def is_path(model: str) -> bool:
    """Whether a model's name is a folder, there or not, and no repository."""
    path = Path(model).expanduser()
    return path.is_dir() or path.is_absolute() or model.startswith((".", "~"))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
