"""A Qwen3-VL or Qwen2.5-VL on this machine, by transformers: batched, padded on the left, bfloat16 on a GPU.

What this leaves out: continuous batching, prefix caching, tensor parallelism. For a large model and many images run
vLLM or SGLang and use the `openai` backend.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from annotate.vlm.batching import DynamicBatcher
from annotate.vlm.contract import Answer, AskError, EncodedImage, Identity, Question
from annotate.vlm.families import codec_of, family_of, fit_image
from annotate.vlm.generating import generate_answers, messages
from annotate.vlm.qwen.load import FAMILIES, load_to_answer, read_detector_file, weights_hash
from schemas.codecs import AnswerCodec, Qwen25VL
from schemas.geometry import ImageSize
from sdg_data.errors import MissingDependency, ModelError
from sdg_data.mini.weights import weights_folder
from sdg_data.picture import decode_image
from sdg_data.settings import VlmSettings

log = logging.getLogger(__name__)

MINI_MODEL: Final = "mini-detector"
_NOT_ANSWERABLE: Final = (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError)
"""What processors and models raise about a question that they cannot take."""


_CHAT_TOKENS: Final = 16
"""More than what a chat template writes around a message, in tokens."""
_LETTERS_PER_TOKEN: Final = 32
"""A text with more bytes a token than this is not even counted."""


class LocalBackend:
    """Answers with a model in this process, which is loaded when the first question comes."""

    local = True

    def __init__(
        self,
        settings: VlmSettings,
        *,
        name: str = "transformers",
        max_wait: float = 0.0,
        max_waiting: int | None = None,
    ) -> None:
        """Read the model's config but not its weights.

        Args:
            settings: The model and how it is asked.
            name: `mini` or `transformers`.
            max_wait: As in `DynamicBatcher`.
            max_waiting: As in `DynamicBatcher`.

        Raises:
            ModelError: The model is not there, or of a kind that does not run here.
            ConfigError: `codec` of the settings names no family.
        """
        self._settings = settings
        self._source = settings.model
        folder = Path(settings.model)
        if name == "mini":
            folder = Path(settings.model) if settings.model else weights_folder(MINI_MODEL)
            self._source = str(folder)
        elif not settings.model:
            raise ModelError("no model is named", item=name, hint="--model: a folder, or a repository of the hub.")
        self._folder = folder if folder.is_dir() else None
        if name == "mini" and not (folder / "config.json").is_file():
            raise ModelError(
                f"the mini detector's weights are not in {folder}",
                item=MINI_MODEL,
                hint="`make mini-detector` trains them (minutes). Or ask another model: --backend transformers|openai.",
            )
        config, self._revision = self._read_config()
        self._model_type = str(config.get("model_type"))
        if self._model_type not in FAMILIES:
            raise ModelError(
                f"a model of type {self._model_type!r}; this backend runs {' and '.join(FAMILIES)}",
                item=self._source,
                hint="Others by a server: --backend openai --base-url URL.",
            )
        self._family = family_of(settings.model, settings.codec) if settings.codec else FAMILIES[self._model_type]
        trained = {} if self._folder is None else read_detector_file(self._folder)
        self.identity = Identity(
            name,
            MINI_MODEL if name == "mini" else settings.model,
            self._revision,
            {
                "backend": "transformers",
                "codec": self._family,
                "max_side": settings.max_side,
                "max_tokens": settings.max_tokens,
                "temperature": settings.temperature,
            },
            trained.get("template"),
        )
        limit = config.get("max_position_embeddings", (config.get("text_config") or {}).get("max_position_embeddings"))
        self._context: int | None = limit if isinstance(limit, int) else None
        self._batcher = DynamicBatcher[Question, Answer](
            self.generate, max_batch=settings.batch_size, max_wait=max_wait, max_waiting=max_waiting
        )
        self._model: Any = None
        self._processor: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        """What travels to a worker is the settings; the model is loaded there."""
        return _remade, (self._settings, self.identity.backend, self._revision)

    @property
    def waiting(self) -> int:
        """The number of questions that wait for the model now."""
        return self._batcher.waiting

    @property
    def computing(self) -> bool:
        """Whether the model is at work on a batch."""
        return self._batcher.computing

    def codec(self, size: ImageSize) -> AnswerCodec:
        """The codec of the model's family; for Qwen2.5-VL, with the pixel bounds of the loaded processor."""
        if self._family == "qwen2.5-vl" and self._processor is not None:
            # The loaded processor's own bounds, should they be tighter than ours.
            bounds = self._processor.image_processor.size
            return Qwen25VL.for_image(size, min_pixels=bounds["shortest_edge"], max_pixels=bounds["longest_edge"])
        return codec_of(self._family, size)

    def prepare(self, data: bytes, media_type: str) -> EncodedImage:
        """Encode an image in a size that the model's family takes, within the settings' `max_side`."""
        return fit_image(data, media_type, family=self._family, max_side=self._settings.max_side)

    def see(self, images: Sequence[EncodedImage]) -> NDArray[np.float32]:
        """What the model's vision tower sees of images: the mean over the patches that its language half would read.

        Args:
            images: As `prepare` gives them.

        Returns:
            One vector an image, (n, length).
        """
        import torch

        self.load()
        pictures = [decode_image(image.data) for image in images]
        inputs = self._processor.image_processor(images=pictures, return_tensors="pt").to(self._model.device)
        with torch.inference_mode():
            patches = self._model.get_image_features(inputs["pixel_values"], inputs["image_grid_thw"]).pooler_output
        return np.stack([of_image.float().mean(dim=0).cpu().numpy() for of_image in patches])

    async def ask(self, question: Question) -> Answer:
        """Ask the model in this process; questions that wait together are answered as one batch."""
        return await self._batcher.put(question)

    async def close(self) -> None:
        """End the batches under way and forget the model, so that its memory is freed."""
        await self._batcher.close()
        self._model = self._processor = None

    def load(self) -> None:
        """Load the weights now.

        Raises:
            ModelError: They cannot be loaded.
            MissingDependency: torch or transformers is not installed.
        """
        if self._model is not None:
            return
        try:
            from transformers.utils import logging as transformers_logging
        except ImportError as error:
            raise MissingDependency(f"{error.name} is not installed", hint="pip install 'sdg-data[vlm]'") from error
        transformers_logging.disable_progress_bar()
        log.info("loading %s (%s)", self.identity.model, self._revision[:12])
        revision: dict[str, Any] = {} if self._folder is not None else {"revision": self._revision}
        self._model, self._processor = load_to_answer(
            self._source, self._model_type, device=self._settings.device, **revision
        )

    def generate(self, questions: Sequence[Question]) -> Sequence[Answer | Exception]:
        """Answer a batch; where it fails, its halves: in the end a question fails by itself, and its neighbours do not.

        Runs in the batcher's thread.
        """
        import torch

        self.load()
        refused = [self._too_long(question) for question in questions]
        if any(refused):
            fitting = [question for question, error in zip(questions, refused, strict=True) if error is None]
            rest = iter(self.generate(fitting) if fitting else [])
            return [next(rest) if error is None else error for error in refused]
        try:
            return self._generate(questions)
        except torch.OutOfMemoryError:
            failure = AskError("out-of-memory", "no memory for a single question")
        except _NOT_ANSWERABLE as error:
            failure = AskError("model-error", f"{type(error).__name__}: {' '.join(str(error).split())[:500]}")
        # Out of the handlers now: a traceback refers to the tensors that filled the memory.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(questions) == 1:
            return [failure]
        half = len(questions) // 2
        return [*self.generate(questions[:half]), *self.generate(questions[half:])]

    def _too_long(self, question: Question) -> AskError | None:
        """The failure of a question that leaves no room for an answer, whose answer would be noise."""
        if self._context is None:
            return None
        asked = messages(question)
        images = self._processor.image_processor
        size = question.image.size
        try:
            tokens = images.get_number_of_image_patches(size.height, size.width, {}) // int(images.merge_size) ** 2
        except ValueError:  # a shape that it does not take, which it says of this question alone
            return None
        letters = sum(len(part["text"].encode()) for turn in asked for part in turn["content"] if "text" in part)
        if letters + tokens + _CHAT_TOKENS * len(asked) >= self._context:  # at worst a token a byte: else it fits
            if letters > _LETTERS_PER_TOKEN * self._context:
                return AskError("too-long", f"{letters} bytes of text, for a model that reads {self._context} tokens")
            text = self._processor.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
            tokens += len(self._processor.tokenizer(text)["input_ids"]) - 1
            if tokens >= self._context:
                return AskError("too-long", f"{tokens} tokens, for a model that reads {self._context}")
        return None

    def _generate(self, questions: Sequence[Question]) -> list[Answer]:
        return generate_answers(
            self._model,
            self._processor,
            questions,
            max_tokens=self._settings.max_tokens,
            temperature=self._settings.temperature,
        )

    def _read_config(self) -> tuple[dict[str, Any], str]:
        """(the model's config, the state of its weights)."""
        stated = self._settings.revision
        if self._folder is not None:
            path = self._folder / "config.json"
            if not path.is_file():
                raise ModelError("there is no config.json in the folder", item=str(self._folder))
            return _config_in(path), stated or weights_hash(self._folder)
        try:
            from huggingface_hub import hf_hub_download
            from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
        except ImportError as error:
            raise MissingDependency("huggingface_hub is not installed", hint="pip install 'sdg-data[vlm]'") from error
        try:
            path = Path(hf_hub_download(self._source, "config.json", revision=stated or None))
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
            raise ModelError(
                f"neither a folder nor a repository that can be read ({str(error).splitlines()[0]})",
                item=self._source,
                hint="Is the path right? For the hub: is the network there, and are you logged in (`hf auth login`)?",
            ) from error
        # <cache>/models--owner--name/snapshots/<commit>/config.json
        return _config_in(path), path.parent.name


def _config_in(path: Path) -> dict[str, Any]:
    """The model's config in a file; ModelError where that holds none, as one that was not fetched whole."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"is no JSON ({error})", item=str(path), hint="Fetch it again.") from error
    if not isinstance(config, dict):
        raise ModelError("is no JSON object", item=str(path))
    return config


def _remade(settings: VlmSettings, name: str, revision: str) -> LocalBackend:
    backend = LocalBackend(settings, name=name)
    if backend.identity.revision != revision:
        raise ModelError(
            f"the weights here are those of {backend.identity.revision[:12]}, where the command runs {revision[:12]}",
            item=backend.identity.model,
            hint="Workers need the same files under the same name.",
        )
    return backend
