"""BoxFlow-GRPO as a plug-in of Flow-Factory (integrations/README.md). Importing this needs no Flow-Factory."""
