"""The toy detector's help: rows of variants, their batches, the heads."""

import io
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from schemas.answer.parse import parse_answer
from schemas.geometry import ImageSize
from sdg_data.errors import ConfigError, InputError
from sdg_data.mini.oracle import find_defects
from sdg_data.prompt_templates import DETECT_SHORT, load_template
from trainers.detector.batches import TrainingItem
from trainers.detector.chat import Chat
from trainers.detector.data import TrainingData, TrainingRow
from trainers.detector.mini.heads import MiniHeads
from trainers.detector.mini.help import PATCHES, WRONG, MiniCollator, with_variants
from trainers.detector.mini.language import full_form
from trainers.detector.mini.model import GRID, make_model
from trainers.detector.mini.rendered import MODEL as RENDERER
from trainers.detector.mini.scenes import COLUMNS, KINDS, samples
from trainers.detector.sft_config import MiniHelp, mini
from trainers.detector.train_config import changed

HELP = MiniHelp(variants=4, reprompted=0.5)


@dataclass
class Pictures:
    """Stands for the shards' table."""

    images: list[bytes]

    def image(self, place: int) -> bytes:
        return self.images[place]


@pytest.fixture(scope="module")
def chat(processor):
    return Chat(processor, load_template(DETECT_SHORT), "qwen3", 1024, trace=True)


def corpus(count: int, *, model: str) -> TrainingData:
    images, rows = [], []
    for place, scene in enumerate(islice(samples(21), count)):
        buffer = io.BytesIO()
        Image.fromarray(scene.pixels).save(buffer, "PNG")
        images.append(buffer.getvalue())
        defects, trace = full_form(scene.defects)
        size = ImageSize(width=64, height=64)
        rows.append(
            TrainingRow(place, f"key-{place}", f"p{place}", scene.prompt, model, size, tuple(defects), trace, 150)
        )
    return TrainingData(Pictures(images), rows, rows[:1])


def test_the_first_variant_is_the_sample_and_the_others_are_the_same_in_every_run(chat):
    data = corpus(6, model=RENDERER)
    made = with_variants(data, chat, HELP, max_tokens=1024, seed=3)
    assert len(made.train) == 24
    assert made.held_out == data.held_out
    for row, first in zip(data.train, made.train[::4], strict=True):
        assert (first.prompt, first.defects, first.trace) == (row.prompt, row.defects, row.trace)
    again = with_variants(data, chat, HELP, max_tokens=1024, seed=3)
    assert [(row.prompt, row.defects) for row in again.train] == [(row.prompt, row.defects) for row in made.train]
    other = with_variants(data, chat, HELP, max_tokens=1024, seed=4)
    assert [row.prompt for row in other.train] != [row.prompt for row in made.train]
    short = with_variants(data, chat, HELP, max_tokens=170, seed=3)
    assert max(row.tokens for row in short.train) <= 170 < max(row.tokens for row in made.train)


def test_a_training_that_keeps_all_variants_draws_those_of_before_there_was_a_share(chat):
    """The questions as the version before `mini.clean` drew them, and how many defects each has."""
    data = with_variants(corpus(2, model="x"), chat, MiniHelp(variants=5, clean=1.0), max_tokens=1024, seed=3)
    assert [(row.prompt, len(row.defects)) for row in data.train] == [
        ("a large green triangle and two yellow stars", 0),
        ("a large green triangle and two yellow stars", 0),
        ("a large green triangle and two yellow stars", 0),
        ("two yellow stars and a large orange star", 3),
        ("a large green triangle and two yellow stars on a grey background", 1),
        ("two green stars and a red triangle", 0),
        ("two green stars and two red triangles on a white background", 2),
        ("two green stars and a red triangle", 0),
        ("two green stars and a red triangle", 0),
        ("two green stars and a red triangle", 0),
    ]
    fewer = with_variants(corpus(2, model="x"), chat, MiniHelp(variants=5, clean=0.0), max_tokens=1024, seed=3)
    assert all(row.defects for row in fewer.train[1:5] + fewer.train[6:])


def test_renders_have_the_oracles_labels_and_generated_images_a_persons(chat):
    exact = with_variants(corpus(8, model=RENDERER), chat, HELP, max_tokens=1024, seed=3).train
    people = with_variants(corpus(8, model="mini-sana"), chat, HELP, max_tokens=1024, seed=3).train

    def boxes(row):
        return sorted(
            (defect.box.x0, defect.box.y0, defect.box.x1, defect.box.y1, defect.type) for defect in row.defects
        )

    def true(row):
        return sorted(
            (defect.box.x0, defect.box.y0, defect.box.x1, defect.box.y1, defect.type) for defect in row.variant.truth
        )

    assert all(boxes(row) == true(row) for number, row in enumerate(exact) if number % 4)
    differ = [boxes(row) != true(row) for number, row in enumerate(people) if number % 4 and row.variant.truth]
    assert sum(differ) > len(differ) / 2


def test_a_batch_shows_the_variants_picture_and_what_is_true_of_it(chat):
    data = with_variants(corpus(5, model=RENDERER), chat, HELP, max_tokens=1024, seed=3)
    rows = [row for row in data.train if row.variant.motion.mirrored][:4]
    items = [TrainingItem(row, data.table.image(row.place), 0) for row in rows]
    batch = MiniCollator(chat, jitter=0, seed=0)(items)
    assert batch[PATCHES].shape == (4 * GRID * GRID, COLUMNS)
    assert batch[WRONG].shape == (4, len(KINDS))
    plain = batch["pixel_values"].reshape(4, GRID * GRID, -1)
    for number, row in enumerate(rows):
        pixels = np.asarray(Image.open(io.BytesIO(data.table.image(row.place))))
        shown = row.variant.motion.picture(pixels)
        alone = chat.processor.image_processor(images=[Image.fromarray(shown)], return_tensors="pt")["pixel_values"]
        assert torch.allclose(plain[number], torch.as_tensor(alone))
        said = batch["labels"][number]
        text = chat.processor.tokenizer.decode(said[said != -100], skip_special_tokens=True)
        assert [defect.box for defect in parse_answer(text).defects] == [defect.box for defect in row.defects]
        subtypes = {str(defect.type) for defect in find_defects(shown, row.prompt)}
        kinds = {KINDS[index] for index in torch.nonzero(batch[WRONG][number])[:, 0]}
        assert bool(kinds) == bool(subtypes)


def test_the_heads_learn_from_what_the_model_has_just_seen(chat):
    model = make_model(chat.processor.tokenizer, seed=1)
    heads = MiniHeads(model)
    data = with_variants(corpus(2, model=RENDERER), chat, HELP, max_tokens=1024, seed=3)
    items = [TrainingItem(row, data.table.image(row.place), 0) for row in data.train]
    batch = MiniCollator(chat, jitter=0, seed=0)(items)
    labels = [batch.pop(name) for name in (PATCHES, WRONG)]
    optimizer = torch.optim.AdamW([*model.parameters(), *heads.parameters()], lr=2e-3)
    losses = []
    for _ in range(6):
        model(**batch)
        loss = heads.loss(batch, *labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.85 * losses[0]
    assert all(each.grad is not None for each in heads.parameters())


def test_what_is_not_of_the_mini_world_is_refused_by_name(chat):
    data = corpus(1, model="x")
    data.train[0] = replace(data.train[0], prompt="a cat")
    with pytest.raises(InputError, match="no sample of the mini world"):
        with_variants(data, chat, HELP, max_tokens=1024, seed=3)
    with pytest.raises(ConfigError, match="not an adapter"):
        changed(mini(), {"mini.variants": 3, "model.lora.rank": 4})
