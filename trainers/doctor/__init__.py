"""ImageDoctor (arXiv 2510.01010) as a model that is trained here: scores, heatmaps and boxes of one answer."""
