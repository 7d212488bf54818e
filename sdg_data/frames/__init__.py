"""A store in a notebook: tables as polars frames, pictures with their boxes, and lists of images for the commands."""
