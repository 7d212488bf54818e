"""The mini profile's detector: a Qwen3-VL of toy size, its base made here, the rest by the product's own commands."""
