"""Turning an autoencoder's latents to their principal channels: a change of basis, checked by projecting by hand."""

import numpy as np
import numpy.typing as npt
import pytest
import torch

from generators.mini.autoencoders import build_kl, encode, reduce_channels
from generators.mini.corpus import render_corpus, to_tensor


@pytest.fixture(scope="module")
def autoencoder() -> torch.nn.Module:
    torch.manual_seed(3)
    made: torch.nn.Module = build_kl().eval().requires_grad_(False)
    return made


def principal(latents: torch.Tensor, keep: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and the first right singular vectors of the channels, by another routine than the code's."""
    rows = latents.permute(0, 2, 3, 1).reshape(-1, latents.shape[1]).double().numpy()
    mean = rows.mean(0)
    return mean, np.linalg.svd(rows - mean, full_matrices=False)[2][:keep]


@pytest.mark.parametrize(("keep", "channels"), [(4, None), (4, 16), (16, None)])
def test_latents_are_the_projection_and_decode_to_the_same(
    autoencoder: torch.nn.Module, keep: int, channels: int | None
) -> None:
    images = render_corpus(6, seed=5).images
    reduced = reduce_channels(autoencoder, keep, images, channels)
    pixels = to_tensor(images)
    with torch.no_grad():
        old, new = encode(autoencoder, pixels)[0], encode(reduced, pixels)[0]
        mean, basis = principal(old, keep)
        centred = old.permute(0, 2, 3, 1).double().numpy() - mean
        expected = centred @ basis.T
        seen = new.permute(0, 2, 3, 1).double().numpy()
        assert reduced.config.latent_channels == (channels or keep) == seen.shape[-1]
        # the sign of a principal axis is arbitrary
        np.testing.assert_allclose(np.abs(seen[..., :keep]), np.abs(expected), atol=2e-4)
        assert not seen[..., keep:].any()
        projected = torch.from_numpy(expected @ basis + mean).float().permute(0, 3, 1, 2)
        # padding surrounds the latents with zeros before the turn and with the mean after it: compare the first layer
        inside = (slice(None), slice(None), slice(1, -1), slice(1, -1))
        want = autoencoder.decoder.conv_in(projected)
        got = reduced.decoder.conv_in(new)
        torch.testing.assert_close(got[inside], want[inside], rtol=1e-3, atol=1e-4)
