"""The page Refine: what was edited, what came of it, and why."""
