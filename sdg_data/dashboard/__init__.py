"""QA dashboards: pages over a published snapshot of the store (docs/dashboards.md)."""
