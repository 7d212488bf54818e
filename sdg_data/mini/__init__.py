"""The mini world: a drawn world of shapes, with exact defects, and an oracle that reads images of it.

It plays the part of photographs and annotators where there is no GPU and no network: `world` states
what a prompt asks for, `render` draws it, `inject` corrupts it in known ways, `oracle` reads any
64x64 image back and states its defects. Nothing here is a mock of the product; it is the product's
smallest real data source.
"""
