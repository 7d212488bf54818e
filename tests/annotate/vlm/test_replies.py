"""Replies in the forms of servers that people use: Azure, Gemini, Mistral, OpenRouter, LM Studio, DashScope, vLLM."""

import json
from typing import Any

import pytest

from annotate.vlm.contract import Answer, AskError
from annotate.vlm.replies import is_name_of, read_completion, retry_after, status_error
from tests.annotate.support import CLEAN
from tests.annotate.vlm.test_servers import body, replies


def said(message: dict[str, Any], finish: str | None = "stop", **more: Any) -> str:
    return json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": finish}], **more})


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (said({"content": [{"type": "text", "text": "<answer>"}, {"type": "text", "text": "[]</answer>"}]}), CLEAN),
        (said({"content": [{"type": "thinking", "thinking": []}, {"type": "text", "text": CLEAN}]}), CLEAN),
        (said({"content": CLEAN, "refusal": None, "annotations": [], "tool_calls": None}, usage=None), CLEAN),
        (said({"content": CLEAN, "reasoning": "hm", "reasoning_details": []}, finish=None), CLEAN),
        ("\ufeff" + said({"content": CLEAN}), CLEAN),
        (said({"content": None, "tool_calls": [{"id": "1", "type": "function"}]}, "tool_calls"), ""),
    ],
)  # fmt: skip
def test_an_answer_is_found_wherever_it_stands(reply: str, text: str) -> None:
    assert read_completion(reply).text == text


def test_counts_and_finishes_in_other_words() -> None:
    completion = read_completion(
        said({"content": ""}, "MAX_TOKENS", usage={"prompt_tokens": 7.0, "completion_tokens": 3})
    )
    assert (completion.finish, completion.tokens_in, completion.tokens_out) == ("length", 7, 3)
    for word in ("content_filter", "content_filter: PROHIBITED_CONTENT", "SAFETY"):
        assert read_completion(json.dumps({"choices": [{"index": 0, "finish_reason": word}]})).finish == "filtered"


def raised(reply: str) -> AskError:
    with pytest.raises(AskError) as caught:
        read_completion(reply)
    return caught.value


@pytest.mark.parametrize(
    ("reply", "code", "transient", "fatal"),
    [
        ({"error": {"code": 429, "message": "Provider returned error"}}, "rate-limited", True, False),
        ({"error": {"code": 502, "message": "no instance"}, "user_id": "u"}, "server-error", True, False),
        ({"error": {"code": 402, "message": "Insufficient credits"}}, "http-402", False, True),
        ({"choices": [{"error": {"code": "503"}, "finish_reason": "error"}]}, "server-error", True, False),
        ({"error": "Unexpected endpoint or method."}, "bad-response", False, False),
        ([{"error": {"code": 400, "status": "INVALID_ARGUMENT"}}], "bad-request", False, False),
        ({"choices": [], "error": {"code": 400, "type": "content_filter"}}, "refused", False, False),
    ],
)  # fmt: skip
def test_an_error_under_status_200_is_the_error_that_it_states(
    reply: object, code: str, transient: bool, fatal: bool
) -> None:
    error = raised(json.dumps(reply))
    assert (error.code, error.transient, error.fatal) == (code, transient, fatal)


def test_a_stream_is_named() -> None:
    assert "it streams" in raised('data: {"choices":[{"delta":{"content":"x"}}]}\n\ndata: [DONE]\n').message
    assert "part of type 'image_url'" in raised(said({"content": [{"type": "image_url"}]})).message


AZURE = {"error": {"message": "filtered", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}
DASHSCOPE = {"error": {"code": "data_inspection_failed", "type": "data_inspection_failed"}}
MODERATED = {"error": {"code": 403, "message": "flagged", "metadata": {"reasons": ["violence"], "flagged_input": "x"}}}
QUOTA = {"error": {"code": "insufficient_quota", "type": "insufficient_quota", "message": "check your plan"}}


@pytest.mark.parametrize(
    ("status", "reply", "code", "transient", "fatal"),
    [
        (400, AZURE, "refused", False, False),
        (400, DASHSCOPE, "refused", False, False),
        (403, MODERATED, "refused", False, False),
        (403, {"error": {"code": 403, "message": "key disabled"}}, "http-403", False, True),
        (429, QUOTA, "http-429", False, True),
        (402, {"error": {"message": "Insufficient Balance"}}, "http-402", False, True),
        (529, {"type": "error", "error": {"type": "overloaded_error"}}, "server-error", True, False),
        (502, None, "server-error", True, False),
    ],
)
def test_a_status_is_judged_with_what_the_body_says(
    status: int, reply: object, code: str, transient: bool, fatal: bool
) -> None:
    text = "<html><title>502 Bad Gateway</title></html>" if reply is None else json.dumps(reply)
    error = status_error(status, text, {})
    assert (error.code, error.transient, error.fatal) == (code, transient, fatal)


def test_waiting_times_of_hosted_servers() -> None:
    google = [
        {"error": {"code": 429, "details": [{"@type": "x"}, {"@type": "google.rpc.RetryInfo", "retryDelay": "34.5s"}]}}
    ]
    assert status_error(429, json.dumps(google), {}).retry_after == 34.5
    assert retry_after({"retry-after-ms": "250"}) == 0.25
    assert retry_after({"retry-after": "2", "retry-after-ms": "250"}) == 2
    odd = {"details": ["x", {"retryDelay": 5}, {"retryDelay": "soon"}]}
    assert retry_after({}, odd) is None


@pytest.mark.parametrize(
    ("answering", "asked", "same"),
    [
        ("gpt-5.4-2026-03-01", "gpt-5.4", True),
        ("openai/gpt-5.4-20260301", "gpt-5.4", True),
        ("claude-sonnet-4-5@20250929", "anthropic/claude-sonnet-4-5", True),
        ("models/gemini-2.5-flash", "gemini-2.5-flash", True),
        ("GPT-4o", "openai/gpt-4o", True),
        ("gpt-5.4-mini-2026-03-01", "gpt-5.4", False),
        ("gpt-5.4-2026-06-01", "gpt-5.4-2026-03-01", False),
        ("gpt-5.4", "gpt-5.4-2026-03-01", False),
    ],
)
def test_names_of_one_model(answering: str, asked: str, same: bool) -> None:
    assert is_name_of(answering, asked) == same


def test_a_snapshot_is_the_model_and_another_snapshot_is_not() -> None:
    fine = replies(
        body("gpt-5.4"), body("openai/gpt-5.4-2026-03-01"), body("gpt-5.4"), model="gpt-5.4", server="openai"
    )
    assert [type(result) for result in fine] == [Answer] * 3
    first, second = replies(body("gpt-5.4-2026-03-01"), body("gpt-5.4-2026-06-01"), model="gpt-5.4", server="openai")
    assert isinstance(first, Answer)
    assert isinstance(second, AskError)
    assert second.code == "other-model"


def test_thoughts_that_an_own_server_took_out_are_put_back() -> None:
    apart = {"content": f"\n\n{CLEAN}", "reasoning_content": "two dogs </think> as asked"}
    reply = json.loads(said(apart))
    own, hosted = replies(reply)[0], replies(reply, server="openrouter")[0]
    assert isinstance(own, Answer)
    assert isinstance(hosted, Answer)
    assert own.text == f"<think>two dogs <\\/think> as asked</think>{CLEAN}"
    assert hosted.text == f"\n\n{CLEAN}", "a hosted model's thoughts are its own, not the steps that were asked for"
    whole = json.loads(said({"content": f"<think>steps</think>{CLEAN}", "reasoning": "hm"}))
    answered = replies(whole)[0]
    assert isinstance(answered, Answer)
    assert answered.text == f"<think>steps</think>{CLEAN}"
