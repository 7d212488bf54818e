"""BoxFlow-GRPO as a plug-in of Flow-Factory (docs/engines.md). Importing this needs no Flow-Factory."""
