"""The answer of a vision-language model: text form, strict parser with repairs, reasons for refusal."""

from schemas.answer.codes import Outcome, Reason, Repair, RepairKind
from schemas.answer.parse import AnswerItem, ParsedAnswer, parse_answer, render_answer

__all__ = ["AnswerItem", "Outcome", "ParsedAnswer", "Reason", "Repair", "RepairKind", "parse_answer", "render_answer"]
