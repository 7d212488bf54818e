"""Agreement: the human ceiling, annotators, blind against prelabelled, where people differ."""
