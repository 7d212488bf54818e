"""The paper in miniature: six arms, paired seeds, a judge that no training saw (`make paper-mini`)."""
