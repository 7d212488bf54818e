"""`sdg --help` stays quick: what is heavy is not imported before a command needs it."""

import subprocess
import sys

import pytest

HEAVY = (
    "torch",
    "diffusers",
    "transformers",
    "duckdb",
    "pydantic",
    "pyarrow",
    "polars",
    "numpy",
    "scipy",
    "PIL",
    "fsspec",
    "rich",
    "generators",
    "annotate",
    "exports",
    "trainers",
)


def loaded(code: str) -> set[str]:
    script = f"{code}\nimport sys; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in ended.stdout.split()}


def test_importing_the_command_line_imports_nothing_heavy() -> None:
    names = loaded("import sdg_data.cli")
    assert "typer" in names
    assert not names & set(HEAVY)


@pytest.mark.parametrize("command", [["--help"], ["--version"], ["images", "--help"]])
def test_help_imports_nothing_heavy_but_what_draws_it(command: list[str]) -> None:
    run = f"sys.stdout = sys.stderr; sdg_data.cli.run({command}); sys.stdout = sys.__stdout__"
    names = loaded(f"import sdg_data.cli, sys; {run}")
    # typer itself checks option values with pydantic, and draws with rich.
    assert not names & (set(HEAVY) - {"rich", "pydantic"})
