"""Flux2Pipeline: prompts are padded to one length, and encoded ones are taken as they are."""

from generators.adapter import Adapter


class Flux2Adapter(Adapter):
    """`encode_prompt` returns (prompt_embeds, text_ids); the call makes the ids anew."""

    encode_together = True
