"""The mini family: four diffusers pipelines of the real classes at toy size, their recipes and weights.

`sdg minis train` trains them from nothing on scenes of `sdg_data.mini`. The weights that ship in `weights/` came from
the recipes in `generators.mini.recipes`. Parts: `corpus` renders the training images, `autoencoders`, `text` and
`training` train the three parts of a pipeline, `pipelines` puts them together, `build` runs it all, and `judging` and
`card` measure the result with the oracle and write it down.
"""
