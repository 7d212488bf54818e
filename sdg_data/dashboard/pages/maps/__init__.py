"""Map: every image as a point, alike ones near each other; what is drawn around becomes a choice in Browse."""
