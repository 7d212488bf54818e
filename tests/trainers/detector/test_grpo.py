"""GRPO with the real trainer and a toy model, its rollouts scripted: what is asked, rewarded, left out, learned."""

import statistics
from pathlib import Path
from typing import Any

import pytest
import torch
from trl import GRPOConfig as TrlGrpoConfig

from schemas.answer.parse import render_answer
from schemas.defect import Defect
from sdg_data.metrics.similarity import LexicalSimilarity
from sdg_data.prompt_templates import load_template
from tests.trainers.detector.runs import curve, entries, finished, killed_at
from trainers.common.config import flat_keys
from trainers.detector.chat import Chat
from trainers.detector.data import read_training_data
from trainers.detector.grpo_config import GrpoConfig, mini
from trainers.detector.grpo_trainer import DetectorGRPOTrainer, RolloutItems
from trainers.detector.loading import load_detector
from trainers.detector.reward import composite_reward
from trainers.detector.reward_logging import CompositeReward
from trainers.detector.run_folder import DetectorRunFolder
from trainers.detector.train_config import changed

pytestmark = pytest.mark.slow

BROKEN = "<answer>[</answer>"


class Scripted(DetectorGRPOTrainer):
    """Answers each question in turn with: the truth, nothing, the first defect only, a broken form."""

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self.asked = inputs
        self.said = [
            self.script(number % self.num_generations, row["ground_truth"]) for number, row in enumerate(inputs)
        ]
        self.output = super()._generate_and_score_completions(inputs)
        return self.output

    def script(self, turn: int, truth: tuple[Defect, ...]) -> str:
        answers = [render_answer(truth, None), render_answer((), None), render_answer(truth[:1], None), BROKEN]
        return answers[turn]

    def _generate_single_turn(self, prompt_ids: Any, *rest: Any, **more: Any) -> Any:
        self.prompt_ids = prompt_ids
        tokenizer = self.processing_class.tokenizer
        return [[*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for text in self.said], None


@pytest.fixture
def trainer(detector_shards: Path, tiny: Path, tmp_path: Path) -> Any:
    def make(script: Any = None, **changes: Any) -> Scripted:
        small = {"batch_size": 8, "micro_batch": 8, "group": 4, "trace": False, "beta": 0.0, "report": "none"}
        keys = flat_keys(GrpoConfig)
        flat = {**small, "guard": None, "held_out": 0.0, **changes}
        config: GrpoConfig = changed(mini(), {keys.get(name, name): value for name, value in flat.items()})
        model, processor, family = load_detector(str(tiny), config)
        chat = Chat(processor, load_template(config.data.template), family, 1024, config.data.trace)
        data = read_training_data(detector_shards, chat, max_tokens=10**6, questions_only=True)
        made = Scripted(
            items=RolloutItems(data.table, data.train, chat),
            reward=CompositeReward(LexicalSimilarity(), family=family, require_trace=False),
            config=config,
            model=model,
            args=TrlGrpoConfig(**config.grpo_arguments(str(tmp_path), 1)),
            processing_class=processor,
        )
        if script is not None:
            made.script = script  # type: ignore[method-assign]
        made.prepare_evaluation(chat, data.table, [], config, DetectorRunFolder(tmp_path))
        return made

    return make


def logged(trainer: Scripted, name: str) -> list[float]:
    return [entry[name] for entry in trainer.state.log_history if name in entry]


def test_advantages_are_the_composite_rewards_within_each_group(trainer: Any) -> None:
    training = trainer(max_steps=1)
    training.train()
    rewards = [
        composite_reward(text, row["ground_truth"], LexicalSimilarity(), require_trace=False).total
        for text, row in zip(training.said, training.asked, strict=True)
    ]
    assert rewards[3] == rewards[7] == -1
    expected = []
    for group in (rewards[:4], rewards[4:]):
        mean, spread = statistics.mean(group), statistics.stdev(group)
        expected += [(reward - mean) / (spread + 1e-4) for reward in group]
    assert training.output["advantages"].tolist() == pytest.approx(expected, rel=1e-4)
    assert logged(training, "reward") == [pytest.approx(statistics.mean(rewards))]
    assert logged(training, "format_rate") == [0.75]
    assert len({row["key"] for row in training.asked[:4]}) == len({row["key"] for row in training.asked[4:]}) == 1
    assert training.asked[0]["key"] != training.asked[4]["key"]


def test_a_rollout_asks_what_inference_asks(trainer: Any) -> None:
    """Token by token, image included: the prompt's ids are those of the processor on the chat's own text."""
    training = trainer(max_steps=1)
    training.train()
    for ids, row in zip(training.prompt_ids, training.asked, strict=True):
        number = next(index for index, found in enumerate(training.train_dataset.rows) if found.key == row["key"])
        question = training.train_dataset.rows[number]
        wanted = training.chat.processor(
            text=[training.chat.asked(question.prompt, question.size)], images=row["images"]
        )
        assert list(ids) == list(wanted["input_ids"][0])
        assert len(ids) == question.tokens


def test_the_better_answer_becomes_likelier(trainer: Any) -> None:
    """Of two well-formed answers the one that is right on the clean and on the spoiled gains on the other."""
    training = trainer(max_steps=8, learning_rate=2e-3, warmup=0.0)

    def preference() -> float:
        item = next(item for item in map(training.train_dataset.__getitem__, range(99)) if item["ground_truth"])
        good, bad = render_answer(item["ground_truth"], None), BROKEN
        return likelihood(training, item, good) - likelihood(training, item, bad)

    before = preference()
    training.train()
    assert preference() > before + 0.05


def likelihood(trainer: Scripted, item: dict[str, Any], answer: str) -> float:
    """The mean log-probability of an answer's tokens."""
    processor = trainer.chat.processor
    text = processor.apply_chat_template(item["prompt"], tokenize=False, add_generation_prompt=True)
    inputs = processor(text=[text + answer], images=item["images"], return_tensors="pt")
    count = len(processor.tokenizer(answer)["input_ids"])
    trainer.model.eval()
    with torch.no_grad():
        logits = trainer.model(**inputs).logits[0, :-1]
    targets = inputs["input_ids"][0, 1:]
    return float(logits.log_softmax(-1).gather(1, targets[:, None])[-count:].mean())


def test_groups_that_teach_nothing_leave_the_loss(trainer: Any) -> None:
    """The first group says one thing four times: equal rewards, so no part in the loss."""

    def same_first(turn: int, truth: tuple[Defect, ...], state: dict[str, int] = {"asked": 0}) -> str:  # noqa: B006
        state["asked"] += 1
        return BROKEN if state["asked"] % 8 in (1, 2, 3, 4) else [render_answer(truth, None), BROKEN][turn % 2]

    training = trainer(same_first, max_steps=1, group_filter="zero-std")
    training.train()
    mask = training.output["completion_mask"]
    assert mask[:4].sum() == 0
    assert bool((mask[4:].sum(dim=1) > 0).all())
    assert int(training.output["num_items_in_batch"]) == int(mask.sum())
    assert logged(training, "groups_left_out") == [0.5]


def command(shards: Path, model: Path, out: Path, *more: str) -> list[str]:
    settings = {
        "optimizer.batch_size": 8, "optimizer.micro_batch": 8, "answers.group": 4, "answers.max_new_tokens": 6,
        "saving.log_every": 1, "saving.save_every": 2, "saving.report": "none", "guard": "null", "data.held_out": 0.15,
        "evaluation.eval_every": 4, "evaluation.eval_max_tokens": 8, "evaluation.pictures": 0,
    }  # fmt: skip
    changes = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    return [
        "train", "detector", "grpo", "--recipe", "mini", "--data", str(shards), "--model", str(model), "--out",
        str(out), "--no-trace", "--max-steps", "6", *changes, *more,
    ]  # fmt: skip


def test_a_killed_run_samples_what_an_unbroken_one_samples(detector_shards: Path, tiny: Path, tmp_path: Path) -> None:
    """A random model earns −1 whatever it says, so the answers' lengths and entropies show what was sampled."""
    finished(command(detector_shards, tiny, tmp_path / "whole"), log=tmp_path / "whole.log")
    killed_at(command(detector_shards, tiny, tmp_path / "run"), 3, tmp_path / "run", log=tmp_path / "log")
    finished(command(detector_shards, tiny, tmp_path / "run"), log=tmp_path / "log")
    for name in ("num_tokens", "entropy", "completions/mean_length"):
        assert curve(tmp_path / "run", name) == pytest.approx(curve(tmp_path / "whole", name), rel=1e-4), name


def test_the_guard_ends_a_run_that_never_finds_the_form(detector_shards: Path, tiny: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    asked = command(detector_shards, tiny, tmp_path / "run", "--set", 'guard={"window": 2}')
    with pytest.raises(AssertionError, match="the training has collapsed: fewer than 5% of the answers"):
        finished(asked, log=log)
    assert max(entry["step"] for entry in entries(tmp_path / "run")) == 2
    assert (tmp_path / "run" / "checkpoints" / "checkpoint-2").is_dir()
    assert not (tmp_path / "run" / "model").exists()
