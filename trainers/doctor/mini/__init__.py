"""The mini world's doctor: people's scores and maps of rendered scenes, and a base made of the mini detector."""
