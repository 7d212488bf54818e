"""The heatmap decoder of ImageDoctor (arXiv 2510.01010, section 3.2): from a task token's state to a map.

A task token's hidden state and the image's visual features are projected to one width. SAM's two-way transformer lets
the projected state and a learnable map token attend to the features, and back; convolutions then enlarge the features
(RichHF's predictor, arXiv 2312.10240), and the map token, through a small network, says which of their channels make
the map: heat = sigmoid(token · features).

Grids of any height and width: positions are encoded by coordinates (SAM's random Fourier features), and nothing else
depends on the shape. The submodules' names are those of the published checkpoint where they can be
(`trainers.doctor.convert`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from transformers.models.sam.configuration_sam import SamMaskDecoderConfig
from transformers.models.sam.modeling_sam import SamTwoWayTransformer

from sdg_data.errors import ConfigError

_EPSILON = 1e-8
"""Of the norms over channels; the published model's."""


@dataclass(frozen=True)
class HeadShape:
    """The sizes of the decoder; the defaults are the published model's (59 M parameters at a text width of 2,048).

    `enlarging` has the channels after each doubling of the grid: 18×18 visual tokens become 18·2⁴ = 288 cells a side.
    """

    width: int = 768
    depth: int = 2
    heads: int = 8
    mlp: int = 2048
    narrowing: tuple[int, ...] = (768, 384)
    enlarging: tuple[int, ...] = (768, 384, 384, 192)
    channels: int = 192
    task_tokens: bool = True
    """False: a learned vector for each type stands in for the task token's state (the ablation)."""

    def __post_init__(self) -> None:
        for name in ("narrowing", "enlarging"):  # JSON gives lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.width % (2 * self.heads) or self.width % 2:
            raise ConfigError(
                f"the heatmap decoder's width {self.width} is no multiple of twice its {self.heads} heads"
            )

    @property
    def scale(self) -> int:
        """Cells of a map along a side of one visual token."""
        return int(2 ** len(self.enlarging))

    @classmethod
    def mini(cls, *, task_tokens: bool = True) -> HeadShape:
        """That of the mini world: 8×8 visual tokens become 64×64 cells."""
        return cls(
            width=64, depth=2, heads=4, mlp=128, narrowing=(64,), enlarging=(48, 32, 16), channels=16,
            task_tokens=task_tokens,
        )  # fmt: skip


class ChannelNorm(nn.Module):
    """T5's norm over the channels of (N, C, h, w): no mean is taken away, and there is no bias."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Divide by the root of the channels' mean square, in float32, and scale."""
        wide = features.float()
        normed = wide * (wide.square().mean(dim=1, keepdim=True) + _EPSILON).rsqrt()
        return normed.to(features.dtype) * self.scale


class Enlarging(nn.Module):
    """Convolutions over (N, width, h, w) that double the grid again and again: (N, channels, h·scale, w·scale)."""

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        narrowing: list[nn.Module] = []
        before = shape.width
        for channels in shape.narrowing:
            narrowing += [_conv(before, channels), nn.ReLU(), ChannelNorm(channels)]
            before = channels
        self.conv_layers = nn.Sequential(*narrowing)
        self.deconv_layers, self.conv_layers2 = nn.ModuleList(), nn.ModuleList()
        for channels in shape.enlarging:
            doubling = nn.ConvTranspose2d(before, channels, kernel_size=3, stride=2, padding=1, output_padding=1)
            self.deconv_layers.append(nn.Sequential(doubling, ChannelNorm(channels), nn.ReLU()))
            self.conv_layers2.append(
                nn.Sequential(
                    _conv(channels, channels), ChannelNorm(channels), nn.ReLU(),
                    _conv(channels, channels), ChannelNorm(channels),
                )
            )  # fmt: skip
            before = channels
        self.last_conv1 = _conv(before, shape.channels)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Enlarge the features."""
        features = self.conv_layers(features)
        for double, refine in zip(self.deconv_layers, self.conv_layers2, strict=True):
            features = double(features)
            features = torch.relu(features + refine(features))
        return torch.relu(self.last_conv1(features))


class HeatmapHead(nn.Module):
    """From states of task tokens and visual features to heatmaps, in 0..1.

    Args:
        shape: Its sizes.
        text_width: Width of the language model's states.
        image_width: Width of the vision tower's merged output.
    """

    def __init__(self, shape: HeadShape, text_width: int, image_width: int) -> None:
        super().__init__()
        self.shape, width = shape, shape.width
        self.text_hidden_fcs = _projection(text_width, width)
        self.image_hidden_fcs = _projection(image_width, width)
        # The norms' ε is SAM's own code's (torch's default), not that of transformers' port.
        settings = SamMaskDecoderConfig(
            hidden_size=width,
            mlp_dim=shape.mlp,
            num_hidden_layers=shape.depth,
            num_attention_heads=shape.heads,
            layer_norm_eps=1e-5,
        )
        settings._attn_implementation = "sdpa"
        self.transformer = SamTwoWayTransformer(settings)
        self.mask_tokens = nn.Embedding(1, width)
        self.no_mask_embed = nn.Embedding(1, width)
        self.output_upscaling = Enlarging(shape)
        self.output_hypernetworks_mlps = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, shape.channels)
        )
        if not shape.task_tokens:
            self.stand_ins = nn.Embedding(2, width)
        self.register_buffer("positions", torch.randn(2, width // 2))

    def forward(self, states: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Heatmaps of one grid's images.

        Args:
            states: (N, text width), the task tokens' hidden states; (N,) numbers of types without task tokens.
            features: (N, image width, h, w), the visual features of each one's image.

        Returns:
            (N, h · scale, w · scale), 0..1.
        """
        return self.logits(states, features).float().sigmoid()

    def logits(self, states: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """The same before the sigmoid."""
        asked = self.text_hidden_fcs(states) if self.shape.task_tokens else self.stand_ins(states)
        count, _, rows, columns = features.shape
        image = self.image_hidden_fcs(features.flatten(2).transpose(1, 2)).transpose(1, 2)
        image = image.unflatten(2, (rows, columns)) + self.no_mask_embed.weight[0][:, None, None]
        tokens = torch.cat([self.mask_tokens.weight.expand(count, -1, -1), asked[:, None].to(image.dtype)], dim=1)
        queries, keys = self.transformer(
            point_embeddings=tokens[:, None],
            image_embeddings=image,
            image_positional_embeddings=self.encoded(rows, columns).to(image.dtype).expand(count, -1, -1, -1),
            attention_similarity=None,
        )
        enlarged = self.output_upscaling(keys[:, 0].transpose(1, 2).unflatten(2, (rows, columns)))
        chosen = self.output_hypernetworks_mlps(queries[:, 0, 0])
        return torch.einsum("nc,nchw->nhw", chosen, enlarged)

    def encoded(self, rows: int, columns: int) -> torch.Tensor:
        """(1, width, rows, columns): Fourier features of the cells' middles, x before y, each in −1..1."""
        device = self.positions.device
        y = (torch.arange(rows, device=device) + 0.5) / rows
        x = (torch.arange(columns, device=device) + 0.5) / columns
        places = torch.stack([x.expand(rows, -1), y[:, None].expand(-1, columns)], dim=-1) * 2 - 1
        waves = 2 * math.pi * places.to(self.positions.dtype) @ self.positions
        return torch.cat([waves.sin(), waves.cos()], dim=-1).permute(2, 0, 1)[None]


def _projection(wide: int, narrow: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, narrow))


def _conv(before: int, after: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, kernel_size=3, padding=1)
