"""The published ImageDoctor's decoder, stated plainly and apart from the product: its layout, its arithmetic."""

import math

import torch
from torch.nn import functional

Weights = dict[str, torch.Tensor]


def random_decoder(
    *, text: int, image: int, width: int, mlp: int, depth: int = 2, narrow: tuple[int, ...] = (24, 16),
    wide: tuple[int, ...] = (24, 16, 16, 8), channels: int = 8, seed: int = 0,
) -> Weights:  # fmt: skip
    """Random weights under the published names."""
    generator = torch.Generator().manual_seed(seed)
    made: Weights = {}

    def put(name: str, *shape: int, spread: float = 0.2) -> None:
        made[name] = torch.randn(*shape, generator=generator) * spread

    def linear(name: str, into: int, out: int) -> None:
        put(f"{name}.weight", out, into)
        put(f"{name}.bias", out)

    def norm(name: str, size: int) -> None:
        made[f"{name}.weight"] = 1 + 0.1 * torch.randn(size, generator=generator)
        put(f"{name}.bias", size)

    def attention(name: str, inner: int) -> None:
        for part in ("q", "k", "v"):
            linear(f"{name}.{part}_proj", width, inner)
        linear(f"{name}.out_proj", inner, width)

    def conv(name: str, into: int, out: int) -> None:
        put(f"{name}.weight", out, into, 3, 3)
        put(f"{name}.bias", out)

    def scale(name: str, size: int) -> None:
        made[f"{name}.scale"] = 1 + 0.1 * torch.randn(size, 1, 1, generator=generator)

    for side, into in (("text", text), ("image", image)):
        linear(f"{side}_hidden_fcs.0.0", into, into)
        linear(f"{side}_hidden_fcs.0.2", into, width)
    put("prompt_encoder.pe_layer.positional_encoding_gaussian_matrix", 2, width // 2, spread=1.0)
    put("prompt_encoder.no_mask_embed.weight", 1, width)
    put("prompt_encoder.not_a_point_embed.weight", 1, width)
    for number in range(4):
        put(f"prompt_encoder.point_embeddings.{number}.weight", 1, width)
    for place, shape in (
        ("0", (4, 1, 2, 2)),
        ("1", (4,)),
        ("3", (16, 4, 2, 2)),
        ("4", (16,)),
        ("6", (width, 16, 1, 1)),
    ):
        put(f"prompt_encoder.mask_downscaling.{place}.weight", *shape)
        put(f"prompt_encoder.mask_downscaling.{place}.bias", shape[0])
    put("heatmap.mask_tokens.weight", 1, width)
    for layer in range(depth):
        name = f"heatmap.transformer.layers.{layer}"
        attention(f"{name}.self_attn", width)
        attention(f"{name}.cross_attn_token_to_image", width // 2)
        attention(f"{name}.cross_attn_image_to_token", width // 2)
        linear(f"{name}.mlp.lin1", width, mlp)
        linear(f"{name}.mlp.lin2", mlp, width)
        for number in range(1, 5):
            norm(f"{name}.norm{number}", width)
    attention("heatmap.transformer.final_attn_token_to_image", width // 2)
    norm("heatmap.transformer.norm_final_attn", width)
    up = "heatmap.output_upscaling"
    before = width
    for number, out in enumerate(narrow):
        conv(f"{up}.conv_layers.{3 * number}", before, out)
        scale(f"{up}.conv_layers.{3 * number + 2}", out)
        before = out
    for number, out in enumerate(wide):
        put(f"{up}.deconv_layers.{number}.0.weight", before, out, 3, 3)
        put(f"{up}.deconv_layers.{number}.0.bias", out)
        scale(f"{up}.deconv_layers.{number}.1", out)
        for place in (0, 3):
            conv(f"{up}.conv_layers2.{number}.{place}", out, out)
            scale(f"{up}.conv_layers2.{number}.{place + 1}", out)
        before = out
    conv(f"{up}.last_conv1", before, channels)
    for number, (into, out) in enumerate(((width, width), (width, width), (width, channels))):
        linear(f"heatmap.output_hypernetworks_mlps.0.layers.{number}", into, out)
    return made


def heatmap(weights: Weights, state: torch.Tensor, features: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """One map: `state` (text,), `features` (rows · columns, image) -> (16 rows, 16 columns). Loops and one image."""

    def linear(name: str, values: torch.Tensor) -> torch.Tensor:
        return values @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(name: str, values: torch.Tensor) -> torch.Tensor:
        mean = values.mean(-1, keepdim=True)
        spread = ((values - mean) ** 2).mean(-1, keepdim=True)
        return (values - mean) / torch.sqrt(spread + 1e-5) * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def attention(name: str, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        q, k, v = (linear(f"{name}.{part}_proj", weights) for part, weights in (("q", query), ("k", key), ("v", value)))
        size = q.shape[1] // 8
        heads = []
        for head in range(8):
            part = slice(head * size, (head + 1) * size)
            share = torch.softmax(q[:, part] @ k[:, part].T / math.sqrt(size), dim=1)
            heads.append(share @ v[:, part])
        return linear(f"{name}.out_proj", torch.cat(heads, dim=1))

    def channels(name: str, values: torch.Tensor) -> torch.Tensor:
        return values / torch.sqrt((values**2).mean(0, keepdim=True) + 1e-8) * weights[f"{name}.scale"]

    def conv(name: str, values: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(values[None], weights[f"{name}.weight"], weights[f"{name}.bias"], padding="same")[0]

    def project(side: str, values: torch.Tensor) -> torch.Tensor:
        return linear(f"{side}_hidden_fcs.0.2", linear(f"{side}_hidden_fcs.0.0", values).relu())

    rows, columns = grid
    gaussian = weights["prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"]
    places = []
    for row in range(rows):
        for column in range(columns):
            x, y = 2 * (column + 0.5) / columns - 1, 2 * (row + 0.5) / rows - 1
            wave = 2 * math.pi * (x * gaussian[0] + y * gaussian[1])
            places.append(torch.cat([wave.sin(), wave.cos()]))
    where = torch.stack(places)
    start = torch.stack([weights["heatmap.mask_tokens.weight"][0], project("text", state)])
    image = project("image", features) + weights["prompt_encoder.no_mask_embed.weight"][0]
    queries = start
    for layer in range(sum(name.endswith("mlp.lin1.weight") for name in weights)):
        name = f"heatmap.transformer.layers.{layer}"
        if layer == 0:
            queries = attention(f"{name}.self_attn", queries, queries, queries)
        else:
            q = queries + start
            queries = queries + attention(f"{name}.self_attn", q, q, queries)
        queries = norm(f"{name}.norm1", queries)
        queries = queries + attention(f"{name}.cross_attn_token_to_image", queries + start, image + where, image)
        queries = norm(f"{name}.norm2", queries)
        queries = queries + linear(f"{name}.mlp.lin2", linear(f"{name}.mlp.lin1", queries).relu())
        queries = norm(f"{name}.norm3", queries)
        image = image + attention(f"{name}.cross_attn_image_to_token", image + where, queries + start, queries)
        image = norm(f"{name}.norm4", image)
    final = "heatmap.transformer.final_attn_token_to_image"
    queries = norm(
        "heatmap.transformer.norm_final_attn", queries + attention(final, queries + start, image + where, image)
    )
    up = "heatmap.output_upscaling"
    grown = image.T.reshape(-1, rows, columns)
    for number in range(sum(name.startswith(f"{up}.conv_layers.") and name.endswith("scale") for name in weights)):
        grown = channels(f"{up}.conv_layers.{3 * number + 2}", conv(f"{up}.conv_layers.{3 * number}", grown).relu())
    for number in range(sum(name.startswith(f"{up}.deconv_layers.") and name.endswith("scale") for name in weights)):
        name = f"{up}.deconv_layers.{number}"
        grown = functional.conv_transpose2d(
            grown[None], weights[f"{name}.0.weight"], weights[f"{name}.0.bias"], stride=2, padding=1, output_padding=1
        )[0]
        grown = channels(f"{name}.1", grown).relu()
        name = f"{up}.conv_layers2.{number}"
        refined = channels(f"{name}.1", conv(f"{name}.0", grown)).relu()
        grown = (grown + channels(f"{name}.4", conv(f"{name}.3", refined))).relu()
    grown = conv(f"{up}.last_conv1", grown).relu()
    name = "heatmap.output_hypernetworks_mlps.0.layers"
    chosen = linear(f"{name}.2", linear(f"{name}.1", linear(f"{name}.0", queries[0]).relu()).relu())
    return torch.sigmoid((chosen[:, None, None] * grown).sum(0))
