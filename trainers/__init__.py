"""Training on what was exported: the defect detector and the image model that it improves."""

from sdg_data import shadowing

shadowing.require("generators", "annotate", "exports")
