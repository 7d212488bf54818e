"""What the detector's training spends beside computing: the reward, and waiting for data.

Answers/s of the reward function (parsing, matching, formulas; the embedding is replaced by a constant); its share of a
real GRPO step, both as logged and as it would be if every answer were well-formed (a random model's are not, and parse
faster or slower); and the share of a real SFT step that waits for batches. Aims: both shares < 5 %.

    python benchmarks/detector.py [--model FOLDER] [--answers 4000] [--steps 4]

Without --model a Qwen3-VL of toy size with random weights is made, on which the shares are an upper bound: a step of a
larger model takes longer, the reward does not.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from exports.files.options import ExportOptions
from exports.files.target import Target
from exports.run import run_export
from schemas.answer.parse import render_answer
from schemas.defect import Defect
from schemas.geometry import Box
from sdg_data.blobs import Blobs
from sdg_data.cli import run
from tests.annotate import tiny_vlm
from tests.exports.worlds import EVERYTHING, fill
from trainers.detector.reward import composite_rewards

AIM = 0.05
TRACE = (
    "### Step 1: Caption Understanding\nTwo shapes on a plain background, one above the other.\n"
    "### Step 2: Visual Analysis & Defect Spotting (Issue Summary)\nThe outline is broken where the shapes meet.\n"
    "### Step 3: Localization (Box-by-Box Grounding)\n- the rim of the upper shape, in contact with the lower one.\n"
)


class Constant:
    """A similarity that costs nothing."""

    name = "constant"

    def pairs(self, first: Sequence[str], second: Sequence[str]) -> NDArray[np.float64]:
        """0.8 for each."""
        return np.full(len(first), 0.8)


def defects(rng: random.Random) -> list[Defect]:
    """0 to 5 defects."""
    drawn = []
    for _ in range(rng.randint(0, 5)):
        x, y = rng.randint(0, 800), rng.randint(0, 800)
        box = Box(x0=x, y0=y, x1=x + rng.randint(20, 200), y1=y + rng.randint(20, 200))
        kind = rng.choice(["artifact", "misalignment"])
        words = " ".join(rng.choices(["the", "left", "hand", "has", "six", "fingers", "broken", "rim"], k=25))
        drawn.append(Defect(box=box, type=kind, reason=words, importance=rng.randint(1, 100)))
    return drawn


def answers_per_second(count: int) -> float:
    """Of well-formed answers, in batches of 128 as a step has them; the median of three rounds."""
    rng = random.Random(0)
    texts = [render_answer(defects(rng), TRACE) for _ in range(count)]
    truths = [defects(rng) for _ in range(count)]
    rates = []
    for _ in range(3):
        start = time.perf_counter()
        for at in range(0, count, 128):
            composite_rewards(texts[at : at + 128], truths[at : at + 128], Constant())
        rates.append(count / (time.perf_counter() - start))
    return sorted(rates)[1]


def train(
    kind: str, shards: Path, model: str, out: Path, steps: int, changes: dict[str, object]
) -> list[dict[str, float]]:
    """A real run; its logged steps but the first, which warms up."""
    settings: dict[str, object] = {"held_out": 0, "log_every": 1, "save_every": 1000, "eval_every": 1000, **changes}
    arguments = ["train", "detector", kind, "--data", str(shards), "--model", model, "--out", str(out), "--no-trace"]
    arguments += ["--max-steps", str(steps + 1), "--report", "none"]
    for name, value in settings.items():
        arguments += ["--set", f"{name}={value}"]
    if run(arguments) != 0:
        raise SystemExit(f"the {kind} run failed")
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if "data_wait_share" in line and line["step"] > 1]


def mean(lines: list[dict[str, float]], name: str) -> float:
    """Over steps."""
    return sum(line.get(name, 0.0) for line in lines) / len(lines)


def main() -> None:
    """Print the figures; exit code 1 where an aim is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--answers", type=int, default=4000)
    parser.add_argument("--steps", type=int, default=4)
    asked = parser.parse_args()
    rate = answers_per_second(asked.answers)
    print(f"reward: {rate:,.0f} answers/s, embedding excluded")
    with tempfile.TemporaryDirectory(prefix="sdg-benchmark-") as name:
        folder = Path(name)
        store, blobs = fill(folder / "home", 240), Blobs(folder / "home" / "blobs")
        shards = folder / "shards"
        run_export(
            store, blobs, Target(shards), format_name="webdataset", options=ExportOptions(phash=False), name="drawn",
            selection=EVERYTHING,
        )  # fmt: skip
        model = asked.model or str(tiny_vlm.save_qwen3(folder / "tiny"))
        grpo = train("grpo", shards, model, folder / "grpo", asked.steps, {"batch_size": 64, "max_new_tokens": 64})
        sft = train("sft", shards, model, folder / "sft", 2 * asked.steps, {"max_tokens": 4096})
    step = mean(grpo, "step_time")
    shares = {
        "reward, share of a GRPO step, as logged": mean(grpo, "reward_share"),
        "reward, share of a GRPO step, were all 64 answers well-formed": 64 / rate / step,
        "waiting for data, share of a GRPO step": mean(grpo, "data_wait_share"),
        "waiting for data, share of an SFT step": mean(sft, "data_wait_share"),
    }
    for what, share in shares.items():
        print(f"{what}: {100 * share:.2f} %{'' if share < AIM else '  MISSED'}")
    print(f"(a GRPO step of 64 answers of at most 64 tokens took {step:.2f} s)")
    sys.exit(any(share >= AIM for share in shares.values()))


if __name__ == "__main__":
    main()
