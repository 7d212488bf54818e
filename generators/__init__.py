"""Text-to-image: one thin adapter per model, presets, and the stage that turns prompts into stored images."""
