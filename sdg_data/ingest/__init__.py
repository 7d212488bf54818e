"""Prompts and images from outside: files read, rules applied, what was refused counted."""
