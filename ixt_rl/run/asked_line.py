"""What a run shows while a judge is waited for: beside the stage's bar; in a log file, a line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable

from ixt_rl.corpus.terminal import LINE_EVERY, writing
from ixt_rl.under_way import UnderWay

_PATIENCE = 1.0  # seconds of a call before anything is shown
_REFRESH = 0.2


class AskedLine:
    """Watches who is asked.

    Args:
        role: who it is: `judge`.
        bar: shows a text beside the stage's bar; "" takes it away. False where there is no terminal.
        line: prints one.
    """

    def __init__(self, role: str, bar: Callable[[str], bool], line: Callable[[str], None]):
        self.role, self._bar, self._line = role, bar, line
        self._began: float | None = None
        self._shown = self._printed = 0.0

    def __call__(self, under_way: UnderWay) -> None:
        now = time.monotonic()
        if not under_way.replies:
            if self._began is not None:
                self._bar("")
            self._began = None
            return
        if self._began is None:
            self._began = self._printed = now
        seconds = now - self._began
        if seconds < _PATIENCE or now - self._shown < _REFRESH:
            return
        self._shown = now
        said = self._said(under_way, seconds)
        if not self._bar(said) and now - self._printed >= LINE_EVERY:
            self._printed = now
            self._line(said)

    def _said(self, under_way: UnderWay, seconds: float) -> str:
        said = f"{self.role}: {writing(under_way)}"
        if under_way.queued:
            said += f", {under_way.queued:,} to come"
        if under_way.tokens:
            said += f", {under_way.tokens:,} tokens, {under_way.tokens / seconds:,.0f} tokens/s"
        return said
