"""The contract of import layers has teeth: an import that points up is found, wherever it stands."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("schemas", "sdg_data", "generators", "annotate", "exports", "trainers", "integrations")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages' source without weights, and the contract."""
    copy = tmp_path_factory.mktemp("house")
    for name in PACKAGES:
        shutil.copytree(
            ROOT / name, copy / name, ignore=lambda _, names: [n for n in names if "." in n and not n.endswith(".py")]
        )
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


def lint(house: Path) -> tuple[int, str]:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    ended = subprocess.run(
        command, cwd=house, env={"PYTHONPATH": str(house)}, capture_output=True, text=True, check=False
    )
    return ended.returncode, ended.stdout + ended.stderr


def test_the_house_keeps_its_layers(house: Path) -> None:
    code, output = lint(house)
    assert code == 0, output
    modules = sum(len([*(house / name).rglob("*.py")]) for name in PACKAGES)
    assert f"Analyzed {modules} files" in output


def test_every_module_of_the_core_has_a_floor() -> None:
    """What no line of the contract names would be free to import anything."""
    (contract,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    floors = {name for line in contract["layers"] for name in line.split(" | ")}
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in (ROOT / "sdg_data").rglob("*.py")}
    modules = {name for name in modules if not name.endswith("__init__")}
    assert not {name for name in modules if not any(f"{name}.".startswith(f"{floor}.") for floor in floors)}
    assert not {name for name in floors if not any(f"{module}.".startswith(f"{name}.") for module in modules)} - {
        *PACKAGES
    }


@pytest.mark.parametrize(
    ("importing", "imported"),
    [
        ("exports/dataset/order.py", "trainers.detector.reward"),
        ("exports/cli.py", "annotate.review.rounds"),
        ("schemas/defect.py", "sdg_data.ids"),
        ("sdg_data/ids.py", "sdg_data.store.connection"),
        ("sdg_data/store/gold.py", "sdg_data.dashboard.app"),
        ("sdg_data/preflight/hub.py", "generators.preflight"),
    ],
)
def test_an_import_that_points_up_breaks_the_contract(house: Path, importing: str, imported: str) -> None:
    path = house / importing
    before = path.read_text()
    package, _, module = imported.rpartition(".")
    try:
        path.write_text(f"{before}\nfrom {package} import {module}  # noqa\n")
        code, output = lint(house)
    finally:
        path.write_text(before)
    assert code != 0
    assert "BROKEN" in output
    assert importing.removesuffix(".py").replace("/", ".") in output
    assert imported in output
