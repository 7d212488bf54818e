"""The real pipeline classes at toy size, with random weights and tokenizers made here: no hub, a second to build.

Weights are drawn with a spread that makes pictures of many colours (the default start of these classes draws almost
grey ones), so that "an image of one colour" stays an exception worth a test.
"""

import itertools
from collections.abc import Callable
from functools import cache
from typing import Any

import diffusers
import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from generators.processors import ImageOnlyQwen2VLProcessor

CHAT_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
VISION_TOKENS = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
CHATML = (
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' }}"
    "{%- if m.content is string %}{{- m.content }}"
    "{%- else %}{%- for c in m.content %}{{- c.text }}{%- endfor %}{%- endif %}{{- '<|im_end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
MISTRAL_CHAT = (
    "{{ bos_token }}{%- for m in messages %}"
    "{%- if m.role == 'system' %}[SYSTEM_PROMPT]{%- for c in m.content %}{{ c.text }}{%- endfor %}[/SYSTEM_PROMPT]"
    "{%- else %}[INST]{%- for c in m.content %}{{ c.text }}{%- endfor %}[/INST]{%- endif %}{%- endfor %}"
)


def sentences() -> list[str]:
    """Some 150 lines of text, all that the tokenizers learn their pieces from."""
    colours, shapes = ("red", "green", "blue", "yellow"), ("circle", "square", "triangle", "star")
    places = ("left", "right", "top", "bottom")
    scenes = [f"a {c} {s} at the {p}" for c, s, p in itertools.product(colours, shapes, places)]
    system = "You are an AI that reasons about image descriptions. You give structured responses focusing on object"
    return [*scenes, system, "relationships, object attribution and actions without speculation.", "user assistant"]


@cache
def _byte_bpe(size: int = 512) -> tuple[dict[str, int], list[tuple[str, str]]]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(sentences(), trainer)
    return _vocab_and_merges(tokenizer)


def _vocab_and_merges(tokenizer: Tokenizer) -> tuple[dict[str, int], list[tuple[str, str]]]:
    import json

    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [(left, right) for left, right in model["merges"]]


def qwen_tokenizer() -> Any:
    vocab, merges = _byte_bpe()
    vocab = dict(vocab)
    special = [*CHAT_TOKENS, *VISION_TOKENS]
    for token in special:
        vocab[token] = len(vocab)
    tokenizer = transformers.Qwen2Tokenizer(
        vocab=vocab,
        merges=merges,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        additional_special_tokens=special,
    )
    tokenizer.chat_template = CHATML
    tokenizer.model_max_length = 4096
    return tokenizer


def mistral_tokenizer() -> Any:
    vocab, merges = _byte_bpe()
    vocab = dict(vocab)
    special = ["<unk>", "<s>", "</s>", "<pad>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[IMG]"]
    for token in special:
        vocab[token] = len(vocab)
    backend = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=special[4:],
        padding_side="left",
        model_max_length=512,
    )
    tokenizer.chat_template = MISTRAL_CHAT
    return tokenizer


def clip_tokenizer() -> Any:
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        end_of_word_suffix="</w>",
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences(), trainer)
    vocab, merges = _vocab_and_merges(tokenizer)
    return transformers.CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77)


def t5_tokenizer() -> Any:
    import json

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(sentences(), trainer)
    pieces = json.loads(tokenizer.to_str())["model"]["vocab"]
    return transformers.T5Tokenizer(
        vocab=[(piece, score) for piece, score in pieces], extra_ids=0, model_max_length=512
    )


def gemma_tokenizer() -> Any:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(Regex(" "), "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(sentences(), trainer)
    vocab, merges = _vocab_and_merges(tokenizer)
    return transformers.GemmaTokenizer(vocab=vocab, merges=merges, model_max_length=512)


def _vae(latent_channels: int = 4, kind: Any = None, **more: Any) -> Any:
    return (kind or diffusers.AutoencoderKL)(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        layers_per_block=1,
        latent_channels=latent_channels,
        norm_num_groups=4,
        sample_size=64,
        use_quant_conv=False,
        use_post_quant_conv=False,
        **more,
    )


def _finish(pipeline: Any) -> Any:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for component in pipeline.components.values():
            if isinstance(component, torch.nn.Module):
                component.eval()
        for name, weight in pipeline.transformer.named_parameters():
            # Also fills what the classes leave uninitialised (Z-Image's pad tokens) or zero (outputs, modulations).
            if "norm" not in name:
                weight.normal_(std=0.6 / max(1.0, weight.shape[-1] ** 0.5), generator=generator)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def flux1() -> Any:
    """FluxPipeline: CLIP and T5 encoders, a guidance-distilled transformer."""
    torch.manual_seed(0)
    clip, t5 = clip_tokenizer(), t5_tokenizer()
    text_encoder = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            vocab_size=len(clip),
            hidden_size=32,
            intermediate_size=37,
            num_hidden_layers=2,
            num_attention_heads=4,
            projection_dim=32,
            max_position_embeddings=77,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )
    text_encoder_2 = transformers.T5EncoderModel(
        transformers.T5Config(
            vocab_size=len(t5), d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4, is_encoder_decoder=False
        )
    )
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=[4, 4, 8],
        guidance_embeds=True,
    )
    return _finish(
        diffusers.FluxPipeline(
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0),
            vae=_vae(shift_factor=0.1159, scaling_factor=0.3611),
            text_encoder=text_encoder,
            tokenizer=clip,
            text_encoder_2=text_encoder_2,
            tokenizer_2=t5,
            transformer=transformer,
        )
    )


def flux2() -> Any:
    """Flux2Pipeline. The text encoder has 31 layers because the pipeline's default reads layers 10, 20 and 30."""
    torch.manual_seed(0)
    tokenizer = mistral_tokenizer()
    config = transformers.Mistral3Config(
        text_config={
            "model_type": "mistral",
            "vocab_size": len(tokenizer),
            "hidden_size": 16,
            "intermediate_size": 32,
            "max_position_embeddings": 1024,
            "num_attention_heads": 2,
            "num_hidden_layers": 31,
            "num_key_value_heads": 1,
            "head_dim": 8,
            "sliding_window": None,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 3,
        },
        vision_config={
            "model_type": "pixtral",
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "image_size": 48,
            "patch_size": 6,
            "num_channels": 3,
        },
        spatial_merge_size=1,
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
        vision_feature_layer=-1,
    )
    transformer = diffusers.Flux2Transformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=48,
        axes_dims_rope=(4, 4, 4, 4),
    )
    return _finish(
        diffusers.Flux2Pipeline(
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
            vae=_vae(kind=diffusers.AutoencoderKLFlux2),
            text_encoder=transformers.Mistral3ForConditionalGeneration(config),
            tokenizer=tokenizer,
            transformer=transformer,
        )
    )


def zimage() -> Any:
    """ZImagePipeline."""
    torch.manual_seed(0)
    tokenizer = qwen_tokenizer()
    text_encoder = transformers.Qwen3Model(
        transformers.Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            max_position_embeddings=1024,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    transformer = diffusers.ZImageTransformer2DModel(
        all_patch_size=(2,),
        all_f_patch_size=(1,),
        in_channels=4,
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[8, 4, 4],
        axes_lens=[1024, 64, 64],
    )
    return _finish(
        diffusers.ZImagePipeline(
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=_vae(shift_factor=0.1159, scaling_factor=0.3611),
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            transformer=transformer,
        )
    )


def longcat() -> Any:
    """LongCatImagePipeline, its processor without the video part (which needs torchvision)."""
    torch.manual_seed(0)
    tokenizer = qwen_tokenizer()
    number = tokenizer.convert_tokens_to_ids
    config = transformers.Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 16384,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]},
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": 16,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 112,
            "fullatt_block_indexes": [1],
        },
        image_token_id=number("<|image_pad|>"),
        video_token_id=number("<|video_pad|>"),
        vision_start_token_id=number("<|vision_start|>"),
        vision_end_token_id=number("<|vision_end|>"),
    )
    text_encoder = transformers.Qwen2_5_VLForConditionalGeneration(config)
    # The real checkpoint rewrites prompts in up to 512 tokens; a random model never ends, so it is given few.
    processor = ImageOnlyQwen2VLProcessor(
        image_processor=transformers.Qwen2VLImageProcessorPil(min_pixels=28 * 28, max_pixels=28 * 28 * 16),
        tokenizer=tokenizer,
        chat_template=CHATML,
    )
    transformer = diffusers.LongCatImageTransformer2DModel(
        patch_size=1,
        in_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=[4, 4, 8],
    )
    return _finish(
        diffusers.LongCatImagePipeline(
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0),
            vae=_vae(16, shift_factor=0.1159, scaling_factor=0.3611),
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            text_processor=processor,
            transformer=transformer,
        )
    )


def sana() -> Any:
    """SanaPipeline."""
    torch.manual_seed(0)
    tokenizer = gemma_tokenizer()
    text_encoder = transformers.Gemma2Model(
        transformers.Gemma2Config(
            vocab_size=len(tokenizer),
            head_dim=8,
            hidden_size=16,
            intermediate_size=32,
            num_attention_heads=2,
            num_hidden_layers=2,
            num_key_value_heads=1,
            max_position_embeddings=2048,
            attn_implementation="eager",
        )
    )
    blocks = ("ResBlock", "ResBlock", "EfficientViTBlock")
    vae = diffusers.AutoencoderDC(
        in_channels=3,
        latent_channels=4,
        attention_head_dim=4,
        encoder_block_types=blocks,
        decoder_block_types=blocks,
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        encoder_qkv_multiscales=((), (), (5,)),
        decoder_qkv_multiscales=((), (), (5,)),
        encoder_layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1),
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.41407,
    )
    transformer = diffusers.SanaTransformer2DModel(
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        num_attention_heads=4,
        attention_head_dim=8,
        num_cross_attention_heads=4,
        cross_attention_head_dim=8,
        cross_attention_dim=32,
        caption_channels=16,
        sample_size=16,
    )
    scheduler = diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    return _finish(
        diffusers.SanaPipeline(
            tokenizer=tokenizer, text_encoder=text_encoder, vae=vae, transformer=transformer, scheduler=scheduler
        )
    )


BUILDERS: dict[str, Callable[[], Any]] = {
    "FluxPipeline": flux1,
    "Flux2Pipeline": flux2,
    "ZImagePipeline": zimage,
    "LongCatImagePipeline": longcat,
    "SanaPipeline": sana,
}
