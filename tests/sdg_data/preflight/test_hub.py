"""What the hub's answers become, with a hub of our own making."""

from typing import Any

import pytest

from sdg_data.preflight import hub

pytest.importorskip("huggingface_hub")


def error(name: str, words: str) -> Exception:
    from huggingface_hub import errors

    kind = getattr(errors, name)
    made: Exception = kind.__new__(kind)
    Exception.__init__(made, words)
    return made


class Facts:
    gated = "auto"


@pytest.mark.parametrize(
    ("name", "state", "word"),
    [
        ("RepositoryNotFoundError", "no-repository", "no repository"),
        ("RevisionNotFoundError", "no-revision", "no revision"),
        ("HfHubHTTPError", "no-answer", "does not answer"),
    ],
)
def test_refusals(monkeypatch: pytest.MonkeyPatch, name: str, state: str, word: str) -> None:
    from huggingface_hub import HfApi

    def refuse(self: Any, repository: str, **options: Any) -> Any:
        raise error(name, "first line\nsecond")

    monkeypatch.setattr(HfApi, "model_info", refuse)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert hub.ask_hub("a/b", "c" * 40).state == state
    finding = hub.check_hub("m", "a/b", "c" * 40)
    assert finding.ok is False
    assert word in finding.state
    assert finding.fix


def test_a_gated_repository_is_told_apart_from_one_that_we_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import HfApi

    def refuse(self: Any, repository: str) -> None:
        raise error("GatedRepoError", "no")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(HfApi, "model_info", lambda self, repository, **options: Facts())
    monkeypatch.setattr(HfApi, "auth_check", refuse)
    assert hub.check_hub("m", "a/b", "").fix == hub.gate_hint("a/b")
    monkeypatch.setattr(HfApi, "auth_check", lambda self, repository: None)
    assert hub.check_hub("m", "a/b", "").ok


def test_no_network_and_no_leave_to_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx2
    from huggingface_hub import HfApi

    def fail(self: Any, repository: str, **options: Any) -> Any:
        raise httpx2.ConnectError("Name or service not known")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(HfApi, "model_info", fail)
    assert hub.NO_ANSWER in hub.check_hub("m", "a/b", "").state
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE" in hub.check_hub("m", "a/b", "").state
