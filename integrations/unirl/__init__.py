"""BoxFlow-GRPO as a plug-in of UniRL (docs/engines.md). Importing this needs no UniRL."""
