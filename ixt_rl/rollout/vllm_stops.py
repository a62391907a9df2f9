"""What ends completions early in vLLM: our `EndWatch` in the place of its detokenizer; and what is under way there.

vLLM's own `stop` reads other texts than rewards do: it decodes in the prompt's context, so that a completion's first
token keeps the space that decoding the completion alone drops, and without special tokens. A completion that it ended
too early could not go on.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from ixt_rl.rollout.stops import Early, EndWatch
from ixt_rl.types import SamplingParams


def watch_ends(engine: Any, request: str, sampling: SamplingParams) -> None:
    """Ends the samples of a request that was just added to vLLM's `LLMEngine` at stop strings, and where they loop.

    Args:
        engine: with one new token a sample and step, as it is without speculative decoding; for stop strings, with a
            tokenizer.
        request: its id.
        sampling: of the request: `ends_early`.
    """
    processor = engine.output_processor
    for name in processor.external_req_ids[request]:
        watch = EndWatch(engine.get_tokenizer() if sampling.stop else None, sampling)
        processor.request_states[name].detokenizer = _detokenizer()(watch)


def written(engine: Any) -> tuple[int, int, int]:
    """(samples begun, not begun, tokens of them) of vLLM's `LLMEngine`, without those that ended."""
    states = engine.output_processor.request_states.values()
    counts = [state.detokenizer.num_output_tokens() for state in states if state.detokenizer is not None]
    return sum(map(bool, counts)), counts.count(0), sum(counts)


@cache
def _detokenizer() -> Any:
    """The class, made when vLLM is there."""
    from vllm.v1.engine.detokenizer import IncrementalDetokenizer

    class Watched(IncrementalDetokenizer):
        """Keeps a sample's ids, writes no text, and says what ends it early: vLLM takes that for a stop string."""

        def __init__(self, watch: EndWatch):
            super().__init__()
            self.watch = watch

        def update(self, new_token_ids: list[int], stop_terminated: bool) -> str | None:
            super().update(new_token_ids, stop_terminated)
            if stop_terminated:  # the last one is an EOS
                return None
            found: list[Early | None] = [self.watch.add(token) for token in new_token_ids]
            return next(filter(None, found), None)

    return Watched
