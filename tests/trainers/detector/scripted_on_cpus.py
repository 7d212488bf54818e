"""`sdg`, as `sdg_on_cpus` runs it, for GRPO: the model answers greedily and is heard, then a script answers instead.

What is sampled depends on the number of processes, and random weights earn the same reward whatever they say. A script
earns the same rewards in one process and in two, so both have to learn the same. What the model says itself goes to the
file that `HEARD` names; the processes say it in different lengths, as sampled answers have.
"""

import json
import os
from pathlib import Path
from typing import Any

from schemas.answer.parse import render_answer
from sdg_data.cli import main
from sdg_data.processes import rank
from tests.trainers.sdg_on_cpus import let_cpus_shard
from trainers.detector.grpo_trainer import DetectorGRPOTrainer

TOKENS = 4
"""What the first process says to a question; the second one says twice as much."""


def let_a_script_answer() -> None:
    """Let every group of `DetectorGRPOTrainer` be answered by: the truth, nothing, the first defect, a broken form."""
    scored, generated = DetectorGRPOTrainer._generate_and_score_completions, DetectorGRPOTrainer._generate_single_turn

    def score(self: Any, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self.asked = inputs
        return scored(self, inputs)

    def generate(self: Any, *args: Any, **kwargs: Any) -> Any:
        greedy = {"do_sample": False, "max_new_tokens": TOKENS * (1 + rank())}
        self.generation_config.update(**greedy)
        self.generation_kwargs.update(greedy)
        said, _ = generated(self, *args, **kwargs)
        with Path(f"{os.environ['HEARD']}-{rank()}.jsonl").open("a", encoding="utf-8") as file:
            for row, tokens in zip(self.asked, said, strict=True):
                file.write(json.dumps({"step": self.state.global_step, "key": row["key"], "tokens": tokens}) + "\n")
        tokenizer = self.processing_class.tokenizer
        answers = [answer(number % self.num_generations, row["ground_truth"]) for number, row in enumerate(self.asked)]
        return [[*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for text in answers], None

    DetectorGRPOTrainer._generate_and_score_completions = score  # type: ignore[method-assign]
    DetectorGRPOTrainer._generate_single_turn = generate  # type: ignore[method-assign]


def answer(turn: int, truth: tuple[Any, ...]) -> str:
    return [render_answer(truth, None), render_answer((), None), render_answer(truth[:1], None), "<answer>["][turn]


if __name__ == "__main__":
    let_cpus_shard()
    let_a_script_answer()
    main()
