"""Studies: people compare images of several arms without knowing which is which, and a report says who is preferred."""
