"""Qwen-VL in this process: its processor without torchvision, and its attention."""
