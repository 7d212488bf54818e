"""Loading a Qwen-VL in this process: the kinds that run, the state of a folder's weights, the model and its processor.

Prelabelling, training, evaluation and merging load their models here, so that all of them run the same classes with the
same attention. Nothing at the top of this module imports torch or transformers: a command that only reads a model's
config starts without them.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from annotate.vlm.families import TYPES
from sdg_data import ids
from sdg_data.errors import MissingDependency, ModelError
from sdg_data.model_files import loading_errors, loading_reason
from sdg_data.processes import own_device

log = logging.getLogger(__name__)

FAMILIES: Final = {kind: TYPES[kind] for kind in ("qwen3_vl", "qwen2_5_vl")}
"""The models that run here: the `model_type` of a model's config to its family in `annotate.vlm.families`."""
DETECTOR_FILE: Final = "detector.json"
"""Beside a trained detector's weights: `{"template": "detect-1:3f2a…", ...}`, the prompt it was trained with."""
_FILES: Final = "files"
_SAMPLES: Final = 64
_SAMPLE: Final = 2**16
_NOT_WEIGHTS: Final = frozenset({"README.md", ".gitattributes", "LICENSE"})


def weights_hash(folder: Path) -> str:
    """The state of a model's weights: 40 hex digits over the folder's files, documents left out.

    A folder that is too large to be read at every start is known by what its training wrote down of its files
    (`noted_files`), as long as their sizes and samples of their bytes are still those; else it is read, file by file.
    """
    try:
        return ids.folder_hash(folder, leave_out=_NOT_WEIGHTS)
    except ValueError:
        pass
    noted = read_detector_file(folder).get(_FILES)
    if not isinstance(noted, dict) or not _unchanged(folder, noted):
        log.info("reading all of %s, to know its weights again", folder)
        noted = noted_files(folder)
    digest = hashlib.sha256()
    for name, (_, content, _) in sorted(noted.items()):
        digest.update(f"{name}\0{content}\0".encode())
    return digest.hexdigest()[:40]


def noted_files(folder: Path) -> dict[str, list[Any]]:
    """What is written down of a large folder: for each file its size, its sha256, and that of samples of it."""
    files = _weight_files(folder)
    with ThreadPoolExecutor(4) as pool:  # hashing lets go of the interpreter
        contents = pool.map(_sha256, files.values())
        return {
            name: [path.stat().st_size, content, _sampled(path)]
            for (name, path), content in zip(files.items(), contents, strict=True)
        }


def is_large(folder: Path) -> bool:
    """Whether a folder is too large to be read at every start."""
    return sum(path.stat().st_size for path in _weight_files(folder).values()) > ids.HASH_LIMIT


def _weight_files(folder: Path) -> dict[str, Path]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in {*_NOT_WEIGHTS, DETECTOR_FILE})
    return {path.relative_to(folder).as_posix(): path for path in sorted(files)}


def _unchanged(folder: Path, noted: dict[str, Any]) -> bool:
    files = _weight_files(folder)
    if files.keys() != noted.keys() or not all(
        isinstance(values, list) and len(values) == 3 for values in noted.values()
    ):
        return False
    return all(
        [path.stat().st_size, _sampled(path)] == [noted[name][0], noted[name][2]] for name, path in files.items()
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sampled(path: Path) -> str:
    """sha256 of pieces spread over a file: other weights of the same shapes differ everywhere."""
    size, digest = path.stat().st_size, hashlib.sha256()
    with path.open("rb") as file:
        for piece in range(_SAMPLES):
            file.seek(piece * max(0, size - _SAMPLE) // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE))
    return digest.hexdigest()


def read_detector_file(folder: Path) -> dict[str, Any]:
    """What a trained detector's folder says of its training; empty where it says nothing.

    Raises:
        ModelError: The file holds no JSON object.
    """
    path = folder / DETECTOR_FILE
    if not path.is_file():
        return {}
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"is no JSON ({error})", item=str(path)) from error
    if not isinstance(note, dict):
        raise ModelError("is no JSON object", item=str(path))
    return note


def load_to_answer(
    source: str, model_type: str, *, device: str = "auto", extra: str = "vlm", **hub: Any
) -> tuple[Any, Any]:
    """A model and its processor, ready to generate: bfloat16 on a GPU, float32 on a CPU.

    Args:
        source: A folder, or a repository of the hub.
        model_type: A key of `FAMILIES`.
        device: Where it runs; "auto" is a GPU where there is one.
        extra: The optional dependencies of this distribution that the caller belongs to, for the error message.
        **hub: For a repository of the hub, `revision`.

    Raises:
        MissingDependency: torch or transformers is not installed.
        ModelError: The weights or the processor cannot be loaded.
    """
    with _dependencies(extra):
        import torch  # noqa: F401  (said here where it is missing)
    if device == "auto":
        device = own_device()
    processor = load_processor(source, model_type, extra=extra, **hub)
    model = load_model(source, "float32" if device == "cpu" else "bfloat16", extra=extra, **hub)
    return model.to(device).eval(), processor


def load_model(source: str, dtype: str, *, extra: str = "vlm", **hub: Any) -> Any:
    """The model of a folder or hub repository, on the CPU, its vision tower batching equal images.

    Args:
        source: A folder, or a repository of the hub.
        dtype: torch's name of the weights' type, such as "bfloat16".
        extra: As in `load_to_answer`.
        **hub: As in `load_to_answer`.

    Raises:
        MissingDependency: torch or transformers is not installed.
        ModelError: It cannot be loaded.
    """
    with _dependencies(extra):
        import torch
        from transformers import AutoModelForImageTextToText

        from annotate.vlm.qwen.attention import batch_equal_images
    with _loading(source):
        model = AutoModelForImageTextToText.from_pretrained(source, dtype=getattr(torch, dtype), **hub)
        return batch_equal_images(model)


def load_processor(source: str, model_type: str, *, extra: str = "vlm", **hub: Any) -> Any:
    """The processor of a folder or hub repository, for images and text only.

    It pads on the left, as batched generation needs it; a trainer that pads otherwise sets its own side.

    Args:
        source: A folder, or a repository of the hub.
        model_type: A key of `FAMILIES`.
        extra: As in `load_to_answer`.
        **hub: As in `load_to_answer`.

    Raises:
        MissingDependency: torch or transformers is not installed.
        ModelError: It cannot be loaded.
    """
    with _dependencies(extra):
        from transformers import Qwen2VLImageProcessorPil

        from annotate.vlm.qwen.processors import PROCESSORS
    with _loading(source):
        processor = PROCESSORS[model_type].from_pretrained(source, **hub)
        # The PIL form by name: the default one wants torchvision too, and falls back with a warning.
        processor.image_processor = Qwen2VLImageProcessorPil.from_pretrained(source, **hub)
    processor.tokenizer.padding_side = "left"
    return processor


@contextmanager
def _dependencies(extra: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise MissingDependency(f"{error.name} is not installed", hint=f"pip install 'sdg-data[{extra}]'") from error


@contextmanager
def _loading(source: str) -> Iterator[None]:
    try:
        yield
    except loading_errors() as error:
        raise ModelError(f"cannot load it ({loading_reason(error)})", item=source) from error
