"""The paper's training of the detector in miniature: base, SFT, its ablations, GRPO (`make paper-mini-detector`)."""
