"""Fitting a pipeline into the memory there is: where its parts live, and what to do when memory runs out."""

from __future__ import annotations

import gc
import logging
from typing import TYPE_CHECKING, Any, Final

from generators.models.presets import MemoryOptions
from sdg_data.errors import ConfigError, MissingDependency

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

RESERVE_GIB: Final = 6.0
"""What "auto" leaves beside the weights for activations, the decoder and CUDA's own context."""
_GIB: Final = 2**30


def pick_device(wanted: str) -> str:
    """The device to compute on.

    Args:
        wanted: a name of torch (`cpu`, `cuda`, `cuda:1`, `mps`), or `auto`: a GPU if there is one, else the CPU.

    Returns:
        A name of torch.

    Raises:
        ConfigError: torch cannot compute on the wanted device.
    """
    import torch

    if wanted == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(1, device=wanted)
    except (RuntimeError, AssertionError) as error:  # torch built without that device asserts
        raise ConfigError(
            f"cannot compute on {wanted!r}: {str(error).splitlines()[0]}",
            item="generate.device",
            hint="`cpu`, `cuda`, `cuda:1`, `mps`, or `auto` for whatever there is.",
        ) from error
    return wanted


def fitting_offload(wanted: str, all_gib: float, largest_gib: float, gpu_gib: float) -> str:
    """What "auto" stands for on a GPU: as little moving of weights as its memory allows.

    Args:
        wanted: The preset's `offload`; only "auto" is decided here.
        all_gib: Of all weights.
        largest_gib: Of the largest part.
        gpu_gib: The GPU's memory.

    Returns:
        "none" where everything fits with room for activations, else "model" where the largest part does, else
        "sequential".
    """
    if wanted != "auto":
        return wanted
    if all_gib + RESERVE_GIB <= gpu_gib:
        return "none"
    return "model" if largest_gib + RESERVE_GIB <= gpu_gib else "sequential"


def chosen_offload(pipeline: Any, memory: MemoryOptions, device: str) -> str:
    """The offloading of a loaded pipeline on a device; on a CPU there is nothing to offload from.

    Returns:
        "none", "model" or "sequential".
    """
    if device == "cpu":
        return "none"
    if memory.offload != "auto":
        return memory.offload
    if not device.startswith("cuda"):
        return "none"
    sizes = [weights_gib(part) for part in pipeline.components.values() if hasattr(part, "parameters")]
    chosen = fitting_offload("auto", sum(sizes), max(sizes, default=0.0), device_gib(device))
    if chosen != "none":
        log.info("%.1f GiB of weights do not fit with %g GiB to spare: offload %s", sum(sizes), RESERVE_GIB, chosen)
    return chosen


def weights_gib(module: torch.nn.Module) -> float:
    """GiB of a module's weights as they are."""
    size: int = sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())
    return size / _GIB


def device_gib(device: str) -> float:
    """GiB of a GPU's memory."""
    import torch

    return float(torch.cuda.get_device_properties(device).total_memory) / _GIB


def arrange(pipeline: Any, memory: MemoryOptions, device: str, *, in_turns: bool = False) -> Turns | None:
    """Put the pipeline's parts where they compute.

    Args:
        pipeline: Loaded, on the CPU.
        memory: The preset's options.
        device: torch's name.
        in_turns: Whether its prompts can be encoded before its images are made. Where one part at a time fits, the text
            encoders and the others then take turns, instead of each part moving for each image.

    Returns:
        The turns that were taken up; None where nothing moves, or diffusers moves it.
    """
    offload = chosen_offload(pipeline, memory, device)
    turns = None
    if offload == "model" and in_turns:
        turns = Turns(pipeline, device)
    elif offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    else:
        pipeline.to(device)
    if memory.vae_tiling:
        pipeline.vae.enable_tiling()
    if memory.vae_slicing:
        pipeline.vae.enable_slicing()
    if memory.compile:
        denoiser = getattr(pipeline, "transformer", None) or pipeline.unet
        denoiser.compile()
    return turns


class Turns:
    """The text encoders on the device, or all other parts: two moves for a window of prompts, not two for each image.

    Attributes:
        moves: How often the parts changed places.
    """

    def __init__(self, pipeline: Any, device: str) -> None:
        """Leave everything on the CPU; the pipeline computes on the device from now on."""
        import torch

        self._device = device
        self._encoding: bool | None = None
        self.moves = 0
        modules = {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
        self._encoders = [part for name, part in modules.items() if name.startswith("text_encoder")]
        self._others = [part for name, part in modules.items() if not name.startswith("text_encoder")]
        kind = type(pipeline)
        place = torch.device(device)
        # Pipelines ask where they compute, and would answer by where their first part happens to be.
        pipeline.__class__ = type(kind.__name__, (kind,), {"_execution_device": property(lambda self: place)})

    def encode(self) -> None:
        """Bring the text encoders to the device, and the others away first."""
        self._turn(encoding=True)

    def draw(self) -> None:
        """Bring all parts but the text encoders to the device, and these away first."""
        self._turn(encoding=False)

    def _turn(self, *, encoding: bool) -> None:
        if self._encoding is encoding:
            return
        going, coming = (self._others, self._encoders) if encoding else (self._encoders, self._others)
        for part in going:
            part.to("cpu")
        release()
        for part in coming:
            part.to(self._device)
        self._encoding = encoding
        self.moves += 1


def quantisation(memory: MemoryOptions, components: list[str], dtype: torch.dtype) -> Any:
    """The quantisation of these components, as `from_pretrained` takes it.

    Args:
        memory: the preset's options of memory.
        components: names of the pipeline's text encoders.
        dtype: the type that the model computes in.

    Returns:
        diffusers' `PipelineQuantizationConfig`; None where the text encoders are loaded in full.

    Raises:
        MissingDependency: the library of the quantisation is not installed.
    """
    if memory.text_encoder == "full":
        return None
    library, _, kind = memory.text_encoder.partition("-")
    try:
        from diffusers import PipelineQuantizationConfig

        if library == "torchao":
            from torchao.quantization import Int8WeightOnlyConfig  # type: ignore[import-not-found]
            from transformers import TorchAoConfig

            config: Any = TorchAoConfig(Int8WeightOnlyConfig())
        else:
            import bitsandbytes  # noqa: F401  (transformers would notice its absence only when loading)
            from transformers import BitsAndBytesConfig

            four = kind == "4bit"
            config = BitsAndBytesConfig(
                load_in_4bit=four, load_in_8bit=not four, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
            )
    except ImportError as error:
        raise MissingDependency(
            f"a quantised text encoder ({memory.text_encoder}) needs {library}",
            hint=f'pip install {library}, or set memory.text_encoder = "full".',
        ) from error
    return PipelineQuantizationConfig(quant_mapping=dict.fromkeys(components, config))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is a shortage of memory, however the library at fault reports it."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(
        sign in text for sign in ("DefaultCPUAllocator", "CUBLAS_STATUS_ALLOC_FAILED", "MPS backend out of memory")
    )


def release() -> None:
    """Collect unreachable tensors and return their cached GPU memory to the device."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
