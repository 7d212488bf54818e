"""The toy models' weights are found by name, wherever their package lies."""

from pathlib import Path

import pytest

from sdg_data.errors import ConfigError, MissingDependency
from sdg_data.mini import weights
from sdg_data.mini.weights import SHIPPED, weights_folder

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_model_is_where_its_name_says(name: str) -> None:
    folder = weights_folder(name)
    assert folder.resolve() == ROOT.joinpath(*SHIPPED[name].split("/"))
    assert list(folder.rglob("*.safetensors"))


def test_every_folder_of_weights_in_the_tree_has_a_name() -> None:
    marks = [ROOT.glob(f"{package}/**/weights/**/model_index.json") for package in ("generators", "trainers")]
    weighed = {path.parent for paths in (*marks, ROOT.glob("trainers/**/weights/detector.json")) for path in paths}
    assert weighed == {weights_folder(name).resolve() for name in SHIPPED}


def test_an_unknown_name_and_a_missing_package_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no such toy model"):
        weights_folder("mini-dalle")
    monkeypatch.setitem(weights.SHIPPED, "mini-x", "no_such_package/weights")
    with pytest.raises(MissingDependency, match="no_such_package"):
        weights_folder("mini-x")
