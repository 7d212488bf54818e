"""LongCat-Image: a pipeline that cannot be given encoded prompts, so what it calls to encode them is made to remember.

Its call asks for the length of the prompt even where embeddings are given, and encodes one negative prompt for a whole
batch, which only fits a batch of one. So it gets texts, a negative prompt for each, and an encoder that remembers each
text; likewise for the rewriting of prompts by its language model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import override

from generators.adapter import Adapter, Remembered
from generators.models.contract import ImageModel, PromptWindow
from generators.models.flow import Conditioning, Flow, normal_noise, pack
from generators.models.presets import MemoryOptions, Preset, mini_preset

if TYPE_CHECKING:
    import torch

PRESET: Final = Preset(
    name="longcat-image",
    pipeline="LongCatImagePipeline",
    repository="meituan-longcat/LongCat-Image",
    # f0e4c43c5ef7, which was here before, is a commit of the code repository of the same name.
    revision="d2ea50b79a930074c37b9b97ce45e3b2ea8cf4d8",
    revision_seen="benchmark notes of a serving engine, which checked every file of this commit against its hash",
    licence="Apache-2.0",
    # Card and the authors' scripts/inference_t2i.py: bfloat16, 50 steps, guidance 4.0, enable_cfg_renorm and
    # enable_prompt_rewrite on, model offload ("required ~17 GB"). 1024x1024 is the class's default, and SDG-30K's.
    steps=50,
    guidance=4.0,
    call={"enable_cfg_renorm": True, "cfg_renorm_min": 0.0, "enable_prompt_rewrite": True},
    memory=MemoryOptions(offload="auto"),
    batch_size=1,
    about="6B, Chinese and English; its text encoder first rewrites the prompt",
)
MINI: Final = mini_preset("mini-longcat", PRESET, steps=20, guidance=2.0, call={"enable_prompt_rewrite": False})


class LongCatAdapter(Adapter):
    """Texts go in; `_encode_prompt` and `rewire_prompt` of the pipeline are replaced by remembering ones."""

    def __init__(self, preset: Preset, pipeline: Any, *, device: str = "cpu", batch_size: int | None = None) -> None:
        import torch

        super().__init__(preset, pipeline, device=device, batch_size=batch_size)
        size = 2 * self.batch_size + 6
        encode, rewrite = pipeline._encode_prompt, pipeline.rewire_prompt
        device_now = pipeline._execution_device
        self._embeddings = Remembered(lambda texts: encode(texts).split(1), rows=lambda: self.batch_size, size=size)
        # One at a time: batches of a language model are padded to the longest.
        self._rewritten = Remembered(lambda texts: [_rewrite(rewrite, texts[0], device_now)], rows=lambda: 1, size=size)
        pipeline._encode_prompt = lambda texts: torch.cat(self._embeddings(texts))
        pipeline.rewire_prompt = lambda texts, device: self._rewritten(texts)

    def conditioning(self, prompts: Sequence[str]) -> dict[str, Any]:
        """The texts that a call is made with: the prompts, and for each the negative prompt of the preset."""
        negative = self.preset.call.get("negative_prompt") or ""
        return {"prompt": list(prompts), "negative_prompt": [negative] * len(prompts)}

    @property
    def rewrites(self) -> bool:
        """Whether the model writes its own version of a prompt first, as the class does unless it is told not to."""
        return bool(self.preset.call.get("enable_prompt_rewrite", True))

    @override
    def prepare(self, prompts: Sequence[str]) -> None:
        """Rewrite a window of prompts before its images, so that the language model runs once a window."""
        import torch

        if self.rewrites:
            texts = list(dict.fromkeys(prompts))
            self._rewritten.keep(len(texts))
            with torch.no_grad():
                self._rewritten(texts)

    @override
    def drawn_from(self, prompts: Sequence[str]) -> list[str | None]:
        """The rewritten texts, where they are other than the prompts."""
        if not self.rewrites:
            return [None] * len(prompts)
        texts = self._rewritten(prompts)
        return [text if text != prompt else None for prompt, text in zip(prompts, texts, strict=True)]

    def recover(self) -> None:
        """Forget the embeddings, which are on the device, but not the rewritten texts."""
        self._embeddings.clear()
        super().recover()

    def close(self) -> None:
        """Undo the replacement too: it holds the adapter and the pipeline together."""
        del self.pipeline._encode_prompt, self.pipeline.rewire_prompt
        self._embeddings.clear()
        super().close()


class LongCatFlow(Flow):
    """Packed latents; the positions of the image start where the longest text would end.

    `renormalise`: guidance may not lengthen the velocity at a location (the pipeline's `enable_cfg_renorm`).
    """

    packed = True
    renormalise = True

    @classmethod
    @override
    def from_preset(cls, preset: Preset, pipeline: Any) -> LongCatFlow:
        """Make the flow with the preset's token limit and its choice whether guided velocities are renormalised."""
        flow = cls(pipeline, int(preset.attributes.get("tokenizer_max_length", pipeline.tokenizer_max_length)))
        flow.renormalise = bool(preset.call.get("enable_cfg_renorm", True))
        return flow

    @override
    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts at the flow's token limit, which is set in the pipeline; all features (B, L, D) count."""
        self.pipeline.tokenizer_max_length = self.max_tokens
        features, _ = self.pipeline.encode_prompt(list(prompts))
        return Conditioning.of_all(features)

    @override
    def velocity(
        self, latents: torch.Tensor, sigma: torch.Tensor, text: Conditioning, guidance: torch.Tensor | None = None
    ) -> torch.Tensor:
        """v at noise level `sigma` (B,); image positions begin after those of the text. `guidance` is not used."""
        from diffusers.pipelines.longcat_image.pipeline_longcat_image import prepare_pos_ids

        rows, columns = self._grid(latents)
        start = (self.max_tokens, self.max_tokens)
        places = prepare_pos_ids(modality_id=1, type="image", start=start, height=rows, width=columns)
        words = prepare_pos_ids(modality_id=0, type="text", num_token=text.features.shape[1])
        velocity: torch.Tensor = self.denoiser(
            hidden_states=latents,
            timestep=sigma,
            guidance=None,
            encoder_hidden_states=text.features,
            txt_ids=words.to(latents.device),
            img_ids=places.to(latents.device),
            return_dict=False,
        )[0]
        return velocity

    @override
    def noise(self, generators: Sequence[torch.Generator], height: int, width: int) -> torch.Tensor:
        """The starting noise, drawn as a grid of 16 channels (the random numbers of the pipeline itself) and packed."""
        rows, columns = self.locations(height, width)
        shape = (1, 16, 2 * rows, 2 * columns)
        return pack(normal_noise(generators, shape))

    @override
    def guide(self, conditional: torch.Tensor, unconditional: torch.Tensor, scale: float) -> torch.Tensor:
        """The guided velocity; where the preset says so, cut at each location to the conditional one's length."""
        guided = super().guide(conditional, unconditional, scale)
        if not self.renormalise:
            return guided
        length, wanted = guided.norm(dim=-1, keepdim=True), conditional.norm(dim=-1, keepdim=True)
        return guided * (wanted / (length + 1e-8)).clamp(0.0, 1.0)


def load_processor(source: str, **options: Any) -> dict[str, Any]:
    """The prompt rewriter's processor without its video half, which would want torchvision."""
    from generators.processors import load_image_only

    return {"text_processor": load_image_only(source, subfolder="text_processor", **options)}


def _rewrite(rewrite: Any, text: str, device: torch.device) -> str:
    """The model's own version of a prompt; if it samples, then from the prompt's own random numbers."""
    import torch

    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        rewritten: str = rewrite([text], device)[0]
    return rewritten


def _window(preset: Preset, tokenizer: Any) -> PromptWindow | None:
    """Quoted words letter by letter, the rest as it is. A prompt that is rewritten first is read whole."""
    if preset.call.get("enable_prompt_rewrite", True):
        return None

    def pieces(text: str) -> list[str]:
        if not _QUOTES.intersection(text):
            return [text]
        from diffusers.pipelines.longcat_image.pipeline_longcat_image import split_quotation

        parts = ((list(part) if quoted else [part]) for part, quoted in split_quotation(text))
        return [piece for part in parts for piece in part]

    return PromptWindow(int(preset.attributes.get("tokenizer_max_length", _TOKENS)), pieces=pieces)


_TOKENS: Final = 512
"""The class's own limit."""
_QUOTES: Final = frozenset("'\"\u2018\u201c")


MODEL: Final = ImageModel(
    "LongCatImagePipeline",
    presets=(PRESET,),
    mini=MINI,
    adapter=LongCatAdapter,
    flow=LongCatFlow,
    load_components=load_processor,
    prompt_window=_window,
)
