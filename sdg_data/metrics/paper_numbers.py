"""Published figures (SPEC section 3): 1,151 test images, protocol `paper`, similarity Qwen/Qwen3-Embedding-0.6B.

They stand beside one's own figures for orientation. They were measured on other images: only figures of one test set,
one protocol and one similarity can be compared.
"""

IMAGES = 1_151
SIMILARITY = "Qwen/Qwen3-Embedding-0.6B"
SOURCE = "Structured Defect Grounding, arXiv 2606.06113"
METRICS = ("det_type_f1", "clean_accuracy", "box_f1@0.1", "box_f1@0.5", "description", "importance")

_ROWS: dict[str, tuple[tuple[float | None, float | None], ...]] = {
    "GPT-5.4": ((0.736, 0.654), (0.118, 0.513), (0.237, 0.457), (0.035, 0.292), (0.868, 0.837), (0.812, 0.820)),
    "Gemini 3 Pro": ((0.733, 0.696), (0.076, 0.672), (0.337, 0.464), (0.200, 0.307), (0.885, 0.891), (0.824, 0.851)),
    "SDG SFT": ((0.776, 0.636), (0.697, 0.799), (0.402, 0.499), (0.255, 0.376), (0.904, 0.893), (0.883, 0.892)),
    "SDG GRPO": ((0.772, 0.675), (0.560, 0.732), (0.404, 0.511), (0.263, 0.387), (0.904, 0.888), (0.887, 0.893)),
    "human": ((0.792, 0.712), (0.774, 0.818), (0.462, 0.563), (0.278, 0.409), (None, None), (None, None)),
}

RICHHF_SOURCE = "youweiliang/RichHF, the first author's replication of Rich Human Feedback, arXiv 2312.10240"
RICHHF_IMAGES = 955
RICHHF_HEATMAPS: dict[str, dict[str, float]] = {
    "artifact": {"mse": 0.00724, "mse_clean": 0.00078, "cc": 0.525, "kld": 1.649, "sim": 0.339, "nss": 2.029,
                 "auc_judd": 0.905},
    "misalignment": {"mse": 0.00324, "mse_clean": 0.00035, "cc": 0.232, "kld": 2.848, "sim": 0.104, "nss": 1.256,
                     "auc_judd": 0.797},
}  # fmt: skip
"""On the test images of RichHF-18K, at 384 × 384; its implausibility stands under artifact."""
RICHHF_SCORES: dict[str, dict[str, float]] = {
    "plausibility": {"plcc": 0.739, "srcc": 0.726},
    "aesthetics": {"plcc": 0.629, "srcc": 0.621},
    "semantic_alignment": {"plcc": 0.565, "srcc": 0.564},
    "overall": {"plcc": 0.642, "srcc": 0.634},
}


def published() -> dict[str, dict[str, dict[str, float | None]]]:
    """model -> metric (`METRICS`) -> {artifact, misalignment}."""
    return {
        model: {
            metric: {"artifact": artifact, "misalignment": misalignment}
            for metric, (artifact, misalignment) in zip(METRICS, row, strict=True)
        }
        for model, row in _ROWS.items()
    }
