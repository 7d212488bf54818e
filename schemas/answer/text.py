"""The blocks of an answer's text: find the trace and the list, (un)escape the trace, spot the hopeless cases."""

import re
from dataclasses import dataclass

from schemas.answer.codes import Reason, Rejection, Repair, RepairKind, outer_text, shown

_TAG = re.compile(r"<(/?)(think|answer)\s{0,8}>", re.IGNORECASE | re.ASCII)
# A backslash goes after the "<" of anything that reads as a tag, and of anything that an escape made: one more each.
_TO_ESCAPE = re.compile(r"<(?=\\*/?(?:think|answer)\s{0,8}>)", re.IGNORECASE | re.ASCII)
_ESCAPED = re.compile(r"<\\(?=\\*/?(?:think|answer)\s{0,8}>)", re.IGNORECASE | re.ASCII)
_REFUSAL = re.compile(
    r"\s{0,100}(?:(?:i['’]?m|i am) (?:really |very |so )?(?:sorry|unable|not able)|sorry\b"
    r"|i (?:can['’]?t|cannot|can not|won['’]?t)\b"
    r"|i apologi[sz]e|as an ai\b|unfortunately,? i\b|抱歉|对不起|很抱歉|我无法|我不能|无法)",
    re.IGNORECASE,
)
_FENCED_LIST = re.compile(r"```[A-Za-z0-9_+-]{0,16}\s{0,40}\[")
_CLOSING_TAG = "</answer>"
_TAIL = 1024
_LONGEST_PERIOD = _TAIL // 4


@dataclass(frozen=True, slots=True)
class Blocks:
    """`body` is the answer block's inside; `closed` says that its end was seen, so that nothing can be missing."""

    body: str
    trace: str | None
    closed: bool
    repairs: tuple[Repair, ...] = ()
    around: str = ""
    """The words outside trace and answer block."""


def escape_trace(trace: str) -> str:
    """Escape the answer tags in a reasoning text, so that it can stand between `<think>` and `</think>`.

    Args:
        trace: the reasoning, any text.

    Returns:
        The text with a backslash after the `<` of each of our tags; `unescape_trace` makes the same `trace` of it.
    """
    return _TO_ESCAPE.sub(r"<\\", trace)


def unescape_trace(text: str) -> str:
    """Make the reasoning again of a text that `escape_trace` wrote.

    Args:
        text: what stands between `<think>` and `</think>`.

    Returns:
        The reasoning, its tags without the backslashes that escaped them.
    """
    return _ESCAPED.sub("<", text)


def strict_blocks(text: str) -> Blocks | None:
    """The blocks of a text of exactly the form `[<think>…</think>] <answer>…</answer>`, else None."""
    text = text.strip()
    trace = None
    if text.startswith("<think>"):
        end = text.find("</think>")
        if end < 0:
            return None
        trace = unescape_trace(text[len("<think>") : end])
        text = text[end + len("</think>") :].lstrip()
    if not text.startswith("<answer>") or not text.endswith(_CLOSING_TAG):
        return None
    return Blocks(body=text[len("<answer>") : -len(_CLOSING_TAG)], trace=trace, closed=True)


def find_blocks(text: str) -> Blocks:
    """Find the blocks of a text that takes liberties with the form.

    Args:
        text: A model's answer.

    Returns:
        The blocks; each liberty is one of their `repairs`.

    Raises:
        Rejection: empty, refused, truncated-by-length, no-answer-block, several-answers.
    """
    if not text.strip():
        raise Rejection(Reason.EMPTY, "the text is empty")
    tags = list(_TAG.finditer(text))
    repairs, around = [], []
    if any(tag.group() != f"<{_name(tag)}>" for tag in tags):
        repairs.append(Repair(kind=RepairKind.TAG_SPELLING))
    trace, start, made = _find_trace(text, tags)
    repairs += made
    if tags and _name(tags[0]) == "think":
        around.append(text[: tags[0].start()])

    tags = [tag for tag in tags if tag.start() >= start and _name(tag) in {"answer", "/answer"}]
    opening = next((tag for tag in tags if _name(tag) == "answer"), None)
    if opening is None:
        closing = next(iter(tags), None)
        body = text[start : closing.start() if closing else len(text)]
        repairs.append(Repair(kind=RepairKind.MISSING_ANSWER_TAGS))
        if not body.lstrip().startswith(("[", "```")):
            fence = _FENCED_LIST.search(body)
            if fence is None:
                rejection = _without_answer(text, text[start:])
                raise rejection
            repairs.append(outer_text(body[: fence.start()]))
            around.append(body[: fence.start()])
            body = body[fence.start() :]
        after = text[closing.end() :] if closing else ""
    else:
        if text[start : opening.start()].strip():
            repairs.append(outer_text(text[start : opening.start()]))
            around.append(text[start : opening.start()])
        closing = next((tag for tag in tags if _name(tag) == "/answer" and tag.start() >= opening.end()), None)
        if closing is None:
            body, after = _without_partial_tag(text[opening.end() :]), ""
            repairs.append(Repair(kind=RepairKind.UNCLOSED_ANSWER))
        else:
            body, after = text[opening.end() : closing.start()], text[closing.end() :]
            if any(_name(tag) == "answer" and tag.start() >= closing.end() for tag in tags):
                raise Rejection(Reason.SEVERAL_ANSWERS, "a second <answer> follows the first")
    if after.strip():
        repairs.append(outer_text(after))
        around.append(_TAG.sub(" ", after))
    if not body.strip():
        if closing is None:
            raise Rejection(Reason.TRUNCATED_BY_LENGTH, "the text ends where the answer begins")
        raise Rejection(Reason.EMPTY, "the answer block is empty")
    return Blocks(body=body, trace=trace, closed=closing is not None, repairs=tuple(repairs), around=" ".join(around))


def is_refusal(text: str) -> bool:
    """Does the text begin as models begin when they decline?"""
    return _REFUSAL.match(text) is not None


def ends_in_repetition(text: str) -> bool:
    """Do the last 1,024 characters repeat one piece of at most 256, hence at least four times?"""
    tail = text.rstrip()[-_TAIL:]
    if len(tail) < _TAIL:
        return False
    return any(tail[period:] == tail[:-period] for period in range(1, _LONGEST_PERIOD + 1))


def _name(tag: re.Match[str]) -> str:
    return (tag.group(1) + tag.group(2)).lower()


def _find_trace(text: str, tags: list[re.Match[str]]) -> tuple[str | None, int, list[Repair]]:
    """(trace, where the rest begins, repairs). Raises Rejection where the text ends inside the trace."""
    first = next(iter(tags), None)
    if first is None or _name(first) in {"answer", "/answer"}:
        return None, 0, []
    if _name(first) == "/think":
        repair = Repair(kind=RepairKind.UNOPENED_THINK)
        return unescape_trace(text[: first.start()]), first.end(), [repair]
    repairs = [outer_text(text[: first.start()])] if text[: first.start()].strip() else []
    end = next((tag for tag in tags if _name(tag) == "/think"), None)
    if end is not None:
        return unescape_trace(text[first.end() : end.start()]), end.end(), repairs
    end = next((tag for tag in tags if _name(tag) == "answer"), None)
    if end is None:
        raise Rejection(Reason.TRUNCATED_BY_LENGTH, "the text ends inside <think>")
    repairs.append(Repair(kind=RepairKind.UNCLOSED_THINK))
    return unescape_trace(text[first.end() : end.start()]), end.start(), repairs


def _without_answer(text: str, rest: str) -> Rejection:
    if is_refusal(text) or is_refusal(rest):
        return Rejection(Reason.REFUSED, shown(rest.strip(), 60))
    return Rejection(Reason.NO_ANSWER_BLOCK, f"no <answer> and no list: {shown(rest.strip(), 60)}")


def _without_partial_tag(body: str) -> str:
    for length in range(len(_CLOSING_TAG) - 1, 0, -1):
        if body.endswith(_CLOSING_TAG[:length]):
            return body[:-length]
    return body
