"""The mini world's rewards, weighted sums, and transformers models against their own features."""

import asyncio
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from generators.images import GeneratedImage
from sdg_data.mini.oracle import find_defects
from sdg_data.mini.render import render
from sdg_data.mini.world import parse_prompt
from tests.generators.tiny import clip_tokenizer
from trainers.rewards.contract import Score
from trainers.rewards.local_models import LocalReward
from trainers.rewards.mini import OracleDetector, OracleReward, PaletteReward
from trainers.rewards.weighted import WeightedSum

PROMPTS = ["two green triangles and a yellow star", "a large red circle", "a small blue square on a grey background"]


def scene(prompt: str, seed: int = 0) -> GeneratedImage:
    return GeneratedImage(render(parse_prompt(prompt), random.Random(seed)), prompt)


def test_the_palette_knows_amounts_of_colours_and_nothing_else() -> None:
    reward = PaletteReward()
    right = [scene(prompt) for prompt in PROMPTS]
    swapped = [GeneratedImage(right[(index + 1) % 3].pixels, image.prompt) for index, image in enumerate(right)]
    blank = GeneratedImage(np.full((64, 64, 3), 246, np.uint8), PROMPTS[0])
    mirrored = GeneratedImage(np.ascontiguousarray(right[0].pixels[:, ::-1]), PROMPTS[0])
    values = [score.value for score in asyncio.run(reward.score([*right, *swapped, blank, mirrored]))]
    assert all(value is not None and 0 <= value <= 1 for value in values)
    rights, wrongs, empty, flipped = values[:3], values[3:6], values[6], values[7]
    assert min(rights) > 0.75  # type: ignore[type-var]
    assert max(wrongs) < 0.5  # type: ignore[type-var]
    assert empty == 0.5
    assert flipped == rights[0]


def test_the_palette_counts_on_any_size() -> None:
    image = scene(PROMPTS[1])
    large = GeneratedImage(image.pixels.repeat(2, axis=0).repeat(2, axis=1), image.prompt)
    small, big = asyncio.run(PaletteReward().score([image, large]))
    assert small.value == pytest.approx(big.value)


def test_the_oracle_is_its_defects() -> None:
    images = [scene(prompt, seed) for seed, prompt in enumerate(PROMPTS)]
    spoilt = [GeneratedImage(images[1].pixels, PROMPTS[0])]
    scores = asyncio.run(OracleReward().score([*images, *spoilt]))
    detections = asyncio.run(OracleDetector().detect([*images, *spoilt]))
    for image, score, detection in zip([*images, *spoilt], scores, detections, strict=True):
        defects = find_defects(image.pixels, image.prompt)
        assert detection.defects == defects
        assert score.value == pytest.approx(-sum(defect.importance for defect in defects) / 100)
    assert scores[3].value is not None
    assert scores[3].value < -0.5


def test_noise_belongs_to_the_image() -> None:
    images = [scene(PROMPTS[1], seed) for seed in range(40)]
    plain = asyncio.run(OracleReward().score(images))
    noisy = [asyncio.run(OracleReward(0.5).score(images)) for _ in range(2)]
    assert noisy[0] == noisy[1]
    offsets = [(one.value or 0) - (other.value or 0) for one, other in zip(noisy[0], plain, strict=True)]
    assert 0.3 < float(np.std(offsets)) < 0.8
    assert abs(float(np.mean(offsets))) < 0.3


def test_what_is_not_of_the_world_is_missing() -> None:
    foreign = GeneratedImage(np.zeros((64, 64, 3), np.uint8), "a horse on the moon")
    small = GeneratedImage(np.zeros((32, 32, 3), np.uint8), PROMPTS[0])
    assert asyncio.run(PaletteReward().score([foreign]))[0].value is None
    assert asyncio.run(OracleReward().score([foreign]))[0].value is None
    assert [detection.defects for detection in asyncio.run(OracleDetector().detect([foreign, small]))] == [None, None]


class Fixed:
    def __init__(self, name: str, value: float | None) -> None:
        self.name, self._value = name, value

    async def score(self, images: list[GeneratedImage]) -> list[Score]:
        return [Score(self._value, "" if self._value is not None else "asleep")] * len(images)

    async def close(self) -> None:
        return


def test_a_sum_is_missing_where_a_part_is() -> None:
    images = [scene(PROMPTS[1])] * 2
    both = WeightedSum([(Fixed("a", 2.0), 0.5), (Fixed("b", -1.0), 3.0)])  # type: ignore[list-item]
    scores = asyncio.run(both.score(images))
    assert [score.value for score in scores] == [-2.0, -2.0]
    assert scores[0].parts == {"a": 2.0, "b": -1.0}
    holed = WeightedSum([(Fixed("a", 2.0), 0.5), (Fixed("b", None), 0.0)])  # type: ignore[list-item]
    assert asyncio.run(holed.score(images))[0] == Score(None, "b: asleep")
    with pytest.raises(ValueError, match="no rewards"):
        WeightedSum([])


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import transformers

    torch.manual_seed(0)
    tokenizer = clip_tokenizer()
    common = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}
    marks = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    text = {**common, **marks, "vocab_size": len(tokenizer), "max_position_embeddings": 77}
    vision = {**common, "image_size": 32, "patch_size": 8}
    folder = tmp_path_factory.mktemp("clip")
    model = transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
    model.save_pretrained(folder)
    images = transformers.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    transformers.CLIPProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
    return folder


def test_clip_and_pick_scores(clip: Path) -> None:
    import transformers
    from PIL import Image

    images = [scene(prompt, seed) for seed, prompt in enumerate(PROMPTS)]
    model = transformers.CLIPModel.from_pretrained(clip).eval()
    processor = transformers.CLIPProcessor.from_pretrained(clip)
    cosines = []
    with torch.no_grad():
        for image in images:
            pixels = processor(images=Image.fromarray(image.pixels), return_tensors="pt")
            words = processor(text=image.prompt, return_tensors="pt", truncation=True)
            image = model.visual_projection(model.vision_model(**pixels).pooler_output)[0]
            text = model.text_projection(model.text_model(**words).pooler_output)[0]
            cosines.append(float(image @ text / image.norm() / text.norm()))
    scale = float(model.logit_scale.detach().exp())
    clips = asyncio.run(LocalReward("clip", str(clip), batch_size=3).score(images))
    assert [score.value for score in clips] == pytest.approx([100 * max(cosine, 0) for cosine in cosines], abs=1e-3)
    picks = asyncio.run(LocalReward("pick", str(clip), processor=str(clip), batch_size=2).score(images))
    assert [score.value for score in picks] == pytest.approx([scale * cosine for cosine in cosines], abs=1e-3)
