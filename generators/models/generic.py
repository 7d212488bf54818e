"""Any diffusers pipeline whose call takes prompts, steps and a list of generators: by config entry only.

Where the class can be given encoded prompts, name them in the preset's `embeds` (in the order in which its
`encode_prompt` returns them): a prompt is then encoded alone and once. Without, the class encodes the prompts of a
batch together, and if it pads them to the longest of the batch, an image depends on its neighbours in the last bit.
FluxPipeline is run this way.
"""

from generators.adapter import Adapter


class GenericAdapter(Adapter):
    """The contract as it is."""
