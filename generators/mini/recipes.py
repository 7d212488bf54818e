"""The recipes from which the shipped minis were made: every number that training needs, and nothing else.

The four differ as the four real models do: in architecture and text encoder, in size, in how long they were
trained, and in guidance. Steps, not minutes, end a training, so a recipe gives the same model on a slow machine.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AutoencoderRecipe:
    """How one autoencoder is trained (`generators.mini.autoencoders.train_autoencoder`)."""

    kind: str
    latent_channels: int
    steps: int
    batch: int = 16
    learning_rate: float = 3e-3
    kl: float = 1e-3
    noise: float = 0.1
    scenes: int = 12_000
    seed: int = 11


AUTOENCODERS: dict[str, AutoencoderRecipe] = {
    # LongCat-Image and Z-Image both use FLUX.1's autoencoder; here they share one too. FLUX.2's has its own class.
    "kl": AutoencoderRecipe(kind="AutoencoderKL", latent_channels=16, steps=2400),
    "dc": AutoencoderRecipe(kind="AutoencoderDC", latent_channels=32, steps=2400, kl=0.0),
}


@dataclass(frozen=True)
class Phase:
    """Steps of flow matching with noise levels drawn logit-normally and shifted: s·σ/(1 + (s − 1)·σ).

    The more numbers a latent has, the more noise it takes to hide what is drawn: in the 4,096 numbers of the "kl"
    latents everything is decided above σ = 0.8, which an unshifted draw visits one time in twelve.
    `horizon`: the length of the cosine schedule of the learning rate, where the phase ends before it.
    """

    steps: int
    shift: float
    horizon: int | None = None


@dataclass(frozen=True, kw_only=True)
class MiniRecipe:
    """One mini: its shape, how its transformer is trained, and how the preset calls it.

    `width` and `layers` are the transformer's (`double_layers`: blocks with separate text and image weights,
    where the class has them). `distil` steps of guidance distillation follow the training: the model learns to answer
    at once what two forwards with classifier-free guidance `distil_guidance` would. The pipeline's own schedule of
    noise levels has the shift of the last phase. `channels`: how many principal channels of a "kl" latent are kept
    (`generators.mini.autoencoders.reduce_channels`); None keeps all.
    """

    name: str
    title: str
    autoencoder: str = "kl"
    width: int = 128
    layers: int = 4
    double_layers: int = 0
    text_width: int = 96
    text_steps: int = 700
    phases: tuple[Phase, ...]
    sample_steps: int = 20
    guidance: float
    channels: int | None = None
    distil: int = 0
    distil_guidance: float = 2.0
    batch: int = 32
    learning_rate: float = 1.5e-3
    scenes: int = 24_000
    seed: int = 0

    @property
    def shift(self) -> float:
        """The shift of the last phase's noise levels, which the pipeline's own schedule gets."""
        return self.phases[-1].shift


MINIS: dict[str, MiniRecipe] = {
    recipe.name: recipe
    for recipe in (
        MiniRecipe(
            name="mini-flux2",
            title="FLUX.2 class: guidance-distilled, text from three layers",
            width=160,
            double_layers=1,
            text_width=64,
            phases=(Phase(2400, 1.22, horizon=3200), Phase(1500, 4.0)),
            distil=300,
            guidance=2.0,
            seed=21,
        ),
        MiniRecipe(
            name="mini-zimage",
            title="Z-Image-Turbo class: one stream, distilled to few steps without guidance",
            layers=5,
            phases=(Phase(5000, 2.5),),
            channels=8,
            distil=250,
            distil_guidance=3.0,
            sample_steps=10,
            guidance=0.0,
            seed=22,
        ),
        MiniRecipe(
            name="mini-longcat",
            title="LongCat-Image class: classifier-free guidance with renormalisation",
            double_layers=1,
            phases=(Phase(5200, 2.5), Phase(2500, 2.5)),
            channels=8,
            guidance=2.0,
            seed=23,
        ),
        MiniRecipe(
            name="mini-sana",
            title="SANA class: linear attention on a deep-compression autoencoder",
            autoencoder="dc",
            phases=(Phase(2000, 1.22), Phase(1600, 2.0), Phase(2400, 2.0)),
            guidance=2.0,
            seed=24,
        ),
    )
}
