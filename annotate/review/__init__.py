"""Who gets which image, the second round, and how far people agree."""
