import json
import random
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from annotate.vlm.qwen.attention import batch_equal_images
from annotate.vlm.qwen.load import load_processor
from generators.mini.corpus import held_out_prompts
from sdg_data.mini.inject import Kind, sample_corrupted
from trainers.detector.mini.answer_loss import AnswerLoss
from trainers.detector.mini.base import BasePhase, BaseRecipe, BaseTraining, SceneBatcher
from trainers.detector.mini.model import GRID, make_model, save
from trainers.detector.mini.scenes import COLUMNS, KINDS, NO_MARGIN, answer, describe, samples

TINY = BaseRecipe(
    phases=(
        BasePhase("see", False, 2, 4, 1e-3, 1e-3),
        BasePhase("speak", True, 5, 4, 1e-3, 1e-3),
    ),
    warped=6,
)


def test_positions_are_those_that_the_class_computes(processor):
    batcher = SceneBatcher(processor, TINY)
    model = make_model(processor.tokenizer, seed=1)
    ids, _ = batcher.text(list(islice(samples(3), 5)))
    expected, _ = model.model.get_rope_index(
        ids, (ids == batcher.image_token).int(), image_grid_thw=torch.tensor([[1, GRID, GRID]] * 5)
    )
    assert torch.equal(batcher.positions(ids), expected)


def test_a_training_row_is_what_inference_feeds_the_model(processor):
    batcher = SceneBatcher(processor, TINY)
    sample = next(samples(8))
    ids, labels = batcher.text([sample])
    asked = [{"role": "user", "content": [{"type": "text", "text": sample.prompt}, {"type": "image"}]}]
    text = processor.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    fed = processor(text=[text], images=[Image.fromarray(sample.pixels)], return_tensors="pt")
    length = fed["input_ids"].shape[1]
    assert torch.equal(ids[:, :length], fed["input_ids"])
    assert (labels[0, :length] == -100).all()
    assert processor.tokenizer.decode(labels[0, length:]) == answer(sample.defects) + "<|im_end|>"
    assert torch.allclose(batcher.pixels([sample]), fed["pixel_values"])


def test_equal_images_attend_at_once_as_one_by_one(processor):
    model = make_model(processor.tokenizer, seed=2).eval()
    shapes = {"equal": [[1, 8, 8]] * 3, "unequal": [[1, 8, 8], [1, 8, 4]]}
    for grid in shapes.values():
        pixels = torch.randn(sum(h * w for _, h, w in grid), 3 * 2 * 64, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            plain = model.model.visual(pixels, grid_thw=torch.tensor(grid)).pooler_output
            batched = batch_equal_images(model).model.visual(pixels, grid_thw=torch.tensor(grid)).pooler_output
        assert torch.allclose(plain, batched, atol=1e-5)


def test_patches_say_what_stands_in_them():
    rng = random.Random(5)
    for _ in range(40):
        corrupted = sample_corrupted(rng, most=1)
        patches = describe(corrupted.drawn, corrupted.defects, corrupted.kinds).reshape(GRID, GRID, COLUMNS)
        for shape in corrupted.drawn:
            row, column = int(shape.y // 8), int(shape.x // 8)
            assert patches[row, column, 0] == 1
        kind = KINDS.index(corrupted.kinds[0]) + 1
        covered = set(patches[..., 3].ravel().tolist())
        if corrupted.kinds[0] in (Kind.MISSING, Kind.BACKGROUND):
            assert covered == {0}
        else:
            assert covered <= {0, kind}
            x, y = corrupted.defects[0].box.centre
            assert patches[min(7, int(y * 8 / 1000)), min(7, int(x * 8 / 1000)), 3] == kind


def test_no_training_prompt_is_one_on_which_detectors_are_judged():
    held_out = set(held_out_prompts(2000))
    drawn = list(islice(samples(1), 300))
    assert not held_out & {sample.prompt for sample in drawn}
    clean = sum(not sample.defects for sample in drawn) / len(drawn)
    assert 0.15 < clean < 0.35


def test_neighbouring_numbers_look_alike(processor):
    model = make_model(processor.tokenizer, seed=1)
    embedding = model.model.language_model.embed_tokens.weight.detach()
    token = processor.tokenizer.convert_tokens_to_ids
    rows = torch.stack([embedding[token(str(number))] for number in (500, 504, 900)])
    near, far = (rows[0] - rows[1]).norm(), (rows[0] - rows[2]).norm()
    assert near < 0.5 * far


@pytest.mark.slow
def test_a_killed_training_ends_as_an_unbroken_one(tmp_path, monkeypatch):
    monkeypatch.setattr("trainers.detector.mini.base.SAVE_EVERY", 1)
    whole = BaseTraining(TINY, tmp_path / "whole").run().state_dict()
    first = BaseTraining(TINY, tmp_path / "broken")
    steps = iter(range(4))
    lost = first.loss

    def dies(*args):
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return lost(*args)

    monkeypatch.setattr(first, "loss", dies)
    with pytest.raises(KeyboardInterrupt):
        first.run()
    resumed = BaseTraining(TINY, tmp_path / "broken").run().state_dict()
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_samples_are_rendered_scenes_and_questions_about_warped_pictures(processor):
    batcher = SceneBatcher(processor, replace(TINY, warped_share=0.5))
    phase = BasePhase("see", False, 2, 40, 1e-3, 1e-3)
    drawn = [sample for step in range(4) for sample in batcher.of_step(phase, 0, step)]
    warped = [sample for sample in drawn if (sample.patches[:, 8] != NO_MARGIN).any()]  # only what is read has a margin
    assert 0.3 < len(warped) / len(drawn) < 0.7
    again = SceneBatcher(processor, replace(TINY, warped_share=0.5))
    assert [sample.prompt for sample in again.of_step(phase, 0, 2)] == [sample.prompt for sample in drawn[80:120]]


def test_a_coordinate_next_to_the_right_one_is_nearly_right_and_counts_twice(processor):
    loss = AnswerLoss(processor.tokenizer, smoothing=8.0, coordinate_weight=2.0)
    token, numbers = processor.tokenizer.convert_tokens_to_ids, 1001
    ids = torch.tensor([[token('<answer>[{"box_2d":['), token("500"), token("<|im_end|>")]])
    labels = torch.tensor([[-100, token("500"), token("<|im_end|>")]])

    def told(guess):
        """The loss of a model that is nearly sure of `guess`, and of the end after it."""
        scores = torch.zeros(1, 3, len(processor.tokenizer))
        bell = torch.exp(-0.5 * ((torch.arange(numbers) - guess) / 8.0) ** 2)
        scores[0, 0, loss.numbers] = torch.log(bell + 1e-9) + 30
        scores[0, 1, token("<|im_end|>")] = 100
        return loss(scores, ids, labels, torch.nn.Identity())

    bell = np.exp(-0.5 * ((np.arange(numbers) - 500) / 8.0) ** 2)
    share = bell / bell.sum()
    total, weight = told(500)
    assert weight.item() == 3
    assert total.item() == pytest.approx(2 * -(share * np.log(share + 1e-12)).sum(), rel=1e-3)
    assert told(500)[0] < told(504)[0] < told(540)[0]


def test_without_a_spread_the_loss_is_the_plain_one(processor):
    ids, labels = SceneBatcher(processor, TINY).text(list(islice(samples(4), 3)))
    scores = torch.randn(*ids.shape, len(processor.tokenizer), generator=torch.Generator().manual_seed(0))
    plain = AnswerLoss(processor.tokenizer, smoothing=0.0, coordinate_weight=1.0)
    total, weight = plain(scores, ids, labels, torch.nn.Identity())
    expected = torch.nn.functional.cross_entropy(scores[:, :-1].mT, labels[:, 1:], reduction="sum")
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert weight.item() == (labels[:, 1:] != -100).sum()


@pytest.mark.slow
def test_the_loss_of_an_answer_by_hand(processor):
    training = BaseTraining(replace(TINY, smoothing=1e-3, coordinate_weight=1.0), None)
    chosen = list(islice(samples(4), 3))
    ids, labels = training.batcher.text(chosen)
    hidden = torch.randn(*ids.shape, 128, generator=torch.Generator().manual_seed(0))
    total, weight = training.answer_loss(hidden, ids, labels, training.model.lm_head)
    logits = training.model.lm_head(hidden).detach().numpy().astype(np.float64)
    rows = []
    for row in range(3):
        for place in range(1, ids.shape[1]):
            if labels[row, place] != -100:
                scores = logits[row, place - 1]
                rows.append(np.log(np.exp(scores).sum()) - scores[labels[row, place]])
    assert weight.item() == len(rows)
    assert total.item() == pytest.approx(np.sum(rows), rel=1e-5)


def test_what_is_saved_loads_by_the_plain_classes(tmp_path, processor):
    from transformers import Qwen3VLForConditionalGeneration

    model = make_model(processor.tokenizer, seed=4)
    save(model, processor, tmp_path)
    loaded = Qwen3VLForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32)
    for name, value in model.state_dict().items():
        assert torch.allclose(loaded.state_dict()[name], value, atol=2e-3), name
    again = load_processor(str(tmp_path), "qwen3_vl")
    assert again.tokenizer.get_vocab() == processor.tokenizer.get_vocab()
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "qwen3_vl"
