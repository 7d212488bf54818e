"""BoxFlow-GRPO: the detector's boxes become spatial rewards for flow-matching image models (arXiv 2606.06113)."""
