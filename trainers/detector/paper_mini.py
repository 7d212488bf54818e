"""Moved to `trainers.paper.detector`; this path goes in 0.3."""

import sys

from sdg_data.moved import moved

__getattr__ = moved("trainers.detector.paper_mini", "trainers.paper.detector")

if __name__ == "__main__":
    from trainers.paper.detector.__main__ import main

    sys.exit(main())
