"""What is said about an export: card, statistics, Croissant, split leakage; and its way to the Hub."""
