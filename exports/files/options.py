"""What formats there are, and how they may be written."""

from pydantic import BaseModel, ConfigDict, Field

from sdg_data.prompt_templates import DETECT

FORMATS = {
    "webdataset": "Shards of original images and JSON, with an index; what the reader and most trainers stream",
    "hf": "Parquet with an image column, for datasets.load_dataset",
    "release-jsonl": "The rows of the public SDG-30K",
    "ms-swift": "ms-swift's SFT and GRPO rows",
    "trl": "TRL's prompt and completion with images",
    "llama-factory": "LLaMA-Factory's sharegpt rows",
    "coco": "COCO detection with documented extra keys",
    "heatmaps": "Artifact and misalignment maps for heatmap methods",
    "preferences": "Pairs and rankings of one prompt's images, for DPO-style trainers",
}


class ExportOptions(BaseModel):
    """How to write; part of the manifest. What a format does not use is left at its default.

    `axis_order` is that of ms-swift's GRPO boxes. `template`: the question of chat formats. `trace`: leave the
    reasoning in the answers. `system`: a system prompt for chat formats. `heatmap_side`: of the square maps. `margin`:
    the least difference in quality that makes a preference. `phash`: look for near-duplicate images across splits.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shard_bytes: int = Field(default=512_000_000, ge=1)
    axis_order: str = Field(default="xyxy", pattern="^(xyxy|yxyx)$")
    template: str = DETECT
    trace: bool = True
    system: str | None = None
    heatmap_side: int = Field(default=512, ge=1)
    margin: float = Field(default=0.05, ge=0, le=1)
    phash: bool = True
