"""Shards and files that others read: WebDataset, Hugging Face, JSONL, COCO, and the reader of them."""
