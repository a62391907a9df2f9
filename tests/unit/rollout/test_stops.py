"""Stop strings: where a completion ends, by the definition; its ids, log-probs and text."""

from __future__ import annotations

import random

import pytest

from ixt_rl.blocks.model import NewModelBlock
from ixt_rl.blocks.sampling import SamplingBlock
from ixt_rl.errors import ConfigError
from ixt_rl.models import byte_tokenizer, new_model
from ixt_rl.rollout import TransformersEngine
from ixt_rl.rollout.guidance import GuidedEngine
from ixt_rl.rollout.stops import StopWatch, text_before_stop
from ixt_rl.types import SamplingParams
from tests.unit.rollout.stop_tokenizers import byte_tokenizer_of, spaced_tokenizer, stopped_at, text_of, written

TOKENIZERS = {"halves of characters": byte_tokenizer_of(48), "spaced": spaced_tokenizer(), "bytes": byte_tokenizer()}
STOPS = [("END",), ("b\n",), ("答",), ("a答b", "D."), (" a", "b"), (" ",), ("a b", "END."), ("<done>",), ("<done>a",)]


def completion(name: str, stop, rng: random.Random) -> list[int]:
    """Random ids, most of them bytes that are no text; in some a stop string, or its beginning, cut into any tokens."""
    tokenizer = TOKENIZERS[name]
    junk = [rng.choices(range(len(tokenizer)), k=rng.randrange(8)) for _ in range(2)]
    if name == "spaced":
        return [*junk[0], *junk[1], *rng.choices(range(4, len(tokenizer)), k=20)]
    text = rng.choice(stop)
    text = text if "<" in text else text[: rng.randrange(len(text)) + 1]
    return [*junk[0], *written(tokenizer, text, rng), *junk[1]]


def watched(tokenizer, ids, stop) -> int | None:
    watch = StopWatch(tokenizer, stop)
    return next((n for n, token in enumerate(ids, start=1) if watch.add(token)), None)


@pytest.mark.parametrize("stop", STOPS, ids=repr)
@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_completion_ends_with_the_first_token_with_which_its_text_holds_a_stop_string(name, stop):
    """Against decoding everything anew after each token: random ids, most of them bytes that are no text."""
    tokenizer, rng, ended = TOKENIZERS[name], random.Random(0), []
    for _ in range(100):
        ids = completion(name, stop, rng)
        expected = stopped_at(tokenizer, ids, stop)
        assert watched(tokenizer, ids, stop) == expected
        ended.append(expected is not None)
    if not (name == "spaced" and {"b\n", "答", "a答b"} & {*stop}):  # it has no token for these
        assert sum(ended) >= 5


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_text_of_a_completion_ends_before_its_stop_string(name):
    tokenizer, rng = TOKENIZERS[name], random.Random(1)
    for _ in range(300):
        stop = rng.choice(STOPS)
        ids = completion(name, stop, rng)
        end = stopped_at(tokenizer, ids, stop)
        ids = ids[:end]
        whole = tokenizer.decode(ids, skip_special_tokens=False)
        expected = whole[: min(whole.index(one) for one in stop if one in whole)] if end else whole
        assert text_before_stop(tokenizer, ids, stop, skip_special_tokens=False) == expected
        shown = expected.replace("<done>", "").replace("<eos>", "").replace("<pad>", "").replace("<bos>", "")
        text = text_before_stop(tokenizer, ids, stop)
        assert tokenizer.decode(ids, skip_special_tokens=True).startswith(text)
        if not {*ids} & {*tokenizer.all_special_ids} or (name != "spaced" and not {"\ufffd", "<"} & {*shown}):
            assert text == shown
        assert text_before_stop(tokenizer, ids, ()) == tokenizer.decode(ids, skip_special_tokens=True)


def test_of_several_stop_strings_in_one_token_the_first_in_the_text_counts():
    tokenizer = TOKENIZERS["halves of characters"]
    ids = [tokenizer.convert_tokens_to_ids(token) for token in ("a", "ĠEND")]
    assert watched(tokenizer, ids, ("D", "EN")) == 2
    assert text_before_stop(tokenizer, ids, ("D", "EN")) == "a "
    assert text_before_stop(tokenizer, ids, ("ND", "EN", " END")) == "a"


def test_a_stop_string_before_half_a_character_ends_at_once():
    tokenizer = TOKENIZERS["halves of characters"]
    token = next(id for id in range(len(tokenizer)) if tokenizer.decode([id]) == "END\ufffd")
    assert watched(tokenizer, [token, token], ("END",)) == 1


@pytest.mark.parametrize("stop", [("",), ("a", ""), "END", ("a\ufffd",), (7,)])
def test_what_cannot_end_a_completion_is_refused(stop):
    with pytest.raises(ConfigError):
        SamplingParams(4, stop=stop)
    with pytest.raises(ValueError):
        SamplingBlock(max_new_tokens=4, stop=list(stop) if isinstance(stop, tuple) else stop)


def test_settings_without_stop_strings_are_those_of_before():
    assert "stop" not in SamplingParams(4).settings()
    assert SamplingParams(4, stop=("a",)).settings()["stop"] == ("a",)
    assert "stop" not in SamplingBlock(max_new_tokens=4).model_dump()
    assert SamplingBlock(max_new_tokens=4, stop=["a"]).model_dump()["stop"] == ["a"]


# ------------------------------------------------------------------------------------------ engines

SIZE, EOS = 48, (1, 23)
PROMPTS = [[4, 5, 6], [8, 9, 10, 11, 7], [4]]
SEEDS = [11, 22, 33]


@pytest.fixture(scope="module")
def sampled():
    tokenizer = byte_tokenizer_of(SIZE)
    spec = NewModelBlock(hidden_size=32, heads=2, intermediate_size=64, init_std=0.2)
    model = new_model(spec, tokenizer).eval()
    return TransformersEngine(model, EOS, 2, batch_size=7, tokenizer=tokenizer), tokenizer


def flat(groups):
    return [rollout for group in groups for rollout in group]


@pytest.mark.parametrize("stop", [("a",), ("END", "b\n"), ("答", "éa"), ("<done>",)], ids=repr)
def test_the_engine_samples_what_it_would_have_and_ends_it(sampled, stop):
    """Every row has its own random numbers: the same tokens come, up to the end. The prompts hold END, which does not
    count."""
    engine, tokenizer = sampled
    assert any(one in tokenizer.decode(prompt) for one in ("END", "a") for prompt in PROMPTS)
    free = flat(engine.generate(PROMPTS, SamplingParams(24), 40, SEEDS))
    ended = flat(engine.generate(PROMPTS, SamplingParams(24, stop=stop), 40, SEEDS))
    reasons = []
    for before, after in zip(free, ended, strict=True):
        length = stopped_at(tokenizer, before.completion_ids, stop)
        by_eos = before.finish_reason == "eos" and length == len(before.completion_ids)
        assert after.completion_ids == before.completion_ids[:length]
        assert after.logprobs == pytest.approx(before.logprobs[:length], abs=1e-5)
        expected = before.finish_reason if length is None or by_eos else "stop"
        assert after.finish_reason == expected
        reasons.append(expected)
    assert {*reasons} == {"eos", "stop", "length"}


def test_an_eos_that_completes_a_stop_string_is_an_eos(sampled):
    engine, tokenizer = sampled
    stop = (tokenizer.decode([EOS[1]]), "<eos>")
    assert stop[0] == " a"
    rollouts = flat(engine.generate(PROMPTS, SamplingParams(24, seed=0, stop=stop), 30))
    ends = {rollout.completion_ids[-1] for rollout in rollouts if rollout.finish_reason == "eos"}
    assert ends == set(EOS)
    assert all(r.completion_ids[-1] not in EOS for r in rollouts if r.finish_reason != "eos")


def test_a_last_token_that_completes_a_stop_string_is_a_stop(sampled):
    engine, tokenizer = sampled
    for rollout in flat(engine.generate(PROMPTS, SamplingParams(1, seed=0, stop=("a", "b")), 60)):
        text = text_of(tokenizer, rollout.completion_ids)
        by_eos = rollout.completion_ids[0] in EOS
        assert rollout.finish_reason == ("eos" if by_eos else "stop" if {*"ab"} & {*text} else "length")


def test_guided_completions_end_at_stop_strings(sampled):
    engine, tokenizer = sampled
    guided = GuidedEngine(engine.model, EOS, 2, scale=1.5, against=lambda ids: [5, 5], tokenizer=tokenizer)
    free = flat(guided.generate(PROMPTS, SamplingParams(24), 20, SEEDS))
    ended = flat(guided.generate(PROMPTS, SamplingParams(24, stop=("a",)), 20, SEEDS))
    for before, after in zip(free, ended, strict=True):
        assert after.completion_ids == before.completion_ids[: stopped_at(tokenizer, before.completion_ids, ("a",))]
    assert any(after.finish_reason == "stop" for after in ended)


def test_an_engine_that_cannot_read_refuses(sampled):
    engine, _ = sampled
    with pytest.raises(ConfigError, match="no tokenizer"):
        TransformersEngine(engine.model, EOS, 2).generate(PROMPTS, SamplingParams(4, stop=("a",)))
