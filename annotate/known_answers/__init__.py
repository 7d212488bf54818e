"""Known-answer items: tasks like any other whose right answer is known, so that each person's work can be measured."""
