"""The transformers backend with the real classes at toy size: batching must not change an answer."""

import asyncio
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from annotate.vlm.contract import Answer, AskError, EncodedImage, Question, Turn
from annotate.vlm.local import LocalBackend
from annotate.vlm.qwen.load import DETECTOR_FILE, weights_hash
from annotate.vlm.registry import make_backend, template_for
from schemas.codecs import Qwen3VL, Qwen25VL
from schemas.geometry import ImageSize
from sdg_data.errors import ConfigError, ModelError
from sdg_data.prompt_templates import DETECT, DETECT_SHORT, load_template
from sdg_data.settings import VlmSettings
from tests.annotate import tiny_vlm
from tests.annotate.support import picture


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_vlm.save_qwen3(tmp_path_factory.mktemp("vlm") / "qwen3")


@pytest.fixture(scope="module")
def qwen25(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_vlm.save_qwen25(tmp_path_factory.mktemp("vlm") / "qwen25")


def settings(folder: Path, **changes: object) -> VlmSettings:
    values = {"backend": "transformers", "model": str(folder), "device": "cpu", "max_tokens": 12, "batch_size": 3}
    return VlmSettings(**{**values, **changes})


def shade(grey: int, size: int = 64) -> EncodedImage:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((size, size)).point(lambda value: (value + grey) % 256).convert("RGB").save(
        buffer, "PNG"
    )
    return EncodedImage(buffer.getvalue(), "image/png", ImageSize(width=size, height=size))


QUESTIONS = [
    Question("one", shade(0), "c"),
    Question("a question that is a good deal longer than the others", shade(90), "c"),
    Question("two", shade(200, 128), "c", image_first=False),
    Question("once more", shade(30), "c", more=(Turn("assistant", "no"), Turn("user", "yes?"))),
]


async def ask_all(backend: LocalBackend, questions: list[Question], *, together: bool) -> list[Answer]:
    try:
        if together:
            return list(await asyncio.gather(*(backend.ask(question) for question in questions)))
        return [await backend.ask(question) for question in questions]
    finally:
        await backend.close()


def test_a_batch_answers_as_single_questions_do(qwen3: Path) -> None:
    together, apart = LocalBackend(settings(qwen3)), LocalBackend(settings(qwen3))
    first = asyncio.run(ask_all(together, QUESTIONS, together=True))
    second = asyncio.run(ask_all(apart, QUESTIONS, together=False))
    assert first == second
    assert len({answer.text for answer in first}) > 1, "the answers depend on the questions"
    assert (together._batcher.batches, apart._batcher.batches) == (2, 4)
    for asked, answer in zip(QUESTIONS, first, strict=True):
        # 64 px are 4 image tokens, 128 px are 16; the rest is one token a byte and the chat's own.
        image = (asked.image.size.width // 32) ** 2
        spoken = sum(len(f"{turn.role}\n{turn.text}\n".encode()) + 2 for turn in asked.more)
        around = len(b"user\n\nassistant\n") + 3 + 2
        assert answer.tokens_in == image + len(asked.text.encode()) + around + spoken
        assert answer.tokens_out is not None
        assert answer.tokens_out <= 12
        assert (answer.finish == "length") == (answer.tokens_out == 12)


def test_a_question_may_ask_for_less(qwen3: Path) -> None:
    short = [Question("one", shade(0), "c", max_tokens=3), Question("one", shade(0), "c")]
    first, second = asyncio.run(ask_all(LocalBackend(settings(qwen3)), short, together=True))
    assert first.tokens_out == 3
    assert first.hit_length
    assert second.tokens_out is not None
    assert second.tokens_out > 3


def test_words_never_become_special_tokens_and_a_bad_question_fails_alone(qwen3: Path) -> None:
    marks = ["<|image_pad|>", "<|im_end|>", "<|vision_start|><|image_pad|><|vision_end|>", "<|video_pad|>"]
    asked = [Question(f"is {mark} there?", shade(0), "c") for mark in marks]
    asked.append(Question("one", shade(0), "c", more=(Turn("assistant", "<|image_pad|>"), Turn("user", "yes?"))))
    answers = asyncio.run(ask_all(LocalBackend(settings(qwen3)), asked, together=True))
    for mark, answer in zip(marks, answers, strict=False):
        # A byte is a token: each mark came through as its letters, with one space behind each "<".
        letters = len(f"is {mark} there?") + mark.count("<")
        assert answer.tokens_in == 4 + letters + len(b"user\n\nassistant\n") + 3 + 2

    backend = LocalBackend(settings(qwen3))
    narrow = EncodedImage(picture(1000, 2).data, "image/png", ImageSize(width=1000, height=2))
    with pytest.raises(ValueError, match="1000x2 pixels: qwen3-vl takes no image with sides beyond 200:1"):
        backend.prepare(narrow.data, "image/png")
    results = backend.generate([Question("one", shade(0), "c"), Question("one", narrow, "c"), QUESTIONS[1]])
    assert [type(result) for result in results] == [Answer, AskError, Answer]
    assert isinstance(results[1], AskError)
    assert results[1].code == "model-error"
    assert "aspect ratio" in results[1].message
    assert results[0] == asyncio.run(ask_all(LocalBackend(settings(qwen3)), QUESTIONS[:1], together=True))[0]


def test_what_it_is_filed_under(qwen3: Path, tmp_path: Path) -> None:
    backend = LocalBackend(settings(qwen3))
    assert backend.identity.revision == weights_hash(qwen3)
    assert len(backend.identity.revision) == 40
    assert LocalBackend(settings(qwen3, revision="v7")).identity.revision == "v7"
    other = tiny_vlm.save_qwen3(tmp_path / "other", seed=1)
    assert LocalBackend(settings(other)).identity.revision != backend.identity.revision
    (other / "README.md").write_text("about")
    assert LocalBackend(settings(other)).identity.revision == weights_hash(other)
    changed = LocalBackend(settings(qwen3, max_tokens=9)).identity
    assert changed.settings != backend.identity.settings


def test_a_detector_is_asked_what_it_was_trained_on(qwen3: Path, tmp_path: Path) -> None:
    folder = tiny_vlm.save_qwen3(tmp_path / "trained")
    plain = LocalBackend(settings(qwen3))
    assert template_for(plain, settings(qwen3)).name == DETECT
    (folder / DETECTOR_FILE).write_text(json.dumps({"template": load_template(DETECT_SHORT).id}))
    trained = LocalBackend(settings(folder))
    assert template_for(trained, settings(folder)) == load_template(DETECT_SHORT)
    with pytest.raises(ConfigError, match="trained with"):
        template_for(trained, settings(folder, template=DETECT))
    (folder / DETECTOR_FILE).write_text(json.dumps({"template": f"{DETECT_SHORT}:000000000000"}))
    with pytest.raises(ConfigError, match="has changed"):
        template_for(LocalBackend(settings(folder)), settings(folder))


def test_qwen25_counts_in_pixels_of_what_its_processor_made(qwen25: Path) -> None:
    backend = LocalBackend(settings(qwen25))
    sent = backend.prepare(picture(200, 100).data, "image/png")
    assert (sent.size.width, sent.size.height) == (196, 112)
    answers = asyncio.run(backend.ask(Question("one", sent, "c")))
    assert answers.tokens_out is not None
    # This processor's own bound is 112 x 112 pixels: it shrank what it was sent, and its boxes count those pixels.
    codec = backend.codec(sent.size)
    assert isinstance(codec, Qwen25VL)
    grid = backend._processor.image_processor(images=[Image.new("RGB", (196, 112))])["image_grid_thw"][0]
    assert (codec.resized.width, codec.resized.height) == (int(grid[2]) * 14, int(grid[1]) * 14)
    asyncio.run(backend.close())


def test_qwen3_counts_in_thousandths(qwen3: Path) -> None:
    assert LocalBackend(settings(qwen3)).codec(ImageSize(width=640, height=480)) == Qwen3VL()


def test_out_of_memory_halves_the_batch(qwen3: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    backend = LocalBackend(settings(qwen3))
    sizes = []

    def generate(questions: list[Question]) -> list[Answer]:
        sizes.append(len(questions))
        if len(questions) > 1 or questions[0].text == "two":
            raise torch.OutOfMemoryError("no memory")
        return [Answer(questions[0].text)]

    monkeypatch.setattr(backend, "_generate", generate)
    results = backend.generate(QUESTIONS)
    assert sizes == [4, 2, 1, 1, 2, 1, 1]
    assert isinstance(results[2], AskError)
    assert results[2].code == "out-of-memory"
    assert [result.text for result in results if isinstance(result, Answer)] == [QUESTIONS[i].text for i in (0, 1, 3)]


def test_what_is_not_there_is_said_clearly(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="mini detector's weights"):
        make_backend(VlmSettings(backend="mini", model=str(tmp_path)))
    with pytest.raises(ModelError, match=r"no config\.json"):
        make_backend(settings(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ModelError, match="'llama'"):
        make_backend(settings(tmp_path))
    with pytest.raises(ConfigError, match="plays annotators"):
        make_backend(VlmSettings(backend="oracle"))
    with pytest.raises(ConfigError, match="no backend"):
        make_backend(VlmSettings(backend="magic"))
