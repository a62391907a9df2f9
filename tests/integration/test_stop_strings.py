"""Stop strings in vLLM: what it samples without them, ended where every engine ends it."""

from __future__ import annotations

import pytest

from ixt_rl.backends import is_installed
from ixt_rl.errors import ConfigError
from ixt_rl.rollout.loops import find_period
from ixt_rl.rollout.stops import StopWatch
from ixt_rl.rollout.transformers_engine import TransformersEngine
from ixt_rl.types import SamplingParams
from tests.integration.rollout_helpers import ENGINE, EOS, TOLERANCE, VOCAB, flat, gap, new_model, prompts, save
from tests.unit.rollout.stop_tokenizers import byte_tokenizer_of, stopped_at

pytestmark = [
    pytest.mark.long(
        "tests/unit/rollout/test_stops.py", "tests/integration/test_run_engines.py::test_a_run_with_another_engine"
    ),
    pytest.mark.skipif(not is_installed("vllm"), reason="vllm is not installed"),
]
STOPS = [("a",), ("END", "b\n", "D"), ("答", "éa"), ("<done>",), (" a", "x1", "c d")]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    from ixt_rl.rollout.vllm_engine import VLLMEngine

    model, tokenizer = new_model("qwen3"), byte_tokenizer_of(VOCAB)
    folder = save(model, tmp_path_factory.mktemp("model"))
    tokenizer.save_pretrained(folder)
    engine = VLLMEngine(folder, tokenizer=folder, **ENGINE)
    yield engine, model, tokenizer
    engine.close()


@pytest.mark.parametrize("stop", STOPS, ids=repr)
def test_vllm_samples_what_it_would_have_and_ends_it(served, stop):
    """Seeds are those of prompts and samples, so that the same tokens come up to the end."""
    engine, model, tokenizer = served
    free = flat(engine.generate(prompts(12), SamplingParams(24, seed=3), 6))
    ended = flat(engine.generate(prompts(12), SamplingParams(24, seed=3, stop=stop), 6))
    found = []
    for before, after in zip(free, ended, strict=True):
        length = stopped_at(tokenizer, before.completion_ids, stop)
        by_eos = before.finish_reason == "eos" and length == len(before.completion_ids)
        assert after.completion_ids == before.completion_ids[:length]
        assert len(after.logprobs) == len(after.completion_ids)
        assert after.finish_reason == (before.finish_reason if length is None or by_eos else "stop")
        found.append(after.finish_reason)
    assert {"stop", "eos"} <= {*found}
    assert gap(model, ended) <= TOLERANCE
    assert not engine.outstanding
    engine.finish_update(engine.policy_version)  # the cache is empty: what was ended early is gone


def test_greedy_completions_are_those_of_the_transformers_engine(served):
    engine, model, tokenizer = served
    ours = TransformersEngine(model, EOS, 2, tokenizer=tokenizer)
    stopped = 0
    for stop in STOPS:
        sampling = SamplingParams(24, temperature=0.0, stop=stop)
        pairs = zip(
            flat(engine.generate(prompts(24), sampling)), flat(ours.generate(prompts(24), sampling)), strict=True
        )
        for theirs, mine in pairs:
            assert (theirs.completion_ids, theirs.finish_reason) == (mine.completion_ids, mine.finish_reason)
            stopped += mine.finish_reason == "stop"
    assert stopped > 10


def test_vllm_without_a_tokenizer_refuses(served, tmp_path):
    from ixt_rl.rollout.vllm_requests import make_requests

    with pytest.raises(ConfigError, match="no tokenizer"):
        make_requests(prompts(1), SamplingParams(4, stop=("a",)), 1, 256, VOCAB)


def test_vllms_own_stop_would_end_elsewhere(served):
    """Why ours is in its place: it leaves special tokens out."""
    from vllm import SamplingParams as VLLMSamplingParams
    from vllm.sampling_params import RequestOutputKind

    engine, _, tokenizer = served
    own = VLLMSamplingParams(
        max_tokens=24, seed=3, stop=["<done>"], include_stop_str_in_output=True, ignore_eos=True,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )  # fmt: skip
    ended, watched = [], []
    for number, prompt in enumerate(prompts(12)):
        engine._engine.add_request(f"own {number}", {"prompt_token_ids": prompt}, own)
    while engine._engine.has_unfinished_requests():
        for output in engine._engine.step():
            ids = output.outputs[0].token_ids
            watch = StopWatch(tokenizer, ["<done>"])
            watched.append(any(map(watch.add, ids)))
            ended.append(output.outputs[0].finish_reason == "stop")
    assert any(watched)
    assert not any(ended)


def test_vllm_ends_loops_and_tells_what_is_under_way(served, monkeypatch):
    """Greedy, with small numbers in place of those that are meant for texts."""
    for name, value in (("LEAST", 8), ("TIMES", 3)):
        monkeypatch.setattr(f"ixt_rl.rollout.loops.{name}", value)
    monkeypatch.setattr("ixt_rl.rollout.stops.EVERY", 4)
    engine, _, _ = served
    free = flat(engine.generate(prompts(12), SamplingParams(40, 0.0), 1))
    told = []
    engine.watch = told.append
    cut = flat(engine.generate(prompts(12), SamplingParams(40, 0.0, cut_loops=True), 1))
    engine.watch = None
    for before, after in zip(free, cut, strict=True):
        ids = before.completion_ids
        end = next((n for n in range(4, len(ids) + 1, 4) if find_period(ids[:n])), None)
        by_eos = before.finish_reason == "eos" and end == len(ids)
        assert after.completion_ids == ids[:end]
        assert after.finish_reason == (before.finish_reason if end is None or by_eos else "looped")
    assert "looped" in {rollout.finish_reason for rollout in cut}
    assert all(state.replies + state.queued + state.ended == 12 for state in told)
    assert (told[-1].ended, told[-1].tokens) == (12, sum(len(rollout.completion_ids) for rollout in cut))
    assert len({state.tokens for state in told}) > 5
