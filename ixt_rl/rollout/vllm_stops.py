"""Stop strings in vLLM: our `StopWatch` in the place of its detokenizer.

vLLM's own `stop` reads other texts than rewards do: it decodes in the prompt's context, so that a completion's first
token keeps the space that decoding the completion alone drops, and without special tokens. A completion that it ended
too early could not go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from ixt_rl.rollout.stops import StopWatch


def watch_stops(engine: Any, request: str, stop: Sequence[str]) -> None:
    """Ends the samples of a request that was just added to vLLM's `LLMEngine` at stop strings.

    Args:
        engine: with a tokenizer, and one new token a sample and step, as it is without speculative decoding.
        request: its id.
        stop: at least one text.
    """
    processor = engine.output_processor
    for name in processor.external_req_ids[request]:
        watch = StopWatch(engine.get_tokenizer(), stop)
        processor.request_states[name].detokenizer = _detokenizer()(watch)


@cache
def _detokenizer() -> Any:
    """The class, made when vLLM is there."""
    from vllm.v1.engine.detokenizer import IncrementalDetokenizer

    class Watched(IncrementalDetokenizer):
        """Keeps a sample's ids, writes no text, and says when a stop string has come."""

        def __init__(self, watch: StopWatch):
            super().__init__()
            self.watch = watch

        def update(self, new_token_ids: list[int], stop_terminated: bool) -> str | None:
            super().update(new_token_ids, stop_terminated)
            if stop_terminated:  # the last one is an EOS
                return None
            return "stop" if [token for token in new_token_ids if self.watch.add(token)] else None

    return Watched
