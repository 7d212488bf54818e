"""`sdg train`: names what is trained, and imports it when it is called."""

from sdg_data.cli import Lazy, lazy_group
from sdg_data.console import command_group

TRAIN = {
    "detector": Lazy(
        "trainers.detector.cli:app", "The defect detector: SFT, then GRPO with the composite reward", "train"
    ),
    "mini-detector": Lazy("trainers.detector.mini.cli:app", "The mini profile's detector: corpus and base", "train"),
    "doctor": Lazy("trainers.doctor.cli:app", "ImageDoctor: scores, heatmaps and boxes of one answer", "train"),
    "mini-doctor": Lazy("trainers.doctor.mini.cli:app", "The mini world's doctor: corpus and base", "train"),
    "boxflow": Lazy("trainers.boxflow.cli:app", "An image model by BoxFlow-GRPO: defects as spatial rewards", "train"),
}
app = command_group("Train a detector on an export, and an image model by its boxes.", cls=lazy_group(TRAIN))
