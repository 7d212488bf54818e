"""Browse: filters, a paged grid, and one image with the boxes of every source."""
