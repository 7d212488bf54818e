"""Defects edited away: masks, instructions, the acceptance test, and the stage that refines a store's images."""
