"""Trainings of toy pipelines: what is learned, what is kept, and going on after a stop."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sdg_data.errors import ConfigError, InputError, ModelError
from tests.trainers.boxflow.support import PROMPTS, Brightness, darkest, pipeline_of, tiny_config, tiny_task
from trainers.boxflow.config import BoxFlowLora, changed
from trainers.boxflow.credit import compute_advantages
from trainers.boxflow.policy import add_lora
from trainers.boxflow.rollout import chunks_of, group_ids, plan_rollout, sample, step
from trainers.boxflow.trainer import BoxFlowTrainer

CLASSES = [
    "FluxPipeline",
    "StableDiffusion3Pipeline",
    "Flux2Pipeline",
    "LongCatImagePipeline",
    "ZImagePipeline",
    "SanaPipeline",
]


def entries(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def weights(trainer: BoxFlowTrainer) -> dict[str, torch.Tensor]:
    return {name: weights.detach().clone() for name, weights in trainer.named.items()}


@pytest.mark.parametrize(
    "name", ["FluxPipeline", *(pytest.param(class_, marks=pytest.mark.slow) for class_ in CLASSES[1:])]
)
@pytest.mark.parametrize("lora", [True, False])
def test_each_class_learns_from_a_ratio_of_exactly_one(name: str, lora: bool, tmp_path: Path) -> None:
    more: dict[str, Any] = {} if lora else {"lora": None, "learning_rate": 1e-4}
    trainer = BoxFlowTrainer(tiny_task(tmp_path, name, rollouts=1, **more))
    before = weights(trainer)
    figures = trainer.train()
    assert figures["ratio_off_first"] == 0.0
    assert figures["grad_norm"] > 0
    after = weights(trainer)
    # gaussian A, zero B: at the first step B alone has a gradient (and not where nothing reads a layer's output)
    moved = [key for key in before if not torch.equal(before[key], after[key])]
    assert len(moved) >= (0.45 * len(before) if lora else 1)
    assert trainer.policy.grid == trainer.policy.flow.locations(32, 48)
    assert trainer.policy.grid[0] != trainer.policy.grid[1]


@pytest.mark.parametrize("kind", ["scalar", "dense-heatmap", "scalar-boxes"])
def test_every_advantage_trains(kind: str, tmp_path: Path) -> None:
    figures = BoxFlowTrainer(tiny_task(tmp_path, rollouts=1, advantage=kind)).train()
    assert figures["ratio_off_first"] == 0.0
    assert figures["grad_norm"] > 0


@pytest.mark.parametrize("dynamics", ["dance-sde", "cps"])
def test_other_dynamics_and_rounded_trajectories(dynamics: str, tmp_path: Path) -> None:
    task = tiny_task(
        tmp_path, rollouts=1, dynamics=dynamics, noise_level=0.4, trajectory="bfloat16", checkpointing=True, passes=2
    )
    figures = BoxFlowTrainer(task).train()
    assert figures["ratio_off_first"] == 0.0
    assert figures["ratio_off"] > 0


@pytest.mark.parametrize("kind", ["scalar", "box"])
def test_what_had_an_advantage_becomes_likelier_where_it_had_it(kind: str, tmp_path: Path) -> None:
    trainer = BoxFlowTrainer(tiny_task(tmp_path, advantage=kind, passes=3, samples=8, weight_artifact=2.0))
    device = torch.device("cpu")
    chunks = list(
        sample(trainer.policy, plan_rollout(trainer.config, PROMPTS, 0), chunks_of(trainer.config, 0, 1), device)
    )
    images = [image for chunk in chunks for image in chunk.images]
    scores = asyncio.run(Brightness().score(images))
    advantages = compute_advantages(
        trainer.config,
        [score.value for score in scores],
        [(darkest(image),) for image in images],
        group_ids(trainer.config),
        trainer.policy.grid,
    )
    trainer.updater.learn(chunks, advantages)
    gain, within = 0.0, 0.0
    with torch.no_grad():
        for chunk in chunks:
            rows = slice(chunk.indices.start, chunk.indices.stop)
            for transition in chunk.transitions:
                made = step(
                    trainer.policy, transition.sample, transition.step, chunk.text, next_sample=transition.next_sample
                )
                change = made.log_prob - transition.log_prob
                local = advantages.rows(rows, packed=True).expand_as(change)
                gain += float((change * local).sum())
                centred = local - local.mean(dim=1, keepdim=True)
                within += float((change * centred).sum())
    assert gain > 0
    # between the places of one image only the boxes tell a difference
    assert within > 0 if kind == "box" else abs(within) < 1e-4


def test_a_model_that_answers_differently_the_second_time_is_noticed(tmp_path: Path) -> None:
    trainer = BoxFlowTrainer(tiny_task(tmp_path, rollouts=1))
    velocity, calls = trainer.policy.flow.velocity, iter(range(10**6))

    def drifting(*arguments: Any) -> torch.Tensor:
        answer: torch.Tensor = velocity(*arguments)
        return answer * (1 + 1e-3 * next(calls))

    trainer.policy.flow.velocity = drifting  # type: ignore[method-assign]
    with pytest.raises(ModelError, match="ratio is not 1"):
        trainer.train()


def test_an_adapter_that_fits_no_layer_is_refused() -> None:
    model = pipeline_of("FluxPipeline").transformer
    with pytest.raises(ConfigError, match="fits no layer"):
        add_lora(model, BoxFlowLora(rank=4, alpha=4, targets=("to_nothing",)))
    bound = add_lora(model, BoxFlowLora(rank=4, alpha=4, targets=("attn.to_q",)))
    # one double and one single block
    assert bound == 2
    trained = [name for name, weights in model.named_parameters() if weights.requires_grad]
    assert len([name for name in trained if "lora" in name]) == 2 * bound


@pytest.mark.parametrize("name", list(CLASSES))
def test_adapters_leave_the_last_layer_and_modulation_alone(name: str) -> None:
    model = pipeline_of(name).transformer.requires_grad_(False)
    assert add_lora(model, BoxFlowLora(rank=2, alpha=2)) >= 4
    trained = [name for name, weights in model.named_parameters() if weights.requires_grad]
    assert all(any(part.isdigit() for part in name.split(".")) for name in trained)
    assert not any("norm" in name or "embed" in name for name in trained)


@pytest.mark.parametrize("lora", [True, False])
def test_a_stopped_training_goes_on_to_the_same_weights(lora: bool, tmp_path: Path) -> None:
    more: dict[str, Any] = {"passes": 2} if lora else {"lora": None, "learning_rate": 1e-4, "warmup": 3}
    through = BoxFlowTrainer(tiny_task(tmp_path / "through", rollouts=3, **more))
    through.train()
    BoxFlowTrainer(tiny_task(tmp_path / "broken", rollouts=1, **more)).train()
    again = BoxFlowTrainer(tiny_task(tmp_path / "broken", rollouts=3, **more))
    assert again.done == 1
    again.train()
    for name, value in weights(through).items():
        assert torch.equal(value, weights(again)[name]), name
    for one, other in zip(through.ema.average, again.ema.average, strict=True):
        assert torch.equal(one, other)
    timeless = [
        [{key: value for key, value in entry.items() if not key.startswith("seconds")} for entry in entries(folder)]
        for folder in (tmp_path / "through", tmp_path / "broken")
    ]
    assert timeless[0] == timeless[1]


def test_a_folder_of_another_training_is_left_alone(tmp_path: Path) -> None:
    BoxFlowTrainer(tiny_task(tmp_path, rollouts=1)).train()
    with pytest.raises(ConfigError, match=r"config\.loss\.clip"):
        BoxFlowTrainer(tiny_task(tmp_path, rollouts=1, clip=0.2))


def test_fixed_prompts_are_scored_by_what_is_not_learned_from(tmp_path: Path) -> None:
    class Darkness(Brightness):
        async def score(self, images: Any) -> Any:
            scores = await super().score(images)
            return [type(score)(-(score.value or 0.0)) for score in scores]

    task = tiny_task(
        tmp_path,
        rollouts=2,
        sample_every=1,
        guard_prompts=3,
        sheet_prompts=2,
        held_out_reward=Darkness(),
        held_out=("a yellow star at the left", "a blue circle at the top", "a red star at the right"),
    )
    BoxFlowTrainer(task).train()
    assert all(-1 < entry["guard"] < 0 for entry in entries(tmp_path))
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == ["000000.png", "000001.png", "000002.png"]


def test_rollouts_are_drawn_by_seed_and_number_alone() -> None:
    config = tiny_config(prompts=2, sde_steps=1, window=(0, 3))
    plans = [plan_rollout(config, PROMPTS, number) for number in range(3)]
    # six places are two rounds of three prompts
    texts = [text for plan in plans for text in plan.prompts]
    assert sorted(texts[:3]) == sorted(texts[3:]) == sorted(PROMPTS)
    assert plans == [plan_rollout(config, PROMPTS, number) for number in range(3)]
    steps = {plan_rollout(config, PROMPTS, number).noisy for number in range(20)}
    assert steps == {(0,), (1,), (2,)}


def test_chunks_are_dealt_out_in_turn() -> None:
    config = tiny_config()
    assert [list(chunk) for chunk in chunks_of(config, 0, 1)] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert [list(chunk) for chunk in chunks_of(config, 1, 2)] == [[2, 3], [6, 7]]
    with pytest.raises(ConfigError, match="processes"):
        config.check_processes(3)


def test_images_do_not_depend_on_their_chunk_s_place(tmp_path: Path) -> None:
    trainer = BoxFlowTrainer(tiny_task(tmp_path, rollouts=1))
    plan = plan_rollout(trainer.config, PROMPTS, 0)
    chunks = chunks_of(trainer.config, 0, 1)
    together = list(sample(trainer.policy, plan, chunks, torch.device("cpu")))
    alone = next(sample(trainer.policy, plan, chunks[2:3], torch.device("cpu")))
    for transition, other in zip(together[2].transitions, alone.transitions, strict=True):
        assert torch.equal(transition.next_sample, other.next_sample)
        assert torch.equal(transition.log_prob, other.log_prob)
    # what a step starts from is where the last one ended, and is stored once
    assert together[0].transitions[0].next_sample is together[0].transitions[1].sample


@pytest.mark.parametrize("shared", [False, True])
def test_a_group_starts_from_the_same_noise_where_asked(shared: bool, tmp_path: Path) -> None:
    trainer = BoxFlowTrainer(tiny_task(tmp_path, shared_noise=shared, window=[0, 2], sde_steps=2))
    config = trainer.config
    [chunk] = sample(trainer.policy, plan_rollout(config, PROMPTS, 0), [range(config.total)], torch.device("cpu"))
    assert chunk.transitions[0].step == 0
    first = chunk.transitions[0]
    starts, after = (
        latents.unflatten(0, (-1, config.rollout.samples)) for latents in (first.sample, first.next_sample)
    )
    for group in starts:
        assert all(torch.equal(group[0], other) == shared for other in group[1:])
    assert not torch.equal(starts[0, 0], starts[1, 0])
    assert not torch.equal(after[0, 0], after[0, 1])  # the steps' own noise is another for each image


def test_settings_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    for name, value in [
        ("rollout.window", [2, 9]),
        ("rollout.sde_steps", 3),
        ("rollout.train_steps", 3),
        ("rollout.batch_size", 3),
        ("credit.minimum_group", 9),
        ("loss.clip", 0),
        ("credit.advantage", "boxes"),
        ("policy.lora.rank", 0),
        ("nothing", 1),
    ]:
        with pytest.raises(ConfigError, match=name.rpartition(".")[2]):
            changed(tiny_config(), {name: value})
    with pytest.raises(ConfigError, match="cps"):
        changed(tiny_config(), {"rollout.dynamics": "cps", "rollout.window": [0, 3]})
    with pytest.raises(ConfigError, match="multiples"):
        BoxFlowTrainer(tiny_task(tmp_path / "1", width=33))
    with pytest.raises(ConfigError, match="needs a detector"):
        BoxFlowTrainer(tiny_task(tmp_path / "2", detector=None))
    task = tiny_task(tmp_path / "3")
    task.prompts = ()
    with pytest.raises(InputError, match="no prompts"):
        BoxFlowTrainer(task)
