"""How alike two reasons are: cosines for DescCos (SPEC section 3) and the release's token-F1.

`lexical` needs nothing and is the same everywhere, so tests, the demo and machines without the embedding model use it.
It is **not** the paper's measure: it sees words, not meanings, and every report names it. Precisely:

    lower-case the text; a token is a maximal run of Unicode letters and digits, except that each CJK character
    (ideographs, kana, hangul) is a token by itself; the text's vector counts each distinct token;
    the similarity is the cosine of the two vectors, 0..1. Two texts without a token: 1. One without: 0.

Any other name is an embedding model: the cosine of its embeddings, -1..1, each distinct text embedded once.

    Qwen/Qwen3-Embedding-… or mean:NAME: transformers' model, and the mean of its last hidden states over a text's
    tokens, 256 at the most, as the paper's release has it for its metric and its reward
    NAME: sentence-transformers, with the pooling that the model itself names

Token-F1 (release): lower-case; a tag ("<" up to the next ">") is a space; a token is a maximal run of a–z and 0–9; with
c the common tokens, counted as often as both have them, F1 = 2c / (tokens of one + tokens of the other). Two texts
without a token: 1. One without: 0.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sdg_data.errors import ConfigError, MissingDependency
from sdg_data.metrics.word_overlap import ASCII_WORDS, overlap
from sdg_data.model_files import loading_errors, loading_reason

Floats = NDArray[np.float64]
LEXICAL = "lexical"
PAPER_EMBEDDING = "Qwen/Qwen3-Embedding-0.6B"
"""The paper's embedding model; its release takes the mean of the hidden states, not the last one."""
_MEAN = "mean:"
_MEAN_POOLED = re.compile(r"Qwen/Qwen3-Embedding-")
_MEAN_TOKENS = 256
_TAG = re.compile(r"<[^>]+>")


class Similarity(Protocol):
    """Interface of a measure of how much two texts say the same: their cosine, −1..1."""

    @property
    def name(self) -> str:
        """The name that stands in reports; two numbers are comparable only if it is the same for both."""

    def pairs(self, first: Sequence[str], second: Sequence[str]) -> Floats:
        """(n,): the similarity of first[i] and second[i]."""


def similarity_named(name: str) -> Similarity:
    """Make the similarity of a name.

    `MissingDependency` is raised where sentence-transformers is needed and not installed, `ConfigError` where the model
    does not load.

    Args:
        name: `lexical` for the overlap of words, else the name or path of an embedding model, see above.

    Returns:
        The similarity.
    """
    if name == LEXICAL:
        return LexicalSimilarity()
    if needs_transformers(name):
        return MeanPooledSimilarity(name)
    return SentenceSimilarity(name)


def needs_transformers(name: str) -> bool:
    """Whether a similarity is a model of transformers, with mean pooling, and not one of sentence-transformers."""
    return name.startswith(_MEAN) or bool(_MEAN_POOLED.match(name))


@dataclass(frozen=True)
class LexicalSimilarity:
    """Words in common, as the module's docstring defines it."""

    name: str = LEXICAL

    def pairs(self, first: Sequence[str], second: Sequence[str]) -> Floats:
        """The cosine (n,) of the words of first[i] and second[i]."""
        return overlap(first, second).cosine

    def __call__(self, first: str, second: str) -> float:
        """One pair."""
        return float(self.pairs([first], [second])[0])


def token_f1(first: Sequence[str], second: Sequence[str]) -> Floats:
    """(n,): the release's token-F1 of first[i] and second[i], 0..1."""
    return overlap(_without_tags(first), _without_tags(second), ASCII_WORDS).f1


def cosine_and_f1(first: Sequence[str], second: Sequence[str], similarity: Similarity) -> tuple[Floats, Floats]:
    """`similarity.pairs` and `token_f1`, at the price of one where both need the same words."""
    if isinstance(similarity, LexicalSimilarity) and all(map(_is_plain, first)) and all(map(_is_plain, second)):
        words = overlap(first, second)
        return words.cosine, words.f1
    return similarity.pairs(first, second), token_f1(first, second)


def _is_plain(text: str) -> bool:
    """Whether the lexical cosine and the token-F1 see the same words."""
    return text.isascii() and "<" not in text


def _without_tags(texts: Sequence[str]) -> Sequence[str]:
    if not any("<" in text for text in texts):
        return texts
    # What is behind the last ">" holds no tag, and would take the pattern quadratic time to find that out.
    ends = [text.rfind(">") + 1 for text in texts]
    return [_TAG.sub(" ", text[:end]) + text[end:] for text, end in zip(texts, ends, strict=True)]


@dataclass
class SentenceSimilarity:
    """The cosine of a sentence-transformers model's embeddings. The model is loaded at the first use.

    `device` None lets the library choose (a GPU where there is one). `encode` may be replaced where embeddings come
    from elsewhere: it takes distinct texts and gives (n, width).
    """

    name: str
    device: str | None = None
    batch_size: int = 64
    _model: Any = field(default=None, init=False, repr=False)

    def encode(self, texts: Sequence[str]) -> Floats:
        """Embed texts with the model, which is loaded at the first use.

        Returns:
            (n, width), not normalised.

        Raises:
            MissingDependency: sentence-transformers is not installed.
            ConfigError: The model cannot be loaded.
        """
        if self._model is None:
            try:
                from sentence_transformers import SentenceTransformer
            except ImportError as error:
                raise MissingDependency(
                    "sentence-transformers is not installed",
                    item=f"--similarity {self.name}",
                    hint="pip install 'sdg-data[eval]', or use --similarity lexical",
                ) from error
            try:
                self._model = SentenceTransformer(self.name, device=self.device)
            except (OSError, ValueError) as error:
                raise ConfigError(f"cannot load the embedding model: {error}", item=self.name) from error
        vectors = self._model.encode(
            list(texts), batch_size=self.batch_size, convert_to_numpy=True, show_progress_bar=False
        )
        return np.asarray(vectors, dtype=np.float64)

    def pairs(self, first: Sequence[str], second: Sequence[str]) -> Floats:
        """The cosine (n,) of the embeddings of first[i] and second[i]; 0 where an embedding is all zeros."""
        places: dict[str, int] = {}
        left = [places.setdefault(text, len(places)) for text in first]
        right = [places.setdefault(text, len(places)) for text in second]
        if not places:
            return np.empty(0)
        vectors = self.encode(list(places))
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
        cosines: Floats = np.einsum("ij,ij->i", vectors[left], vectors[right])
        return np.clip(cosines, -1.0, 1.0)

    def __call__(self, first: str, second: str) -> float:
        """One pair."""
        return float(self.pairs([first], [second])[0])


@dataclass
class MeanPooledSimilarity(SentenceSimilarity):
    """The cosine of the mean of a transformers model's last hidden states over a text's tokens.

    So the paper's release measures DescCos and R_desc: half precision on a GPU, 256 tokens of a text, no instruction.
    """

    batch_size: int = 32
    _tokenizer: Any = field(default=None, init=False, repr=False)

    def encode(self, texts: Sequence[str]) -> Floats:
        """Embed texts with the model, which is loaded at the first use; where that fails its error comes through.

        Returns:
            (n, width), not normalised.
        """
        if self._model is None:
            self._load()
        import torch

        vectors = []
        with torch.inference_mode():
            for start in range(0, len(texts), self.batch_size):
                batch = self._tokenizer(
                    list(texts[start : start + self.batch_size]),
                    padding=True,
                    truncation=True,
                    max_length=_MEAN_TOKENS,
                    return_tensors="pt",
                ).to(self._model.device)
                states = self._model(**batch).last_hidden_state.float()
                mask = batch["attention_mask"].unsqueeze(-1).float()
                means = (states * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
                vectors.append(means.cpu().numpy())
        return np.concatenate(vectors).astype(np.float64) if vectors else np.empty((0, 0))

    def _load(self) -> None:
        source = self.name.removeprefix(_MEAN)
        try:
            import torch
            from transformers import AutoModel, AutoTokenizer
        except ImportError as error:
            raise MissingDependency(
                f"{error.name} is not installed",
                item=f"--similarity {self.name}",
                hint="pip install 'sdg-data[vlm]', or use --similarity lexical",
            ) from error
        from sdg_data.processes import own_device

        device = self.device or own_device()
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(source)
            dtype = torch.float16 if device.startswith("cuda") else torch.float32
            self._model = AutoModel.from_pretrained(source, dtype=dtype).to(device).eval()
        except loading_errors() as error:
            raise ConfigError(f"cannot load the embedding model: {loading_reason(error)}", item=source) from error
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
