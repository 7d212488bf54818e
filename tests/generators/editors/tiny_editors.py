"""The editors' real pipeline classes at toy size with random weights, from the parts of `tests.generators.tiny`."""

from collections.abc import Callable
from typing import Any

import diffusers
import torch
import transformers

from tests.generators import tiny


def _spread(pipeline: Any, module: Any) -> Any:
    """Weights that make pictures of many colours, as `tiny` draws them."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for component in pipeline.components.values():
            if isinstance(component, torch.nn.Module):
                component.eval()
        for name, weight in module.named_parameters():
            if "norm" not in name:
                weight.normal_(std=0.6 / max(1.0, weight.shape[-1] ** 0.5), generator=generator)
    return pipeline


def klein_inpaint() -> Any:
    """Flux2KleinInpaintPipeline. The text encoder has 28 layers because the default reads layers 9, 18 and 27."""
    torch.manual_seed(0)
    tokenizer = tiny.qwen_tokenizer()
    encoder = transformers.Qwen3ForCausalLM(
        transformers.Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=28,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            max_position_embeddings=1024,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    base = tiny.flux2()
    transformer = diffusers.Flux2Transformer2DModel(**{**base.transformer.config, "guidance_embeds": False})
    pipeline = diffusers.Flux2KleinInpaintPipeline(
        scheduler=base.scheduler,
        vae=base.vae,
        text_encoder=encoder,
        tokenizer=tokenizer,
        transformer=transformer,
        is_distilled=True,
    )
    return _spread(pipeline, transformer)


def _flux1_parts(pipeline: Any) -> dict[str, Any]:
    return {
        name: part for name, part in pipeline.components.items() if name not in ("image_encoder", "feature_extractor")
    }


def flux_fill() -> Any:
    """FluxFillPipeline: the transformer reads latents, masked latents and the mask."""
    base = tiny.flux1()
    config = base.transformer.config
    mask = (2 ** (len(base.vae.config.block_out_channels) - 1)) ** 2 * 4
    latents = config["in_channels"]
    transformer = diffusers.FluxTransformer2DModel(
        **{**config, "in_channels": 2 * latents + mask, "out_channels": latents}
    )
    pipeline = diffusers.FluxFillPipeline(**{**_flux1_parts(base), "transformer": transformer})
    return _spread(pipeline, transformer)


def flux_kontext() -> Any:
    """FluxKontextPipeline."""
    base = tiny.flux1()
    return diffusers.FluxKontextPipeline(**_flux1_parts(base))


def zimage_inpaint() -> Any:
    """ZImageInpaintPipeline."""
    return diffusers.ZImageInpaintPipeline(**tiny.zimage().components)


def flux2_edit() -> Any:
    """Flux2Pipeline, which takes pictures too."""
    return tiny.flux2()


def longcat_edit() -> Any:
    """LongCatImageEditPipeline."""
    return diffusers.LongCatImageEditPipeline(**tiny.longcat().components)


def sdxl_inpaint() -> Any:
    """StableDiffusionXLInpaintPipeline: a UNet that reads latents, the mask and masked latents."""
    torch.manual_seed(0)
    tokenizer = tiny.clip_tokenizer()

    def config(kind: Any) -> Any:
        return kind(
            transformers.CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=16,
                intermediate_size=37,
                num_hidden_layers=2,
                num_attention_heads=2,
                projection_dim=16,
                max_position_embeddings=77,
                bos_token_id=0,
                eos_token_id=1,
                pad_token_id=1,
            )
        )

    unet = diffusers.UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        sample_size=32,
        in_channels=9,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 2),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 1),
        projection_class_embeddings_input_dim=6 * 8 + 16,
        cross_attention_dim=32,
        norm_num_groups=4,
    )
    pipeline = diffusers.StableDiffusionXLInpaintPipeline(
        vae=tiny._vae(),
        text_encoder=config(transformers.CLIPTextModel),
        text_encoder_2=config(transformers.CLIPTextModelWithProjection),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=diffusers.EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
        add_watermarker=False,
    )
    for component in pipeline.components.values():
        if isinstance(component, torch.nn.Module):
            component.eval()
    return pipeline


def _qwen(kind: Any) -> Any:
    base = tiny.longcat()
    vae = diffusers.AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 1, 2],
        num_res_blocks=1,
        temperal_downsample=[False, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    transformer = diffusers.QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(8, 4, 4),
    )
    pipeline = kind(
        scheduler=base.scheduler,
        vae=vae,
        text_encoder=base.text_encoder,
        tokenizer=base.tokenizer,
        processor=base.text_processor,
        transformer=transformer,
    )
    return _spread(pipeline, transformer)


def qwen_edit_inpaint() -> Any:
    """QwenImageEditInpaintPipeline."""
    return _qwen(diffusers.QwenImageEditInpaintPipeline)


def qwen_edit_plus() -> Any:
    """QwenImageEditPlusPipeline."""
    return _qwen(diffusers.QwenImageEditPlusPipeline)


BUILDERS: dict[str, Callable[[], Any]] = {
    "flux2-klein-inpaint": klein_inpaint,
    "flux-fill": flux_fill,
    "qwen-image-edit-inpaint": qwen_edit_inpaint,
    "z-image-inpaint": zimage_inpaint,
    "sdxl-inpaint": sdxl_inpaint,
    "qwen-image-edit": qwen_edit_plus,
    "flux-kontext": flux_kontext,
    "longcat-image-edit": longcat_edit,
    "flux2-edit": flux2_edit,
}
"""Editor -> its tiny pipeline."""
