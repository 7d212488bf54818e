"""The core: where data lives, how work runs, how it is measured and looked at."""
