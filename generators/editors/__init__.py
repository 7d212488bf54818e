"""Editors: an image, a mask or references, and an instruction in; an edited image of the same size out."""
