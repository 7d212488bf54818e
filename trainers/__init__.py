"""Training on what was exported: the defect detector and the image model that it improves."""
