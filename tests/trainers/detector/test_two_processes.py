"""Fine-tuning and GRPO by the files of configs/accelerate, DDP and FSDP2: two processes learn what one learns.

The files say bf16 and FSDP2 checkpoints activations; a recipe's own precision and checkpointing count where they are
its own. Full weights and adapters, killed and resumed, and what is left behind loads as any model does.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from annotate.vlm.qwen.load import load_processor
from sdg_data.preflight import sizes
from tests.annotate import tiny_vlm
from tests.trainers.detector.runs import curve
from tests.trainers.launched import SCRIPTED, SHARDING, finished, killed_at
from trainers.common import measure

pytestmark = pytest.mark.slow

STEPS = 4
ADAPTER = ("--lora", "4")
FILES = ("ddp", "fsdp2")


class Trained(NamedTuple):
    """What a training has left behind."""

    run: Path
    log: str

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """Of the model, or of the adapter."""
        adapter = self.run / "model" / "adapter_model.safetensors"
        return dict(load_file(adapter if adapter.is_file() else self.run / "model" / "model.safetensors"))

    @property
    def heard(self) -> dict[tuple[int, str], list[int]]:
        """(step, question) -> the tokens that the model itself began to say, as many as every process says."""
        said = {}
        for path in self.run.parent.glob(f"{self.run.name}.heard-*.jsonl"):
            for line in path.read_text().splitlines():
                entry = json.loads(line)
                said[entry["step"], entry["key"]] = entry["tokens"][:4]
        return said


@pytest.fixture(scope="module")
def train(detector_shards: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`train(kind, file, precision, *more)`, each once: the file of configs/accelerate, or None for one process."""
    root, done = tmp_path_factory.mktemp("two-processes"), {}

    def trained(kind: str, file: str | None, precision: str, *more: str) -> Trained:
        run = root / "-".join([kind, file or "one", precision, *(part.strip("-") for part in more)])
        if run not in done:
            arguments = command(kind, detector_shards, tiny, run, file, precision, *more)
            done[run] = trained_by(kind, file, arguments, run)
        return done[run]

    return trained


def trained_by(kind: str, file: str | None, arguments: list[str], run: Path) -> Trained:
    log = run.with_suffix(".log")
    finished(arguments, file, log, SCRIPTED if kind == "grpo" else SHARDING)
    return Trained(run, log.read_text())


@pytest.fixture(scope="module")
def wide(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Qwen3-VL-4B at its real widths with two layers, in bf16; the toy's tokenizer, with a vocabulary to fit it."""
    folder = tmp_path_factory.mktemp("wide") / "model"
    shutil.copytree(tiny, folder)
    toy = json.loads((tiny / "config.json").read_text())
    part = json.loads((sizes.FOLDER / "qwen3-vl-4b.json").read_text())["components"]["model"]
    part["config"] |= {name: value for name, value in toy.items() if name.endswith("_token_id")}
    part["config"]["text_config"]["vocab_size"] = toy["text_config"]["vocab_size"]
    torch.manual_seed(0)
    model = measure.build(part, shrunk=True, device="cpu").bfloat16()
    model.generation_config.eos_token_id = toy["text_config"]["vocab_size"] - 1
    model.save_pretrained(folder)
    yield folder
    shutil.rmtree(folder)


def command(kind: str, shards: Path, model: Path, out: Path, file: str | None, precision: str, *more: str) -> list[str]:
    """A training of four steps of eight samples or answers, one evaluation in the middle and one at the end."""
    settings = {
        "model.precision": precision, "model.checkpointing": "true", "optimizer.batch_size": 8,
        "optimizer.micro_batch": 8 if file is None else 4, "optimizer.learning_rate": 6e-4, "optimizer.warmup": 0,
        "saving.log_every": 1, "saving.save_every": 2, "saving.report": "none", "evaluation.eval_every": 2,
        "evaluation.eval_max_tokens": 8, "evaluation.pictures": 2, "data.held_out": 0.15, "data.workers": 0,
    }  # fmt: skip
    if kind == "grpo":
        settings |= {"answers.group": 4, "guard": "null", "objective.beta": 0.05}
    changes = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    return [
        "train", "detector", kind, "--recipe", "mini", "--data", str(shards), "--model", str(model), "--out", str(out),
        "--no-trace", "--max-steps", str(STEPS), *changes, *more,
    ]  # fmt: skip


def same_weights(ours: Trained, theirs: Trained, base: Path) -> None:
    """Their files have the same names, and the same numbers as far as single precision goes; and they have moved."""
    expected, found = theirs.weights, ours.weights
    assert found.keys() == expected.keys()
    before = load_file(base / "model.safetensors")
    known = [name for name in expected if "lora_A" not in name]  # an adapter's other half begins at 0
    moved = max(float((expected[name] - before.get(name, 0)).abs().max()) for name in known)
    assert 1e-3 < moved < 1e-2
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, rtol=0, atol=moved / 20, msg=lambda text, name=name: f"{name}: {text}"
        )


def alike(ours: Trained, theirs: Trained, base: Path) -> float:
    """The cosine between what two trainings have done to all weights; of an adapter to those that begin at 0."""
    before, found, expected = load_file(base / "model.safetensors"), ours.weights, theirs.weights
    products = torch.zeros(3, dtype=torch.float64)
    for name in (name for name in expected if "lora_A" not in name):
        start = before[name].float() if name in before else torch.zeros(())
        one, two = ((weights[name].float() - start).double().flatten() for weights in (found, expected))
        products += torch.stack([one @ two, one @ one, two @ two])
    return float(products[0] / (products[1] * products[2]).sqrt())


@pytest.mark.parametrize("more", [(), ADAPTER], ids=["all-weights", "adapter"])
@pytest.mark.parametrize("file", FILES)
def test_fine_tuning_learns_what_one_process_learns(train: Any, tiny: Path, file: str, more: tuple[str, ...]) -> None:
    one, two = (train("sft", each, "fp32", *more) for each in (None, file))
    for name in ("loss", "grad_norm"):
        # bf16, which the files of configs/accelerate say and the recipe does not, would be 1e-4 away
        assert curve(two.run, name) == pytest.approx(curve(one.run, name), rel=1e-5)
    same_weights(two, one, tiny)
    assert two.log.count(str(two.run / "model")) == 1, "the result is printed once"


@pytest.mark.parametrize("more", [(), ADAPTER], ids=["all-weights", "adapter"])
@pytest.mark.parametrize("file", FILES)
def test_grpo_learns_what_one_process_learns(train: Any, tiny: Path, file: str, more: tuple[str, ...]) -> None:
    one, two = (train("grpo", each, "fp32", *more) for each in (None, file))
    for name in ("reward", "reward_std", "loss", "grad_norm", "kl"):
        assert curve(two.run, name) == pytest.approx(curve(one.run, name), rel=1e-3, abs=1e-6), name
    assert min(curve(one.run, "reward_std").values()) > 0
    same_weights(two, one, tiny)
    first = {asked: tokens for asked, tokens in one.heard.items() if asked[0] == 0}
    assert first
    assert {asked: two.heard[asked] for asked in first} == first, "sharded weights say what whole ones say"


@pytest.mark.parametrize("kind", ["sft", "grpo"])
def test_qwen_2_5_with_an_output_layer_of_its_own(detector_shards: Path, tmp_path: Path, kind: str) -> None:
    """Its layers have other names, and its output layer is divided by itself: its gradient has to be added up."""
    base = tiny_vlm.save_qwen25(tmp_path / "tiny")
    one, two = (
        trained_by(kind, file, command(kind, detector_shards, base, run, file, "fp32"), run)
        for file, run in ((None, tmp_path / "one"), ("fsdp2", tmp_path / "two"))
    )
    for name in ("loss", "grad_norm"):
        assert curve(two.run, name) == pytest.approx(curve(one.run, name), rel=1e-3, abs=1e-6), name
    same_weights(two, one, base)


@pytest.mark.parametrize("kind", ["sft", "grpo"])
@pytest.mark.parametrize("file", FILES)
def test_in_half_precision_as_the_files_say(train: Any, tiny: Path, kind: str, file: str) -> None:
    """FSDP2 computes in bf16 what autocast leaves in single precision, so the numbers agree to some thousandths."""
    one, two = (train(kind, each, "bf16") for each in (None, file))
    assert curve(two.run) == pytest.approx(curve(one.run), rel=1e-2, abs=1e-2)
    assert alike(two, one, tiny) > 0.95
    assert all(value.dtype == torch.bfloat16 for value in two.weights.values())
    assert two.weights.keys() == one.weights.keys() == load_file(tiny / "model.safetensors").keys()
    folder = two.run / "model"
    processor = load_processor(str(folder), "qwen3_vl", extra="train")  # AutoProcessor wants torchvision
    model, report = AutoModelForImageTextToText.from_pretrained(folder, dtype="auto", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert model.dtype == torch.bfloat16
    assert model.lm_head.weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()
    inputs = processor.tokenizer("a red square", return_tensors="pt")
    assert model(**inputs).logits.isfinite().all()


@pytest.mark.parametrize("more", [(), ADAPTER], ids=["all-weights", "adapter"])
def test_a_killed_sharded_training_goes_on(
    train: Any, detector_shards: Path, tiny: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    unbroken = train("sft", "fsdp2", "fp32", *more)
    arguments = command("sft", detector_shards, tiny, tmp_path / "run", "fsdp2", "fp32", *more)
    killed_at(arguments, "fsdp2", 3, tmp_path / "run", tmp_path / "log")
    finished(arguments, "fsdp2", tmp_path / "log")
    assert "going on from step 2" in (tmp_path / "log").read_text()
    assert curve(tmp_path / "run") == pytest.approx(curve(unbroken.run), rel=1e-5)
    same_weights(Trained(tmp_path / "run", ""), unbroken, tiny)


@pytest.mark.parametrize("kind", ["sft", "grpo"])
def test_at_real_widths_with_two_layers(wide: Path, detector_shards: Path, tmp_path: Path, kind: str) -> None:
    """Qwen3-VL-4B's widths by FSDP2, as the file says: bf16, activations checkpointed. GRPO trains an adapter."""
    more = [*(ADAPTER if kind == "grpo" else ()), "--max-steps", "2"]
    runs = {}
    for file, micro in ((None, 4), ("fsdp2", 2)):
        settings = {"data.held_out": 0, "optimizer.batch_size": 4, "optimizer.micro_batch": micro}
        settings |= {"answers.group": 2} if kind == "grpo" else {}
        changes = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
        run = tmp_path / (file or "one")
        arguments = command(kind, detector_shards, wide, run, file, "bf16", *more, *changes)
        runs[file] = trained_by(kind, file, arguments, run)
        shutil.rmtree(run / "checkpoints")
    one, two = runs[None], runs["fsdp2"]
    assert curve(two.run) == pytest.approx(curve(one.run), rel=2e-2, abs=1e-2)
    assert two.weights.keys() == one.weights.keys()
    assert alike(two, one, wide) > 0.8
