"""ImageDoctor's ablation in miniature, and boxes against heatmaps: arms, seeds, one table."""
