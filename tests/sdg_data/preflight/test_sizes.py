"""The committed sizes of the published models: computed again from the real classes, and held to public figures."""

import json
from pathlib import Path
from typing import Any

import pytest

from generators.models.registry import built_in_presets
from sdg_data.preflight import sizes
from trainers.common import measure

FILES = sorted(sizes.FOLDER.glob("*.json"))


def _values(name: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((sizes.FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return values


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_parameters_are_those_of_the_real_classes_and_shrunk_parts_keep_their_widths(path: Path) -> None:
    pytest.importorskip("diffusers")
    for name, part in _values(path.stem)["components"].items():
        whole = measure.build(part)
        assert measure.parameters(whole) == part["parameters"], name
        shrunk = measure.build(part, shrunk=True) if part.get("shrunk") else whole
        shapes, left = ([parameter.shape for parameter in module.parameters()] for module in (whole, shrunk))
        assert set(left) <= set(shapes)
        assert (len(left) < len(shapes)) == bool(part.get("shrunk"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [path for path in FILES if "forward_tflop" in _values(path.stem)], ids=lambda p: p.stem
)
def test_operations_are_those_of_the_real_classes(path: Path) -> None:
    pytest.importorskip("diffusers")
    values = _values(path.stem)
    assert measure.measured(values) == values
    # The polynomial, which was fixed at three squares, at a size of another shape.
    known = sizes.sizes_of(values["repository"])
    assert known is not None
    counted = measure.forward_tflop(values["components"]["transformer"], 1280, 640)
    assert known.image_tflop(1280, 640, 1, guided=False) == pytest.approx(
        counted + known.decode_tflop * 1280 * 640 / 1024**2, rel=0.005
    )


def test_known_totals() -> None:
    """Figures that others published of these models."""
    known = {model.name: model for model in sizes.all_sizes().values()}
    # The file of FLUX.2's autoencoder holds 84,046,115 numbers beside its statistics; the cards round the others.
    parts = {(model.name, part.name): part.parameters for model in known.values() for part in model.components}
    assert parts["flux2-dev", "vae"] == 84_046_115
    billions = {key: round(number / 1e9, 1) for key, number in parts.items()}
    assert billions["flux2-dev", "transformer"] == 32.2
    assert billions["flux2-dev", "text_encoder"] == 24.0
    assert billions["flux1-dev", "transformer"] == 11.9
    assert billions["sana-1.5-1.6b", "transformer"] == 1.6
    assert billions["z-image-turbo", "text_encoder"] == billions["qwen3-vl-4b", "model"] - 0.4 == 4.0
    assert round(known["flux2-dev"].gib(), 1) == 104.9
    assert round(known["flux2-dev"].largest_gib(), 1) == 60.0
    assert known["qwen3-vl-4b"].gib("float32") == 2 * known["qwen3-vl-4b"].gib()


def test_an_images_operations_by_hand() -> None:
    flux1, flux2 = (sizes.sizes_of(f"black-forest-labs/FLUX.{version}-dev") for version in (1, 2))
    assert flux1 is not None
    assert flux2 is not None
    tokens = 4096 + 512
    # A block has 12·d² weights a token (attention 4, feed-forward 8), 13·d² where the feed-forward is gated and three
    # times as wide; attention itself adds 4·n²·d.
    step = 57 * (2 * 12 * 3072**2 * tokens + 4 * tokens**2 * 3072) / 1e12
    two = 56 * (2 * 13 * 6144**2 * tokens + 4 * tokens**2 * 6144) / 1e12
    assert flux1.forward_tflop[2] == pytest.approx(step, rel=0.002)
    assert flux2.forward_tflop[2] == pytest.approx(two, rel=0.002)
    assert flux1.image_tflop(1024, 1024, 50, guided=True) == pytest.approx(
        100 * flux1.forward_tflop[2] + flux1.decode_tflop
    )
    assert flux1.image_tflop(512, 512, 1, guided=False) == pytest.approx(
        flux1.forward_tflop[0] + flux1.decode_tflop / 4
    )


def test_every_real_preset_of_a_profile_has_its_sizes_and_a_stated_source() -> None:
    for preset in built_in_presets().values():
        if preset.folder is None:
            known = sizes.sizes_of(preset.repository)
            assert known is not None, preset.name
            assert known.name == preset.name
            assert all(part.source for part in known.components)
    assert sizes.sizes_of("me/my-model") is None
