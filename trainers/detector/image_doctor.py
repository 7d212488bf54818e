"""ImageDoctor (arXiv 2510.01010) as a `MapDetector`: its published checkpoint's documented output, read strictly.

The model answers in text and, at two special tokens of that text, with heatmaps:

    <think>… Proposed regions (xyxy): 1.[x1,y1,x2,y2];… </think>
    <answer>Semantic Alignment score: 0.6
    Misalignment Locations: <|misalignment|>
    Aesthetic score: …  Plausibility score: …  Artifact Locations: <|artifact|>  Overall Impression score: …</answer>

The maps come from the last hidden states of the steps that write those tokens: `text_hidden_fcs` and `image_hidden_fcs`
project them and the image's features into one space, `prompt_encoder`, `heatmap` and `sigmoid` make (H, W) of them.
Images are shown with an area of 512². What this leaves out: batching (the model's own code takes one image at a time).
"""

from __future__ import annotations

import math
import re
from typing import Any, Final

import numpy as np
import torch
from PIL import Image

from schemas.defect import Defect, DefectType
from schemas.geometry import Box
from sdg_data.chat_marks import without_marks
from sdg_data.errors import MissingDependency, ModelError
from sdg_data.metrics.heatmaps import boxes_of, finite_map
from sdg_data.model_files import loading_errors, loading_reason
from trainers.detector.heatmaps import Asked, Floats, HeatmapReading

AREA: Final = 512 * 512
SCORES: Final = {
    "semantic_alignment": "Semantic Alignment score",
    "aesthetics": "Aesthetic score",
    "plausibility": "Plausibility score",
    "overall": "Overall Impression score",
}
"""Our names of the four scores (0..1), and the answer's."""
_TOKENS: Final = {DefectType.MISALIGNMENT: "misalignment_token_id", DefectType.ARTIFACT: "artifact_token_id"}
_PARTS: Final = ("text_hidden_fcs", "image_hidden_fcs", "prompt_encoder", "heatmap", "sigmoid")
_ANSWER: Final = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_SCORE: Final = (
    r"([0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+(?:[eE][+-]?[0-9]+)?)(?:\s*/\s*1(?:\.0*)?(?!\w))?"
    r"(?!\w)(?![.,][0-9])(?!\s*[%/\u2030])(?!\s*(?:out of|percent)\b)"
)
"""A number, and behind it nothing that makes another one of it."""
_REGION: Final = re.compile(r"\d+\s*\.\s*\[\s*(\d+(?:\.\d+)?(?:\s*,\s*\d+(?:\.\d+)?){3})\s*\]")
_QUESTION: Final = (
    "Given a caption and an image generated from it, analyse the image in detail: Semantic Alignment, Aesthetics, "
    "Plausibility and Overall Impression, each with a score between 0 and 1 and a rationale. Enclose all potentially "
    "important areas and the reasoning in <think> and </think>; areas as: I need to focus on the bounding box area. "
    "Proposed regions (xyxy): 1.[x1,y1,x2,y2];\n2.[x1,y1,x2,y2]; Then, within <answer> and </answer>: "
    "Semantic Alignment score: ...\nMisalignment Locations: ...\nAesthetic score: ...\nPlausibility score: ...\n"
    "Artifact Locations: ...\nOverall Impression score: ...\n\nText Caption: [{caption}]"
)


class ImageDoctor:
    """A loaded checkpoint with its processor. `question` has `{caption}` in it; the card's own may be given.

    `threshold`: from which heat on a region counts as a defect in `HeatmapReading.defects`.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        name: str = "ImageDoctor",
        threshold: float = 0.5,
        max_new_tokens: int = 4096,
        question: str = _QUESTION,
    ) -> None:
        missing = [part for part in _PARTS if not hasattr(model, part)]
        missing += [token for token in _TOKENS.values() if not hasattr(model.config, token)]
        if missing:
            raise ModelError(f"is no ImageDoctor: it has no {', '.join(missing)}", item=name)
        self.name = name
        self._model, self._processor, self._question = model, processor, question
        self._threshold, self._limit = threshold, max_new_tokens

    @classmethod
    def load(cls, source: str, *, revision: str, device: str = "cuda", **options: Any) -> ImageDoctor:
        """Load the published checkpoint. It brings code of its own, so the revision to be trusted must be named.

        Args:
            source: a folder or a hub repository.
            revision: the commit that is trusted.
            device: torch's name.
            options: those of the class.

        Returns:
            The loaded model.

        Raises:
            MissingDependency: transformers is not installed.
            ModelError: it does not load, or is no ImageDoctor.
        """
        try:
            from transformers import AutoModelForCausalLM, AutoProcessor
        except ImportError as error:
            raise MissingDependency(f"{error.name} is not installed", hint="pip install 'sdg-data[train]'") from error
        chosen: dict[str, Any] = {"revision": revision, "trust_remote_code": True}
        try:
            model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16, **chosen).to(device).eval()
            processor = AutoProcessor.from_pretrained(source, **chosen)
        except loading_errors() as error:
            raise ModelError(f"cannot load it ({loading_reason(error)})", item=source) from error
        return cls(model, processor, name=f"{source}@{revision[:12]}", **options)

    def read(self, asked: Asked) -> list[HeatmapReading]:
        """Ask the model about one image after another, and give one reading for each, in their order."""
        return [self._one(image, prompt) for image, prompt in asked]

    @torch.inference_mode()
    def _one(self, image: Image.Image, prompt: str) -> HeatmapReading:
        parts = [
            {"type": "image"},
            {"type": "text", "text": self._question.replace("{caption}", without_marks(prompt))},
        ]
        text = self._processor.apply_chat_template(
            [{"role": "user", "content": parts}], tokenize=False, add_generation_prompt=True
        )
        fitted = resized(image)
        inputs = self._processor(text=[text], images=[fitted], return_tensors="pt").to(self._model.device)
        output = self._model.generate(
            **inputs,
            max_new_tokens=self._limit,
            do_sample=False,
            return_dict_in_generate=True,
            output_hidden_states=True,
        )
        written = output.sequences[0, inputs["input_ids"].shape[1] :]
        answer = self._processor.batch_decode([written], skip_special_tokens=True)[0]
        return reading(answer, self._maps(inputs, written, output.hidden_states), threshold=self._threshold)

    def _maps(self, inputs: Any, written: torch.Tensor, states: Any) -> dict[DefectType, Floats | None]:
        """The maps of the tokens that were written, each from the last state of the step that wrote it.

        The first step reads the whole prompt; it is left out, as the model's own code does.

        Returns:
            (H, W) each, 0..1; None where the answer has no such token, or the model gave no numbers.
        """
        places = {
            kind: (written[1:] == getattr(self._model.config, token)).nonzero().flatten().tolist()
            for kind, token in _TOKENS.items()
        }
        maps: dict[DefectType, Floats | None] = dict.fromkeys(DefectType)
        if not any(places.values()):
            return maps
        model = self._model
        last = torch.cat([step[-1] for step in states[1:]], dim=1)  # (1, written − 1, width)
        words = model.text_hidden_fcs[0](last)[0]
        grid = inputs["image_grid_thw"]
        features = model.image_hidden_fcs[0](model.visual(inputs["pixel_values"], grid_thw=grid).unsqueeze(0))
        height, width = _merged(grid, features.shape[1])
        embedded = features.transpose(1, 2).reshape(1, -1, height, width)
        for kind, steps in places.items():
            if steps:
                sparse, dense = model.prompt_encoder(
                    points=None, boxes=None, masks=None, text_embeds=words[steps[0]][None, None]
                )
                low = model.heatmap(
                    image_embeddings=embedded,
                    image_pe=model.prompt_encoder.get_dense_pe(),
                    sparse_prompt_embeddings=sparse.to(embedded.dtype),
                    dense_prompt_embeddings=dense,
                    multimask_output=False,
                )
                maps[kind] = finite_map(model.sigmoid(low)[0, 0].float().cpu().numpy().astype(np.float64))
        return maps


def reading(answer: str, maps: dict[DefectType, Floats | None], *, threshold: float) -> HeatmapReading:
    """An answer's text and its maps as a reading.

    Args:
        answer: the text.
        maps: (H, W) each, None where the model gave none.
        threshold: a region with more heat than this counts as a defect.

    Returns:
        Defects of the maps, None where there is no map at all; scores of the answer block.
    """
    scores = scores_of(answer)
    missing = [name for name in SCORES if name not in scores]
    missing += [f"{kind} heatmap" for kind in DefectType if maps.get(kind) is None]
    known = [kind for kind in DefectType if maps.get(kind) is not None]
    defects: tuple[Defect, ...] | None = None
    if known:
        defects = tuple(defect for kind in known for defect in boxes_of(maps[kind], kind, threshold=threshold))
    return HeatmapReading(defects, maps, scores, answer, f"it gave no {', '.join(missing)}" if missing else "")


def scores_of(answer: str) -> dict[str, float]:
    """The scores in the first answer block, by our names; a score that is missing or outside 0..1 is left out."""
    block = _ANSWER.search(answer)
    scores = {}
    for name, words in SCORES.items():
        score = stated_score(block.group(1), words) if block else None
        if score is not None:
            scores[name] = score
    return scores


def stated_score(block: str, words: str) -> float | None:
    """The score behind its words in an answer block.

    Args:
        block: The block's text.
        words: What stands in front of the colon.

    Returns:
        A number of 0..1, perhaps written as a fraction of one (`0.5/1`); None where there is none, or what stands there
        goes on as another number does: `1,5`, `1%`, `1/10`, `1 out of 10`.
    """
    match = re.search(rf"{words}\s*:\s*{_SCORE}", block)
    value = float(match.group(1)) if match else math.inf
    return value if 0 <= value <= 1 else None


def regions_of(answer: str, size: tuple[int, int]) -> list[Box]:
    """The regions that the model proposed to look at.

    Args:
        answer: the text.
        size: (width, height) of the image as the model was shown it, in pixels.

    Returns:
        Boxes in thousandths, without empty ones.
    """
    boxes = []
    for match in _REGION.finditer(answer.partition("</think>")[0]):
        x0, y0, x1, y1 = (float(number) for number in match.group(1).split(","))
        if x0 < x1 <= size[0] and y0 < y1 <= size[1]:
            boxes.append(Box.from_corners(x0, y0, x1, y1, span_x=size[0], span_y=size[1]))
    return boxes


def resized(image: Image.Image) -> Image.Image:
    """RGB with an area of about 512², its shape kept, as the model's own code shows images."""
    scale = math.sqrt(AREA / (image.width * image.height))
    size = max(1, int(image.width * scale)), max(1, int(image.height * scale))
    return image.convert("RGB").resize(size, Image.Resampling.BICUBIC)


def _merged(grid: torch.Tensor, tokens: int) -> tuple[int, int]:
    """(rows, columns) of the image's tokens: the grid of patches, 2 × 2 merged (or whatever gives that many)."""
    _, height, width = (int(number) for number in grid[0].tolist())
    side = math.isqrt(height * width // tokens)
    return height // side, width // side
