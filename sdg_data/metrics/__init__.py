"""How well defects are found: the matcher, SDG-Eval, agreement of people, heatmap metrics (SPEC sections 3 and 7)."""
