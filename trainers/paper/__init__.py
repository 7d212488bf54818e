"""The paper in miniature: every arm and seed of its two experiments, trained, judged and reported."""
