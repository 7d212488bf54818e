"""The defect detector: SFT, GRPO with the composite reward, evaluation, publishing."""
