"""What is sent to which server: bounds, temperature, thinking, and fields of one's own."""

import asyncio
import json
from pathlib import Path

import pytest

from annotate.vlm.contract import Answer, AskError
from annotate.vlm.families import family_of
from annotate.vlm.openai_chat import OpenAIBackend
from annotate.vlm.servers import OWN, SERVERS, parameters, server_of, thinking_tokens
from sdg_data.errors import ConfigError
from sdg_data.settings import VlmSettings
from tests.annotate.hostile import HostileServer, Reply, answer
from tests.annotate.support import CLEAN, question, server_settings

GEMINI = "https://generativelanguage.googleapis.com/v1beta/openai/"


def sent(**settings: object) -> dict[str, object]:
    return parameters(VlmSettings(backend="openai", max_tokens=2048, **settings), 2048)  # type: ignore[arg-type]


def test_each_server_gets_what_it_takes() -> None:
    plain = {"max_tokens": 2048, "temperature": 0.0}
    assert sent(model="Qwen/Qwen3-VL-4B-Instruct", base_url="http://gpu7:8000/v1") == plain
    assert sent(model="gpt-4o", base_url="") == {"max_completion_tokens": 2048, "temperature": 0.0}
    for model in ("gpt-5.4", "gpt-5-mini", "o3", "o4-mini"):
        assert sent(model=model) == {"max_completion_tokens": 2048 + 16_384}
    assert sent(model="gpt-5.4", base_url="https://mine.openai.azure.com/openai/v1/") == sent(model="gpt-5.4")
    assert sent(model="gpt-5-chat-latest") == {"max_completion_tokens": 2048, "temperature": 0.0}
    assert sent(model="gemini-2.0-flash", base_url=GEMINI) == plain
    assert sent(model="models/gemini-2.5-pro", base_url=GEMINI) == {"max_tokens": 2048 + 16_384, "temperature": 0.0}
    # A model of that name behind somebody's own server is that server's business.
    assert sent(model="gpt-5.4", base_url="http://127.0.0.1:4000/v1") == plain
    assert sent(model="gpt-5.4", base_url="http://127.0.0.1:4000/v1", server="openai") == sent(model="gpt-5.4")
    assert sent(model="m", base_url="https://api.openai.com.example.net/v1") == plain


def test_thinking_and_fields_of_ones_own() -> None:
    budget = sent(model="gemini-2.5-pro", base_url=GEMINI, thinking_tokens=512)
    assert budget["max_tokens"] == 2560
    assert budget["extra_body"] == {"google": {"thinking_config": {"thinking_budget": 512}}}
    low = sent(model="gpt-5.4", reasoning="low", thinking_tokens=0, extra={"seed": 7, "temperature": 1})
    assert low == {"max_completion_tokens": 2048, "reasoning_effort": "low", "seed": 7, "temperature": 1}
    assert thinking_tokens(VlmSettings(backend="transformers", model="gpt-5.4")) == 0
    with pytest.raises(ConfigError, match="`extra` cannot set messages, model"):
        sent(model="m", extra={"model": "x", "messages": []})
    with pytest.raises(ConfigError, match="no server 'vlm'"):
        sent(model="m", server="vlm")
    assert {server.name for server in SERVERS if server_of(VlmSettings(server=server.name)) is server} == {
        "openai", "gemini", "openrouter", "vllm", "sglang", "llama.cpp", "ollama",
    }  # fmt: skip
    assert all(server.source for server in (*SERVERS, OWN))


def test_what_shapes_an_answer_is_part_of_what_it_is_filed_under() -> None:
    def filed(**changes: object) -> dict[str, object]:
        return OpenAIBackend(server_settings("http://x", **changes), environ={}).identity.settings

    plain = filed()
    assert sorted(plain) == ["backend", "codec", "max_side", "max_tokens", "structured", "temperature"]
    assert filed(extra={"seed": 1}) == {**plain, "extra": {"seed": 1}}
    assert filed(reasoning="low", thinking_tokens=0) == {**plain, "reasoning": "low", "thinking_tokens": 0}


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("qwen2.5vl:7b", "qwen2.5-vl"), ("Qwen/Qwen2.5-VL-7B-Instruct-AWQ", "qwen2.5-vl"), ("qwen2_5_vl", "qwen2.5-vl"),
        ("qwen25vl", "qwen2.5-vl"), ("qwen3-vl:8b", "qwen3-vl"), ("Qwen3VL-4B-Instruct-Q4_K_M.gguf", "qwen3-vl"),
        ("CodeGoat24/UnifiedReward-2.0-qwen3vl-8b", "qwen3-vl"), ("models/gemini-2.5-pro", "gemini"),
        ("gpt-5.4", "qwen3-vl"), ("sdg-detector", "qwen3-vl"), ("claude-opus-4-5", "qwen3-vl"),
        ("accounts/fireworks/models/qwen2p5-vl-32b-instruct", "qwen2.5-vl"), ("OpenGVLab/InternVL3_5-8B", "qwen3-vl"),
        ("mlx-community/Qwen2.5-VL-7B-Instruct-4bit", "qwen2.5-vl"), ("qwen3-vl:235b-cloud", "qwen3-vl"),
    ],
)  # fmt: skip
def test_families_by_name(name: str, family: str) -> None:
    assert family_of(name) == family


@pytest.mark.parametrize(
    "name",
    [
        *("qwen2-vl:7b", "qwen-vl-max", "Qwen/Qwen3-4B", "Qwen3.5-9B", "qwen2.5-omni-7b"),
        *(
            "Qwen/QVQ-72B-Preview",
            "XiaomiMiMo/MiMo-VL-7B-RL",
            "ByteDance-Seed/UI-TARS-1.5-7B",
            "nvidia/Cosmos-Reason1-7B",
        ),
        *("google/gemma-3-27b-it", "gemma3:27b", "google/paligemma2-3b-mix-448", "allenai/Molmo-7B-D-0924"),
    ],
)
def test_the_boxes_of_a_line_with_a_form_of_its_own_are_not_guessed(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be told from its name"):
        family_of(name)
    assert family_of(name, "qwen2.5-vl") == "qwen2.5-vl"


def test_a_folder_says_itself_what_it_is(tmp_path: Path) -> None:
    # A server that was started with a folder knows the model by the folder's name.
    for kind, family in (("qwen2_5_vl", "qwen2.5-vl"), ("qwen3_vl_moe", "qwen3-vl"), ("qwen3_vl", "qwen3-vl")):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
        assert family_of(str(tmp_path)) == family
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2_vl"}))
    with pytest.raises(ConfigError, match="cannot be told from its config"):
        family_of(str(tmp_path))
    (tmp_path / "config.json").write_text("[1, ")
    assert family_of(str(tmp_path)) == "qwen3-vl"


def replies(*bodies: dict[str, object], **changes: object) -> list[Answer | AskError]:
    """What comes of asking once for each body."""

    async def go(url: str) -> list[Answer | AskError]:
        backend = OpenAIBackend(server_settings(url, **changes), environ={})
        results: list[Answer | AskError] = []
        for _ in bodies:
            try:
                results.append(await backend.ask(question()))
            except AskError as error:
                results.append(error)
        await backend.close()
        return results

    with HostileServer(lambda caption, nth: Reply("body", json.dumps(bodies[nth]))) as server:
        return asyncio.run(go(server.url))


def body(model: str = "m", fingerprint: str | None = None, choices: int = 1) -> dict[str, object]:
    choice = {"message": {"content": CLEAN}, "finish_reason": "stop"}
    return {"model": model, "system_fingerprint": fingerprint, "choices": [choice] * choices}


def test_another_model_behind_the_same_address_is_not_believed() -> None:
    same, other = replies(body("m"), body("other-7b"))
    assert isinstance(same, Answer)
    assert isinstance(other, AskError)
    assert (other.code, other.fatal) == ("other-model", True)
    assert other.message == "another model answers now: other-7b, before it was m"
    state = replies(body("m", "abc"), body("m", "abc"), body("m", "def"))
    assert [type(result) for result in state] == [Answer, Answer, AskError]
    # A hosted server's fingerprint changes with its own machines.
    hosted = replies(body("m", "abc"), body("m", "def"), server="openai")
    assert [type(result) for result in hosted] == [Answer, Answer]


def test_one_choice_is_one_answer() -> None:
    [two] = replies(body(choices=2))
    assert isinstance(two, AskError)
    assert (two.code, two.fatal) == ("bad-response", False)


def test_thoughts_that_fill_the_limit_are_no_answer_and_are_paid_for() -> None:
    async def go(url: str) -> AskError:
        backend = OpenAIBackend(server_settings(url), environ={})
        with pytest.raises(AskError) as caught:
            await backend.ask(question())
        await backend.close()
        return caught.value

    with HostileServer(lambda caption, nth: answer("", finish="length", usage=(900, 200))) as server:
        error = asyncio.run(go(server.url))
    assert (error.code, error.tokens_in, error.tokens_out) == ("length-without-answer", 900, 200)
