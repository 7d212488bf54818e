"""What is trained, what is left out, and what a batch holds: against the samples themselves."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import BatchSampler

from annotate.vlm.qwen.load import load_processor
from exports.read.reader import ShardReader
from exports.read.shard_table import ShardTable
from schemas.answer.parse import Outcome, parse_answer
from schemas.geometry import ImageSize
from schemas.sample import Sample
from sdg_data.errors import InputError
from sdg_data.prompt_templates import DETECT, DETECT_SHORT, load_template
from trainers.detector.batches import IGNORED, EpochItems, EpochSampler, SftCollator, TrainingItem, epoch_order
from trainers.detector.chat import Chat
from trainers.detector.data import BAD_SHAPE, NO_TRACE, TOO_LONG, is_held_out, read_training_data
from trainers.detector.jitter import jitter_defects


@pytest.fixture(scope="module")
def chat(tiny: Path) -> Callable[..., Chat]:
    processor = load_processor(str(tiny), "qwen3_vl")

    def make(template: str = DETECT_SHORT, *, trace: bool = True, max_side: int = 1024) -> Chat:
        return Chat(processor, load_template(template), "qwen3-vl", max_side, trace)

    return make


def test_every_train_sample_is_trained_held_out_or_counted(detector_shards: Path, chat: Callable[..., Chat]) -> None:
    samples = {example.key: example.sample for example in ShardReader(detector_shards, split="train")}
    data = read_training_data(detector_shards, chat(), max_tokens=500, held_out=0.2)
    parts = [[row.key for row in data.train], [row.key for row in data.held_out], *data.dropped.values()]
    assert sorted(key for part in parts for key in part) == sorted(samples)
    assert {row.prompt_id for row in data.held_out}.isdisjoint(
        {row.prompt_id for row in data.train}
        | {samples[key].prompt_id for keys in data.dropped.values() for key in keys}
    )
    assert data.held_out
    assert sorted(data.dropped[NO_TRACE]) == sorted(
        key for key, sample in samples.items() if sample.trace is None and not is_held_out(sample.prompt_id, 0.2)
    )
    assert data.dropped[TOO_LONG], "500 tokens are too few for some"
    for row in data.train:
        assert (row.defects, row.trace) == (samples[row.key].plain_defects, samples[row.key].trace)
        assert row.tokens <= 500
    report = data.report()
    assert report["dropped"] == {reason: len(keys) for reason, keys in data.dropped.items()}


def test_words_never_become_special_tokens(chat: Callable[..., Chat]) -> None:
    asker = chat()
    tokenizer = asker.processor.tokenizer
    size = ImageSize(width=64, height=64)
    plain = asker.asked("a dog", size)
    for mark in ("<|image_pad|>", "<|im_end|>", "<|vision_start|><|video_pad|>", "<|endoftext|>"):
        asked, answered = asker.asked(f"a {mark} dog", size), asker.answer([], f"it says {mark}", size)
        special = [token for token in tokenizer(asked)["input_ids"] if token in tokenizer.all_special_ids]
        assert special == [token for token in tokenizer(plain)["input_ids"] if token in tokenizer.all_special_ids]
        assert not set(tokenizer(answered)["input_ids"]) & set(tokenizer.all_special_ids)


def test_an_image_that_no_qwen_takes_is_left_out_and_the_others_stay(
    detector_shards: Path, chat: Callable[..., Chat], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = read_training_data(detector_shards, chat(), max_tokens=10**6, questions_only=True)
    narrow = {row.key for row in whole.train[:3]}
    read = ShardTable.sample

    def sample(table: ShardTable, place: int) -> Sample:
        sample = read(table, place)
        return sample.model_copy(update={"width": 1000, "height": 2}) if sample.key in narrow else sample

    monkeypatch.setattr(ShardTable, "sample", sample)
    for questions_only in (True, False):
        data = read_training_data(detector_shards, chat(), max_tokens=10**6, questions_only=questions_only)
        assert set(data.dropped[BAD_SHAPE]) == narrow
        assert not narrow & {row.key for row in data.train}
    assert len(data.train) + len(narrow) + len(data.dropped[NO_TRACE]) == len(whole.train)


def test_too_long_is_what_is_longer(detector_shards: Path, chat: Callable[..., Chat]) -> None:
    everything = read_training_data(detector_shards, chat(), max_tokens=10**6)
    lengths = sorted(row.tokens for row in everything.train)
    limit = lengths[len(lengths) // 2]
    cut = read_training_data(detector_shards, chat(), max_tokens=limit)
    assert [row.key for row in cut.train] == [row.key for row in everything.train if row.tokens <= limit]
    assert cut.dropped[TOO_LONG] == [row.key for row in everything.train if row.tokens > limit]


def test_without_traces_nothing_is_left_to_train_them_on(detector_shards: Path, chat: Callable[..., Chat]) -> None:
    assert NO_TRACE not in read_training_data(detector_shards, chat(trace=False), max_tokens=10**6).dropped
    with pytest.raises(InputError, match="no sample is left to train on; too-long"):
        read_training_data(detector_shards, chat(trace=False), max_tokens=3)


def test_the_held_out_share() -> None:
    prompts = [f"prompt-{number}" for number in range(20_000)]
    first = {prompt for prompt in prompts if is_held_out(prompt, 0.1)}
    assert abs(len(first) - 2000) < 200
    assert first <= {prompt for prompt in prompts if is_held_out(prompt, 0.2)}, "a larger share keeps the smaller one"
    assert first != {prompt for prompt in prompts if is_held_out(prompt, 0.1, seed=1)}
    assert not any(is_held_out(prompt, 0.0) for prompt in prompts)


@pytest.mark.parametrize("template", [DETECT, DETECT_SHORT])
@pytest.mark.parametrize("trace", [True, False])
def test_a_batch_says_question_and_answer_and_the_loss_sees_the_answer(
    detector_shards: Path, chat: Callable[..., Chat], template: str, trace: bool
) -> None:
    asked = chat(template, trace=trace)
    data = read_training_data(detector_shards, asked, max_tokens=10**6, limit=12)
    items = EpochItems(data.table, data.train)
    batch = SftCollator(asked, jitter=0, seed=0)([items[number] for number in range(len(items))])
    tokenizer = asked.processor.tokenizer
    image = tokenizer.convert_tokens_to_ids("<|image_pad|>")
    for index, row in enumerate(data.train):
        ids, mask, labels = (batch[name][index] for name in ("input_ids", "attention_mask", "labels"))
        assert int(mask.sum()) == row.tokens, "the planned length is the real one"
        learned = labels != IGNORED
        assert torch.equal(ids[learned], labels[learned])
        words = tokenizer.decode(ids[learned])
        assert words.endswith("<|im_end|>")
        parsed = parse_answer(words.removesuffix("<|im_end|>"))
        assert parsed.outcome is Outcome.PARSED
        assert parsed.defects == row.defects
        assert parsed.trace == (row.trace if trace else None)
        question = tokenizer.decode(ids[mask.bool() & ~learned])
        assert question.endswith("<|im_end|>\n<|im_start|>assistant\n")
        assert row.prompt in question
        assert int((ids == image).sum()) == 4, "64 px are 2 × 2 merged patches"
        assert torch.equal(batch["mm_token_type_ids"][index] == 1, ids == image)
        assert torch.equal(mask.bool().cummin(0).values, mask.bool()), "padded on the right"


def test_jitter_moves_the_answer_of_every_epoch_and_nothing_else(
    detector_shards: Path, chat: Callable[..., Chat]
) -> None:
    asked = chat()
    data = read_training_data(detector_shards, asked, max_tokens=10**6)
    row = next(row for row in data.train if row.defects)
    image = data.table.image(row.place)
    collate = SftCollator(asked, jitter=10, seed=3)
    tokenizer = asked.processor.tokenizer
    said = []
    for epoch in (0, 1, 0):
        batch = collate([TrainingItem(row, image, epoch)])
        told = batch["labels"][0] != IGNORED
        parsed = parse_answer(tokenizer.decode(batch["labels"][0][told]).removesuffix("<|im_end|>"))
        assert parsed.defects == jitter_defects(row.defects, 10, seed=3, epoch=epoch, key=row.key)
        assert parsed.trace == row.trace
        said.append((parsed.defects, tokenizer.decode(batch["input_ids"][0][~told]), batch["pixel_values"]))
    assert said[0][0] == said[2][0] != said[1][0]
    assert said[0][1] == said[1][1]
    assert torch.equal(said[0][2], said[1][2])


def test_a_large_picture_is_shown_as_prelabelling_shows_it(detector_shards: Path, chat: Callable[..., Chat]) -> None:
    small = chat(max_side=32)
    data = read_training_data(detector_shards, small, max_tokens=10**6, limit=5)
    assert small.picture(data.table.image(data.train[0].place)).size == (32, 32)
    batch = SftCollator(small, jitter=0, seed=0)([EpochItems(data.table, data.train)[0]])
    assert int(batch["attention_mask"].sum()) == data.train[0].tokens
    assert batch["image_grid_thw"].tolist() == [[1, 2, 2]]


LENGTHS = [(37 * number) % 101 + 5 for number in range(1003)]


def test_an_epoch_is_whole_batches_of_like_length_in_another_order_each_time() -> None:
    orders = [epoch_order(LENGTHS, batch=16, seed=0, epoch=epoch) for epoch in range(3)]
    assert epoch_order(LENGTHS, batch=16, seed=0, epoch=1) == orders[1]
    assert epoch_order(LENGTHS, batch=16, seed=1, epoch=1) != orders[1]
    for order in orders:
        assert len(order) == len(set(order)) == 992
        batches = [[LENGTHS[index] for index in order[at : at + 16]] for at in range(0, 992, 16)]
        padding = sum(max(batch) * 16 - sum(batch) for batch in batches) / sum(map(sum, batches))
        assert padding < 0.06, "random batches of these pad by three quarters"
        assert max(batches[0]) == max(LENGTHS[index] for index in order)
    assert len({tuple(order) for order in orders}) == 3
    assert set(orders[0]) != set(orders[1]), "who is left out changes"


def test_the_sampler_says_which_epoch_it_is() -> None:
    now = [0]
    sampler = EpochSampler(LENGTHS, batch=16, seed=5, epoch=lambda: now[0])
    assert len(sampler) == 992
    for epoch in (0, 3):
        now[0] = epoch
        numbers = list(sampler)
        assert [divmod(number, len(LENGTHS)) for number in numbers] == [
            (epoch, index) for index in epoch_order(LENGTHS, batch=16, seed=5, epoch=epoch)
        ]


@pytest.mark.parametrize(("processes", "micro"), [(1, 16), (1, 4), (2, 8), (2, 4), (4, 4)])
def test_however_many_processes_a_step_sees_the_same_samples(processes: int, micro: int) -> None:
    sampler = EpochSampler(LENGTHS, batch=16, seed=5, epoch=lambda: 0)
    reference = epoch_order(LENGTHS, batch=16, seed=5, epoch=0)
    shares = [
        list(BatchSamplerShard(BatchSampler(sampler, micro, drop_last=False), processes, rank))
        for rank in range(processes)
    ]
    steps = 16 // (processes * micro)
    for step in range(992 // 16):
        seen = [index for share in shares for number in share[step * steps : (step + 1) * steps] for index in number]
        assert sorted(seen) == sorted(reference[16 * step : 16 * step + 16])
