"""The partial-prompt probe: where questions are cut, what counts as verbatim, and the figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from ixt_rl.conditioning.control import text_ids
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.evaluation.contamination.probe import goes_on, partial_prompts, probe
from ixt_rl.evaluation.contamination.probe_counts import probe_record, probe_row, probe_summary
from ixt_rl.evaluation.contamination.probe_job import ProbedSuite, run_probe
from ixt_rl.models import byte_tokenizer
from ixt_rl.types import Rollout, SamplingParams

TEN = "one two  three four\nfive six seven eight nine ten"
KNOWN = "Ann has 3 apples and Bob has 4. How many do both of them have together?"
OTHER = "Which of the numbers from one to a hundred is the largest prime there?"


def test_questions_are_cut_after_words_and_keep_their_blanks():
    prompts, short = partial_prompts("s", [{"question": TEN, "id": "x"}, {"question": "too short"}])
    assert short == 1
    assert [one.share for one in prompts] == [0.4, 0.6, 0.8]
    assert prompts[0].shown == "one two  three four"
    assert prompts[0].rest == "\nfive six seven eight nine ten"
    assert all(one.shown + one.rest == TEN for one in prompts)
    assert [len(one.shown.split()) for one in prompts] == [4, 6, 8]


def test_something_is_shown_and_something_is_left():
    (least, most), _ = partial_prompts("s", [{"question": TEN}], (0.001, 0.999))
    assert (least.shown, most.rest) == ("one", " ten")


@pytest.mark.parametrize("share", [0, 1, 1.5])
def test_a_share_that_is_no_part_is_refused(share):
    with pytest.raises(ConfigError):
        partial_prompts("s", [{"question": TEN}], (share,))


@pytest.mark.parametrize(
    ("text", "rest", "verbatim"),
    [
        (" seven eight", " seven eight", True),
        (" seven\n eight  and more", " seven eight", True),
        ("seven eight.", " seven eight", True),
        (" seven eighteen", " seven eight", False),
        (" seven", " seven eight", False),
        (" Seven eight", " seven eight", False),
        (" is 12", " is 1", False),
        (" is 1?2", " is 1?", True),
    ],
)
def test_verbatim(text, rest, verbatim):
    assert goes_on(text, rest) is verbatim


class Parrot:
    """Knows one text by heart, and goes on with dots after anything else."""

    policy_version = 0

    def __init__(self, tokenizer, known: str):
        self.tokenizer, self.known = tokenizer, known
        self.asked: list[tuple[int, SamplingParams]] = []

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: SamplingParams, n: int = 1, seeds: Sequence[int] | None = None
    ) -> list[list[Rollout]]:
        self.asked.append((len(prompts), sampling))
        return [[self._one(prompt, sampling.max_new_tokens)] for prompt in prompts]

    def _one(self, prompt: Sequence[int], most: int) -> Rollout:
        shown = self.tokenizer.decode(prompt, skip_special_tokens=True)
        said = self.known.removeprefix(shown) if self.known.startswith(shown) else "." * most
        ids = tuple(text_ids(self.tokenizer, said))[:most]
        return Rollout(tuple(prompt), ids, (0.0,) * len(ids), "length" if len(ids) == most else "eos", 0)


@pytest.fixture
def tokenizer():
    return byte_tokenizer()


def suite_of(rows, grade=None, name: str = "s") -> ProbedSuite:
    return ProbedSuite(name, rows, *partial_prompts(name, rows), grade)


def probed(tokenizer, rows, grade, batch: int = 96):
    engine = Parrot(tokenizer, KNOWN + " The answer is 7.")
    return engine, run_probe([suite_of(rows, grade)], lambda: engine, tokenizer, 40, batch)


def test_a_model_that_knows_a_question_is_found_out(tokenizer):
    rows = [{"question": OTHER, "answer": "97"}, {"question": KNOWN, "answer": "7"}]

    def grade(graded, texts):
        assert [row["answer"] for row in graded] == ["97"] * 3 + ["7"] * 3
        return [
            SimpleNamespace(score=None if "..." in text else float(f"answer is {row['answer']}." in text))
            for text, row in zip(texts, graded, strict=True)
        ]

    engine, records = probed(tokenizer, rows, grade)
    assert [(one.prompt.index, one.verbatim, one.answered) for one in records] == (
        [(0, False, None)] * 3 + [(1, True, True)] * 3
    )
    assert [one.truncated for one in records] == [True] * 3 + [False] * 3
    assert engine.asked[0][1].temperature == 0
    figures = probe_summary(records, {"s": [None, None]}, {"s": 0}, graded=True)["suites"]["s"]["shares"]["0.6"]
    assert figures["questions"] == 2
    assert (figures["verbatim"]["value"], figures["verbatim"]["count"]) == (0.5, 1)
    assert figures["verbatim"]["low"] < 0.5 < figures["verbatim"]["high"]
    assert (figures["answered"]["value"], figures["undecided"], figures["truncated"]) == (1.0, 0.5, 0.5)
    assert figures["answered_of_verbatim"]["count"] == 1


def test_without_a_grader_only_the_rest_is_decoded(tokenizer):
    rows = [{"question": KNOWN}, {"question": OTHER}]
    engine, records = probed(tokenizer, rows, None, batch=2)
    longest = [max(len(one.prompt.rest) for one in records[at : at + 2]) for at in range(0, 6, 2)]
    assert [(count, sampling.max_new_tokens) for count, sampling in engine.asked] == [(2, 8 + most) for most in longest]
    assert [one.verbatim for one in records] == [True] * 3 + [False] * 3
    figures = probe_summary(records, {"s": [None, None]}, {"s": 3}, graded=False)
    assert "answered" not in figures["suites"]["s"]["shares"]["0.4"]
    assert figures["suites"]["s"]["short"] == 3
    (example,) = figures["examples"]
    assert (example["share"], example["shown"] + example["rest"]) == (0.4, KNOWN)


def test_records_come_back_from_their_lines(tokenizer):
    _, records = probed(tokenizer, [{"question": KNOWN, "id": "k"}], None)
    assert [probe_record(json.loads(json.dumps(probe_row(one)))) for one in records] == records


def test_questions_of_one_cluster_count_as_such(tokenizer):
    rows = [{"question": KNOWN}, {"question": KNOWN}, {"question": OTHER}, {"question": OTHER}]
    _, records = probed(tokenizer, rows, None)
    apart = probe_summary(records, {"s": [None] * 4}, {"s": 0}, graded=False)["suites"]["s"]["shares"]["0.4"][
        "verbatim"
    ]
    joined = probe_summary(records, {"s": ["a", "a", "b", "b"]}, {"s": 0}, graded=False)
    wider = joined["suites"]["s"]["shares"]["0.4"]["verbatim"]
    assert wider["value"] == apart["value"] == 0.5
    assert wider["high"] - wider["low"] > apart["high"] - apart["low"]


def test_an_engine_of_the_library_is_asked(tokenizer):
    from ixt_rl.blocks.model import NewModelBlock
    from ixt_rl.models import new_model
    from ixt_rl.rollout import TransformersEngine

    model = new_model(NewModelBlock(hidden_size=32, heads=2, intermediate_size=64), tokenizer).eval()
    engine = TransformersEngine(model, (tokenizer.eos_token_id,), tokenizer.pad_token_id)
    prompts, _ = partial_prompts("s", [{"question": KNOWN}])
    once, twice = (probe(engine, tokenizer, prompts, [{}], None, 0) for _ in range(2))
    assert once == twice
    assert not any(one.verbatim for one in once)


class Killed(Exception):
    """Ends a job in the middle."""


@pytest.mark.parametrize("whole_batches", range(4))
def test_a_probe_that_was_cut_off_goes_on_to_the_same_records(tokenizer, tmp_path, whole_batches):
    suites = [suite_of([{"question": KNOWN}, {"question": OTHER}]), suite_of([{"question": OTHER}], name="t")]
    settings = {"model": "m"}
    engine = Parrot(tokenizer, KNOWN)
    run_probe(suites, lambda: engine, tokenizer, 0, 2, tmp_path / "whole", settings)
    wanted = (tmp_path / "whole" / "probe.jsonl").read_text()
    assert len(wanted.splitlines()) == 9
    asked = len(engine.asked)

    def kill(done: int, total: int) -> None:
        assert total == 9
        if len(engine.asked) == asked + whole_batches:
            raise Killed

    cut = tmp_path / "cut"
    with pytest.raises(Killed):
        run_probe(suites, lambda: engine, tokenizer, 0, 2, cut, settings, kill)
    with (cut / "probe.jsonl").open("a") as file:
        file.write('{"suite": "s", "ind')  # a line that a kill cut
    records = run_probe(suites, lambda: engine, tokenizer, 0, 2, cut, settings)
    assert (cut / "probe.jsonl").read_text() == wanted
    assert [json.dumps(probe_row(one)) for one in records] == wanted.splitlines()


def test_a_probe_that_is_done_needs_no_engine(tokenizer, tmp_path):
    suites = [suite_of([{"question": KNOWN}])]
    first = run_probe(suites, lambda: Parrot(tokenizer, KNOWN), tokenizer, 0, 2, tmp_path, {"model": "m"})
    again = run_probe(suites, lambda: pytest.fail("opened"), tokenizer, 0, 2, tmp_path, {"model": "m"})
    assert again == first


def test_another_probe_in_the_same_folder_is_refused(tokenizer, tmp_path):
    suites = [suite_of([{"question": KNOWN}])]
    engine = Parrot(tokenizer, KNOWN)
    run_probe(suites, lambda: engine, tokenizer, 0, 2, tmp_path, {"model": "m"})
    with pytest.raises(ConfigError, match='model: "m" there, "n" now'):
        run_probe(suites, lambda: engine, tokenizer, 0, 2, tmp_path, {"model": "n"})
    with pytest.raises(DataError, match="another beginning is asked"):
        run_probe([suite_of([{"question": OTHER}])], lambda: engine, tokenizer, 0, 2, tmp_path, {"model": "m"})
    (tmp_path / "probe.json").unlink()
    with pytest.raises(ConfigError, match="unknown probe"):
        run_probe(suites, lambda: engine, tokenizer, 0, 2, tmp_path, {"model": "m"})
