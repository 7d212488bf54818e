"""Simulated annotators: they answer through Label Studio's API as people would, for the demo and the tests."""
