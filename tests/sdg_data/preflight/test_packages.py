"""Requirements of an extra against what is installed."""

import importlib.metadata

import pytest

from sdg_data.errors import ExitCode
from sdg_data.preflight.packages import check_extra, required


def test_missing_and_wrong_versions_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        "pydantic>=2",
        'no-such-thing>=1; extra == "paint"',
        "pydantic<1 ; extra == 'paint'",
        'typer>=0.1; extra == "paint"',
        'nor-this; extra == "paints"',
    ]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: lines)
    finding = check_extra("paint", "x")
    assert finding.ok is False
    assert finding.code == ExitCode.MISSING_DEPENDENCY
    assert "no-such-thing is missing" in finding.state
    assert f"pydantic {importlib.metadata.version('pydantic')} is not <1" in finding.state
    assert "typer" not in finding.state
    assert "nor-this" not in finding.state
    assert finding.fix == "pip install 'sdg-data[paint]'"


def test_our_own_extras_are_read() -> None:
    assert any(line.startswith("diffusers") for line in required("generate"))
    assert required("no-such-extra") == []
