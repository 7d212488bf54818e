"""Structured output: for servers that can hold a model to a JSON Schema, one object instead of our tags.

The object is turned into the text form that `schemas.answer` reads, so that one parser judges all answers.
"""

from __future__ import annotations

import json
from typing import Any, Final

from pydantic import TypeAdapter

from schemas.answer import AnswerItem
from schemas.answer.text import escape_trace
from schemas.base import without_lone_surrogates

INSTRUCTION: Final = (
    "Write the reply as one JSON object instead of the tags: "
    '{"think": "the three steps", "answer": [the list]}, and nothing else.'
)


def response_format() -> dict[str, Any]:
    """The `response_format` of a chat request: a JSON schema that an answer's reasoning and defects must fit."""
    items = TypeAdapter(list[AnswerItem]).json_schema(ref_template="#/$defs/{model}")
    definitions = items.pop("$defs", {})
    schema = {
        "type": "object",
        "properties": {"think": {"type": "string"}, "answer": items},
        "required": ["think", "answer"],
        "additionalProperties": False,
        "$defs": definitions,
    }
    return {"type": "json_schema", "json_schema": {"name": "defects", "schema": schema}}


def as_text(raw: str) -> str:
    """The reply in the tagged form, or unchanged where it is no such object; the parser then says what is wrong."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return raw
    if not isinstance(value, dict) or set(value) != {"think", "answer"} or not isinstance(value["think"], str):
        return raw
    answer = json.dumps(value["answer"], ensure_ascii=False).replace("<", "\\u003c")
    return f"<think>{escape_trace(without_lone_surrogates(value['think']))}</think><answer>{answer}</answer>"
