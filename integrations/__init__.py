"""BoxFlow on other people's engines of reinforcement learning: our pure functions behind their public interfaces."""
