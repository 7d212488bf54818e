"""From machine proposals to reviewed annotations: prelabel, Label Studio, review, enrichment."""
