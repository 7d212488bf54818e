"""What the routes of the server share: the model, its question, and the home whose images it may look up."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

from annotate.vlm.contract import Backend
from sdg_data.blobs import Blobs
from sdg_data.prompt_templates import Template
from sdg_data.store.connection import Store


@dataclass(frozen=True)
class Served:
    """A detector with its limits. Without `store` and `blobs`, images come in requests only."""

    backend: Backend
    template: Template
    max_tokens: int
    temperature: float
    store: Store | None = None
    blobs: Blobs | None = None

    @property
    def about(self) -> dict[str, object]:
        """What `GET /health` says about the model: its name, the state of its weights, its template and settings."""
        identity = self.backend.identity
        return {
            "model": identity.model,
            "revision": identity.revision,
            "template": self.template.id,
            "template_sha256": self.template.sha256,
            "settings": identity.settings,
            "version": version("sdg-data"),
        }
