"""The mini family: four diffusers pipelines of the real classes at toy size, their recipes and weights.

``sdg minis train`` trains them from nothing on scenes of :mod:`sdg_data.mini`; the weights that ship in
``weights/`` came from the recipes in :mod:`generators.mini.recipes`.
"""
