"""A limit on the money that a stage spends, kept by the worst case of what is under way.

A question is sent only while everything spent, plus the worst case of all questions under way, plus its own, stays
within the limit: so the limit is approached but never passed. What a server charges for a request whose answer never
arrived is not known; such a call counts at its worst case for the rest of the run.
"""

from __future__ import annotations

import threading
from typing import Any

from annotate.vlm.contract import Prices, Question
from sdg_data.errors import ConfigError

# Pixels per token are fewer for every known encoder: OpenAI's tiles, Gemini's 258 per 768x768, Qwen's 28x28 patches.
_PIXELS_PER_TOKEN = 28 * 28
_TOKENS_AROUND = 256


class Budget:
    """Counts US dollars, for all threads. Without a limit every question fits."""

    def __init__(self, limit: float | None, prices: Prices | None, *, spent: float = 0.0) -> None:
        """`spent`: US dollars before this run.

        Raises:
            ConfigError: There is a limit but no prices.
        """
        if limit is not None and prices is None:
            raise ConfigError(
                "a budget needs to know what tokens cost",
                item="--budget",
                hint="Set price_in and price_out (US dollars per million tokens) in the config file's section.",
            )
        self.limit = limit
        self.spent = spent
        self._prices = prices
        self._reserved = 0.0
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """On a worker only the prices are known: the limit is kept where the command runs."""
        return Budget, (None, self._prices)

    def worst(self, question: Question, max_tokens: int) -> float:
        """An upper bound of what one answer costs, in US dollars; 0 without prices."""
        if self._prices is None:
            return 0.0
        text = len(question.text.encode()) + sum(len(turn.text.encode()) for turn in question.more)
        pixels = question.image.size.width * question.image.size.height
        return self._prices.cost(text + pixels // _PIXELS_PER_TOKEN + _TOKENS_AROUND, max_tokens)

    def cost(self, tokens_in: int | None, tokens_out: int | None, worst: float) -> float | None:
        """What an answer cost in US dollars: None without prices, `worst` where the server did not count tokens."""
        if self._prices is None:
            return None
        return worst if tokens_in is None or tokens_out is None else self._prices.cost(tokens_in, tokens_out)

    def reserve(self, worst: float) -> bool:
        """Set a worst case aside; returns False, with nothing set aside, where it does not fit."""
        with self._lock:
            if self.limit is not None and self.spent + self._reserved + worst > self.limit:
                return False
            self._reserved += worst
            return True

    def settle(self, worst: float, cost: float) -> None:
        """Book what a question cost, and free the rest of `worst`, which was set aside for it."""
        with self._lock:
            self._reserved = max(0.0, self._reserved - worst)
            self.spent += cost
