"""The core: where data lives, how work runs, how it is measured and looked at."""

from sdg_data import shadowing

shadowing.require("schemas")
shadowing.warn("generators", "annotate", "exports", "trainers")
