"""BoxFlow-GRPO as a plug-in of UniRL (integrations/README.md). Importing this needs no UniRL."""
