"""How an export is written: settings in groups by what they concern, all of them one flat record in the manifest."""

from pydantic import BaseModel, ConfigDict, Field

from sdg_data.prompt_templates import DETECT


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SizeOptions(_Options):
    """Options of formats that cut their samples into several large files."""

    shard_bytes: int = Field(default=512_000_000, ge=1, description="Bytes of a tar shard, or of a Parquet's images")


class GrpoOptions(_Options):
    """Options of the rows that ms-swift's GRPO learns from."""

    axis_order: str = Field(
        default="xyxy", pattern="^(xyxy|yxyx)$", description="Of the ground truth's boxes: [x0, y0, x1, y1] or y first"
    )


class ChatOptions(_Options):
    """Options of formats whose rows are questions with answers."""

    template: str = Field(default=DETECT, description="The versioned question")
    trace: bool = Field(default=True, description="Leave the reasoning in the answers")
    system: str | None = Field(default=None, description="A system prompt")


class HeatmapOptions(_Options):
    """Options of the format that draws heatmaps."""

    heatmap_side: int = Field(default=512, ge=1, description="Cells a side of the square maps")


class PreferenceOptions(_Options):
    """Options of the format that pairs images by quality."""

    margin: float = Field(default=0.05, ge=0, le=1, description="The least difference in quality that makes a pair")


class LeakageOptions(_Options):
    """Options of the check that no image is in two splits."""

    phash: bool = Field(default=True, description="Look for near-duplicate images too, by perceptual hash")


class ExportOptions(
    LeakageOptions, PreferenceOptions, HeatmapOptions, ChatOptions, GrpoOptions, SizeOptions
):  # pydantic takes fields from the last base first: manifests keep their order
    """All of them. What a format does not use is left at its default.

    A format of another package subclasses this for settings of its own (`Format.options`).
    """
