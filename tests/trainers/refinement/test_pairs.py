"""Pairs: only where detector and reward agree, sides balanced, and public readers and a public trainer take them."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sdg_data.blobs import Blobs
from sdg_data.cli import run
from sdg_data.metrics.refinement import read_run
from sdg_data.picture.decode import decode_image, decode_pixels
from sdg_data.store import images
from sdg_data.store.connection import Store
from sdg_data.work import LocalExecutor
from tests.trainers.refinement.world import Brightness, Painter, job, picture, stage, stored
from trainers.refinement.pairs import Pair, edit_pairs, within_prompts, write_pairs
from trainers.rewards.contract import BaseReward


def refined(home: Path, reward: BaseReward | None, colour: Callable[[Any], int] = lambda _: 255) -> tuple[Store, Blobs]:
    store, blobs, _ = stored(home, picture((4, 8), (20, 24)), picture((8, 8)), picture())
    what = job(acceptance={"min_seam": -1, "max_reward_fall": 1000})
    LocalExecutor().execute(stage(store, blobs, what, Painter(colour), reward=reward))
    return store, blobs


def pairs_of(store: Store) -> Any:
    with store.read() as tx:
        return edit_pairs(tx, read_run(tx, None))


def test_accepted_edits_whose_reward_rose_are_pairs_with_their_parents(tmp_path: Path) -> None:
    store, blobs = refined(tmp_path / "home", Brightness())
    result = pairs_of(store)
    assert len(result.pairs) == 3
    assert not result.none
    write_pairs(result.pairs, blobs, tmp_path / "out", "pick-a-pic")
    rows = pq.read_table(tmp_path / "out" / "train.parquet").to_pylist()
    assert len(rows) == 3
    for row in rows:
        pictures = [decode_pixels(row["jpg_0"]), decode_pixels(row["jpg_1"])]
        better = 0 if row["label_0"] == 1 else 1
        assert pictures[better].mean() > pictures[1 - better].mean()
        assert row["label_0"] + row["label_1"] == 1
        assert row["best_image_uid"] == row[f"image_{better}_uid"]
        assert row[f"model_{better}"] == "refine-painter"
        assert row["caption"] == "a white page"


@pytest.mark.parametrize(
    ("reward", "reason"), [(None, "no reward was measured"), (Brightness(-1), "the reward did not rise")]
)
def test_where_the_reward_does_not_agree_there_is_no_pair(
    tmp_path: Path, reward: BaseReward | None, reason: str
) -> None:
    result = pairs_of(refined(tmp_path, reward)[0])
    assert result.pairs == []
    assert dict(result.none) == {reason: 3}


def test_images_of_a_prompt_are_paired_where_both_judges_say_the_same(tmp_path: Path) -> None:
    store, _, records = stored(tmp_path, picture((4, 8), (20, 24)), picture((8, 8)), picture(), picture((0, 0)))
    ids = [record.id for record in records]
    burdens = dict(zip(ids, [0.52, 0.18, 0.0, 0.16], strict=True))
    rewards = dict(zip(ids[:3], [1.0, 3.0, 2.0], strict=True))
    with store.read() as tx:
        result = within_prompts(tx, records, burdens, rewards, margin=0.05)
    made = {(ids.index(pair.chosen.id), ids.index(pair.rejected.id)) for pair in result.pairs}
    assert made == {(1, 0), (2, 0)}
    assert dict(result.none) == {
        "detector and reward do not agree": 1,  # 2 has less burden than 1, and a lower reward
        "the burdens are too close": 1,  # 1 and 3
        "no reward was measured": 2,  # 3 with 0 and 2
    }


def test_the_better_image_stands_on_either_side_as_often(tmp_path: Path) -> None:
    _, _, (first, *_) = stored(tmp_path, picture())
    others = [first.model_copy(update={"id": f"{number:032x}"}) for number in range(400)]
    firsts = sum(Pair("c", first.prompt_id, "train", first, other, "edit").chosen_first for other in others)
    assert 160 <= firsts <= 240


def test_an_image_whose_bytes_are_gone_is_left_out_and_named(tmp_path: Path) -> None:
    store, blobs = refined(tmp_path / "home", Brightness())
    result = pairs_of(store)
    gone = result.pairs[0].chosen.blob
    next((tmp_path / "home" / "blobs").rglob(f"{gone}*")).unlink()
    counts, left_out = write_pairs(result.pairs, blobs, tmp_path / "out", "pick-a-pic")
    assert len(left_out) >= 1
    assert counts["train"] == len(result.pairs) - len(left_out)
    assert not list((tmp_path / "out").glob(".*"))


def test_diffusers_form_of_a_dpo_batch_reads_the_rows(tmp_path: Path) -> None:
    """What the training scripts of Diffusion-DPO, diffusers and MaPO do with a row, on `datasets`' own reader."""
    datasets = pytest.importorskip("datasets")
    store, blobs = refined(tmp_path / "home", Brightness())
    write_pairs(pairs_of(store).pairs, blobs, tmp_path / "out", "pick-a-pic")
    data = datasets.load_dataset(
        "parquet", data_files={"train": str(tmp_path / "out" / "train.parquet")}, cache_dir=str(tmp_path / "cache")
    )["train"]
    examples = data[:]
    batches = []
    for first, second, label in zip(examples["jpg_0"], examples["jpg_1"], examples["label_0"], strict=True):
        pair = [np.asarray(decode_image(io.BytesIO(side).getvalue()).convert("RGB")) for side in (first, second)]
        batches.append(np.concatenate(pair if label else pair[::-1], axis=2))
    stacked = np.stack(batches)
    assert stacked.shape == (3, 32, 32, 6)
    assert (stacked[..., :3].mean(axis=(1, 2, 3)) > stacked[..., 3:].mean(axis=(1, 2, 3))).all()


def test_the_command_writes_what_the_last_run_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refined(tmp_path / "home", Brightness())
    arguments = ["--home", str(tmp_path / "home"), "refine", "pairs", "-o", str(tmp_path / "out"), "--json"]
    assert run([*arguments, "--layout", "trl"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {"rows": {"train": 3}, "edits": 3, "within": 0, "none": {}, "left_out": []}
    assert run([*arguments, "--layout", "other"]) == 3
    assert run([*arguments, "--within", "oracle"]) == 3


@pytest.mark.slow
def test_trls_dpo_trainer_learns_from_the_rows_for_two_steps(tmp_path: Path, tiny: Path) -> None:
    import datasets
    import torch
    import transformers
    from trl import DPOConfig, DPOTrainer

    from annotate.vlm.qwen.processors import ImageOnlyQwen3VLProcessor

    store, blobs = refined(tmp_path / "home", Brightness())
    write_pairs(pairs_of(store).pairs, blobs, tmp_path / "out", "trl")
    data = datasets.load_dataset(
        "parquet", data_files={"train": str(tmp_path / "out" / "train.parquet")}, cache_dir=str(tmp_path / "cache")
    )["train"]
    assert isinstance(data[0]["images"][0], Image.Image)
    model = transformers.Qwen3VLForConditionalGeneration.from_pretrained(tiny)
    before = {name: value.clone() for name, value in model.named_parameters()}
    settings = DPOConfig(
        output_dir=str(tmp_path / "run"),
        max_steps=2,
        per_device_train_batch_size=1,
        learning_rate=1e-3,
        report_to=[],
        use_cpu=True,
        max_length=None,
        bf16=False,
        gradient_checkpointing=False,
        save_strategy="no",
    )
    processor = ImageOnlyQwen3VLProcessor.from_pretrained(tiny)
    trainer = DPOTrainer(model, args=settings, train_dataset=data, processing_class=processor)
    ended = trainer.train()
    assert trainer.state.global_step == 2
    assert np.isfinite(ended.training_loss)
    assert any(not torch.equal(before[name], value) for name, value in model.named_parameters())


def test_pairs_are_images_of_the_store(tmp_path: Path) -> None:
    store, _ = refined(tmp_path, Brightness())
    result = pairs_of(store)
    with store.read() as tx:
        assert len(images.by_ids(tx, [pair.chosen.id for pair in result.pairs])) == 3
