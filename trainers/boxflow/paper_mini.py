"""Moved to `trainers.paper.boxflow`; this path goes in 0.3."""

import sys

from sdg_data.moved import moved

__getattr__ = moved("trainers.boxflow.paper_mini", "trainers.paper.boxflow")

if __name__ == "__main__":
    from trainers.paper.boxflow.__main__ import main

    sys.exit(main())
