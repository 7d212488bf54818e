"""Installing Label Studio, and another version of it, without a package index: the venv's python is a script here."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from annotate.labelstudio.database import Installation, note_installation
from annotate.labelstudio.installing import VERSION, ServerFailed, install, installed_version, version_key
from annotate.labelstudio.server import Server
from sdg_data.cli import app
from sdg_data.errors import InputError
from sdg_data.settings import AnnotateSettings
from tests.annotate.labelstudio.test_backup import rows_of, used_server

PIP = """#!/bin/sh
echo "$@" >> {venv}/asked
case "$*" in *==9.9.9*) echo "no such version" >&2; exit 1;; esac
version=${{*##*==}}
site={venv}/lib/python3.11/site-packages
mkdir -p $site && rm -rf $site/label_studio-*.dist-info && mkdir $site/label_studio-$version.dist-info
printf '#!/bin/sh\\nexit 3\\n' > {venv}/bin/label-studio && chmod +x {venv}/bin/label-studio
"""


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").write_text(PIP.format(venv=venv))
    (venv / "bin" / "python").chmod(0o755)
    (venv / "bin" / "pip").touch()
    return venv


def test_what_is_there_is_not_installed_again_and_another_version_takes_its_place(venv: Path) -> None:
    assert installed_version(venv) is None
    assert install(venv) is True
    assert (installed_version(venv), install(venv), install(venv, version=VERSION)) == (VERSION, False, False)
    assert install(venv, version="1.22.0") is True
    assert (installed_version(venv), install(venv)) == ("1.22.0", False)
    asked = (venv / "asked").read_text().splitlines()
    assert [line.split()[-1] for line in asked] == [f"label-studio=={VERSION}", "label-studio==1.22.0"]
    with pytest.raises(ServerFailed, match="no such version"):
        install(venv, version="9.9.9")
    assert installed_version(venv) == "1.22.0"


@pytest.mark.parametrize(
    "wrong", ["", "1.23", "latest", "1.23.2 --index-url=http://x", "1.23.2; x", "٣.1.2", "1.2.3\n"]
)
def test_what_is_no_version_is_not_given_to_pip(venv: Path, wrong: str) -> None:
    with pytest.raises(InputError):
        install(venv, version=wrong)
    assert not (venv / "asked").exists()


def test_versions_are_ordered_by_their_numbers() -> None:
    versions = ["1.10.0.post0", "1.9.12", "1.23.2", "2.0.0", "1.9.2"]
    assert sorted(versions, key=version_key) == ["1.9.2", "1.9.12", "1.10.0.post0", "1.23.2", "2.0.0"]


def test_before_an_update_the_server_is_backed_up_and_the_way_back_is_that_backup(tmp_path: Path, venv: Path) -> None:
    install(venv, version="1.22.0")
    used_server(tmp_path / "home", "one", version="1.22.0")
    config = tmp_path / "own.toml"
    config.write_text(f'extends = "mini"\n[annotate]\nvenv = "{venv}"\n')
    command = ["--config", str(config), "--home", str(tmp_path / "home"), "annotate", "server"]
    updated = CliRunner().invoke(app, [*command, "install", "--version", "1.23.2"])
    assert updated.exit_code == 0, updated.output
    assert installed_version(venv) == "1.23.2"
    (made,) = (tmp_path / "home" / "labelstudio" / "backups").iterdir()
    assert made.name.startswith("before-1.23.2-")
    assert rows_of(made / "database.sqlite3") == ["one"]
    # As if the new version had been started, which migrates the database.
    server = Server(tmp_path / "home", AnnotateSettings(venv=str(venv)))
    note_installation(server.folder, Installation(database="sqlite", version="1.23.2"))
    assert CliRunner().invoke(app, [*command, "install", "--version", "1.22.0"]).exit_code == 0
    with pytest.raises(ServerFailed, match=r"1\.22\.0 cannot use"):
        server.start()
    assert CliRunner().invoke(app, [*command, "restore", str(made), "--replace"]).exit_code == 0
    with pytest.raises(ServerFailed, match=r"it ended|listens there"):  # it is let start now; the script is no server
        server.start()
