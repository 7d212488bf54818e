"""An image model of your own with code: a pipeline class, how it is run, and its checkpoint.

    python examples/own_generator.py --home data/demo --limit 8

All other options are those of `sdg generate run`. A model that needs no code is a table of a config file
(docs/configuration.md). This one rewrites prompts before they are drawn, which a table cannot say. Give `ImageModel` a
`flow` too, and BoxFlow-GRPO can train it: the files in generators/models/ show how.
"""

import sys

import diffusers

from generators.models.contract import ImageModel
from generators.models.presets import Preset
from generators.models.registry import MODELS
from generators.models.sana import SanaAdapter
from sdg_data import cli
from sdg_data.mini.weights import weights_folder


class PlainSanaPipeline(diffusers.SanaPipeline):
    """The class of the checkpoint; here it does nothing that SANA's does not."""


class PlainSanaAdapter(SanaAdapter):
    """Asks for a white background wherever the prompt does not name one."""

    def generate(self, prompts, seeds):  # type: ignore[no-untyped-def]
        """One image per prompt and seed, (height, width, 3) float32 in 0..1."""
        wanted = [text if "background" in text else f"{text} on a white background" for text in prompts]
        return super().generate(wanted, seeds)


PRESET = Preset(
    name="plain-sana",
    pipeline="PlainSanaPipeline",
    repository=str(weights_folder("mini-sana")),  # a folder, or a repository of the hub with its `revision`
    licence="Apache-2.0",
    dtype="float32",
    width=64,
    height=64,
    steps=20,
    guidance=2.0,
    call={"max_sequence_length": 26, "use_resolution_binning": False, "complex_human_instruction": None},
    batch_size=4,
)
MODEL = ImageModel("PlainSanaPipeline", presets=(PRESET,), adapter=PlainSanaAdapter)

if __name__ == "__main__":
    diffusers.PlainSanaPipeline = PlainSanaPipeline  # pipeline classes are looked up there
    MODELS["PlainSanaPipeline"] = "own_generator:MODEL"
    sys.exit(cli.run(["generate", "run", "--models", "plain-sana", *sys.argv[1:]]))
