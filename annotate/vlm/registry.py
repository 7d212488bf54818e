"""Makes the backend that settings name, and imports no other."""

from __future__ import annotations

from typing import Final

from annotate.vlm.contract import Backend, Prices
from sdg_data.errors import ConfigError
from sdg_data.prompt_templates import DETECT, Template, load_template
from sdg_data.settings import VlmSettings

BACKENDS: Final = ("mini", "transformers", "openai")


def make_backend(settings: VlmSettings) -> Backend:
    """The backend that the settings name.

    Raises:
        ConfigError: There is no such backend, or it lacks a setting.
        ModelError: The model is not there.
    """
    if settings.backend == "openai":
        from annotate.vlm.openai_chat import OpenAIBackend

        return OpenAIBackend(settings)
    if settings.backend in ("mini", "transformers"):
        from annotate.vlm.local import LocalBackend

        return LocalBackend(settings, name=settings.backend)
    hint = f"It is one of {', '.join(BACKENDS)}."
    if settings.backend == "oracle":
        hint = "The oracle knows the drawn world's right answers: it plays annotators, it does not prelabel. " + hint
    raise ConfigError(f"there is no backend {settings.backend!r}", hint=hint)


def template_for(backend: Backend, settings: VlmSettings, default: str = DETECT) -> Template:
    """The question: the one that is named, else the one the model was trained with, else `default`.

    Raises:
        ConfigError: The model was trained with another one than is named.
    """
    trained = backend.identity.template
    if settings.template and trained and load_template(settings.template) != load_template(trained):
        raise ConfigError(
            f"the model was trained with the template {trained}, not {settings.template}", item=backend.identity.model
        )
    return load_template(settings.template or trained or default)


def prices_of(settings: VlmSettings) -> Prices | None:
    """What tokens cost, None where the settings do not say it.

    Raises:
        ConfigError: Only one of the two prices is set.
    """
    if settings.price_in is None and settings.price_out is None:
        return None
    if settings.price_in is None or settings.price_out is None:
        raise ConfigError("price_in and price_out go together", hint="US dollars per million tokens, each.")
    return Prices(settings.price_in, settings.price_out)
