"""In a fresh process: a pipeline's image with an exported adapter. Arguments: pipeline, adapter, image file, class."""

import sys

import numpy as np
import torch
from diffusers import DiffusionPipeline


def main() -> None:
    folder, adapter, image, kind = sys.argv[1:]
    torch.set_num_threads(1)
    # what a pipeline was built without is not saved, and has to be left out again
    without = {"text_encoder_3": None, "tokenizer_3": None} if "StableDiffusion3" in kind else {}
    pipeline = DiffusionPipeline.from_pretrained(folder, **without)
    if adapter != "none":
        if hasattr(pipeline, "load_lora_weights"):
            pipeline.load_lora_weights(adapter)
        else:
            pipeline.transformer.load_lora_adapter(adapter, weight_name="pytorch_lora_weights.safetensors")
    made = pipeline(
        prompt="a red circle at the left",
        height=32,
        width=48,
        num_inference_steps=3,
        generator=torch.Generator().manual_seed(5),
        output_type="np",
    ).images
    np.save(image, made)


if __name__ == "__main__":
    main()
