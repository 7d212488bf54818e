"""The mini doctor's base: the mini detector with the doctor's words as tokens, task tokens, and a new decoder.

The detector sees and grounds already, as a pre-trained Qwen-VL does; it has never written a doctor's answer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import AddedToken

from annotate.vlm.qwen.load import load_model, load_processor
from annotate.vlm.qwen.processors import save_processor
from trainers.detector.loading import quieten
from trainers.detector.mini.cli import WEIGHTS
from trainers.doctor.head import HeadShape
from trainers.doctor.model import make_doctor

PHRASES: Final = (
    "I need to focus on the bounding box area. Proposed regions (xyxy): ",
    ".artifact[", ".misalignment[", "]; ", "none;",
    "<answer>Semantic Alignment score: ", ";\nMisalignment Locations: ", ";\nAesthetic score: ",
    "\nAesthetic score: ", ";\nPlausibility score: ", ";\nArtifact Locations: ", ";\nOverall Impression score: ",
    "\nOverall Impression score: ", "</answer>", "judge: ",
)  # fmt: skip
"""The parts of an answer that never vary."""
SHARES: Final = tuple(f"{number / 100:.2f}" for number in range(101))


def make_base(out: Path, *, seed: int = 0, source: Path = WEIGHTS) -> int:
    """Write the base.

    Args:
        out: Receives the model.
        seed: Of the decoder's first weights.
        source: The mini detector.

    Returns:
        How many parameters it has.
    """
    quieten()
    processor = load_processor(str(source), "qwen3_vl", extra="train")
    model = load_model(str(source), "float32", extra="train")
    add_phrases(model, processor.tokenizer)
    doctor = make_doctor(model, processor.tokenizer, HeadShape.mini(), seed=seed)
    doctor.save_pretrained(out)
    save_processor(processor, out, base=source)
    return sum(parameter.numel() for parameter in doctor.parameters())


def add_phrases(model: Any, tokenizer: Any) -> None:
    """Make tokens of the phrases, and of the scores from 0.00 to 1.00.

    A phrase starts as the mean of the tokens that it was, a score as the whole number that the detector knows for it
    (0.75 as 750): neighbours look alike already.
    """
    words = [*PHRASES, *SHARES]
    before = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in PHRASES]
    before += [[tokenizer.convert_tokens_to_ids(str(round(float(share) * 1000)))] for share in SHARES]
    tokenizer.add_tokens([AddedToken(word, special=False, normalized=False) for word in words])
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    weight = model.get_input_embeddings().weight
    with torch.no_grad():
        for word, parts in zip(words, before, strict=True):
            weight[tokenizer.convert_tokens_to_ids(word)] = weight[parts].mean(dim=0)
