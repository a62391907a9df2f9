"""A rewriter leaves good suffixes as their ids, tokenizes the others once, and counts what is no rewrite."""

from __future__ import annotations

import json

import pytest

from ixt_rl.data.suffixes import PrefixSuffix
from ixt_rl.errors import BackendFailed, ConfigError, DataError
from ixt_rl.judging import EndpointBackend, EngineBackend, FunctionBackend, Judge, JudgeCache, Reply
from ixt_rl.judging.candidates import CandidateJudge
from ixt_rl.models import byte_tokenizer
from ixt_rl.rewriting.prompt import COPY, load_rewrite, read_rewrite, shipped_rewrites
from ixt_rl.rewriting.rewriter import Rewriter
from ixt_rl.types import Candidate, SamplingParams
from tests.unit.judging.server import completion, serve
from tests.unit.judging.test_engine import WritingEngine

SAMPLING = SamplingParams(max_new_tokens=200, temperature=0.0)
TOKENIZER = byte_tokenizer()
BOS, EOS = TOKENIZER.bos_token_id, TOKENIZER.eos_token_id
QUALITY = load_rewrite("quality")


def ids(text: str) -> tuple[int, ...]:
    return tuple(TOKENIZER(text, add_special_tokens=False)["input_ids"])


def item(prefix: str = "Once", suffix: str = " upon a time", *, ended: bool = False) -> PrefixSuffix:
    return PrefixSuffix((BOS, *ids(prefix)), (*ids(suffix), *((EOS,) if ended else ())), "k")


def rewriter(function, **settings) -> Rewriter:
    return Rewriter(FunctionBackend(function, "test"), SAMPLING, TOKENIZER, QUALITY, **settings)


def test_rewrites_copies_and_gaps():
    def write(fields):
        assert fields["prefix"] == "Once"
        return {" upon a time": "more", " good": "COPY", " same": "same", " hopeless": None, " blank": "  "}[
            fields["suffix"]
        ]

    one = rewriter(write)
    suffixes = [" upon a time", " good", " same", " hopeless", " blank"]
    assert one([item(suffix=suffix) for suffix in suffixes]) == [
        Candidate("rewrite", ids(" more"), " more"),  # begins as the suffix does
        Candidate("rewrite", ids(" good"), " good"),
        Candidate("rewrite", ids(" same"), " same"),
        None,
        None,
    ]
    tally = one.tally
    assert (tally.asked, tally.copied, tally.rewritten, tally.shortened, tally.skipped) == (5, 2, 1, 0, {"empty": 2})
    assert tally.work.requests == 5


@pytest.mark.parametrize("answer", ["COPY", "copy.", "`COPY`", "a  b"])
def test_copies_are_the_ids_of_the_document_whatever_they_would_be_tokenized_as(answer):
    """ "a  b" as the document's ids, of which a tokenizer makes others."""

    class NeverTokenizes:
        eos_token_id = EOS

        def decode(self, some, skip_special_tokens):
            return TOKENIZER.decode(some, skip_special_tokens=skip_special_tokens).replace("\x00", " ")

    suffix = (*ids("a"), *ids("\x00 b"), EOS)
    cut = PrefixSuffix((BOS, *ids("x")), suffix, "k")
    one = Rewriter(FunctionBackend(lambda fields: answer, "test"), SAMPLING, NeverTokenizes(), QUALITY)
    assert one([cut]) == [Candidate("rewrite", suffix, "a  b")]
    assert one.tally.copied == 1


def test_rewrites_are_cut_and_end_as_the_suffix_does():
    one = rewriter(lambda fields: "abcdefgh", suffix_tokens=6)
    assert one([item(suffix="old", ended=True)]) == [Candidate("rewrite", ids("abcdef"), "abcdef")]
    assert (one.tally.rewritten, one.tally.shortened) == (1, 1)
    room = rewriter(lambda fields: "abc", suffix_tokens=6)
    assert room([item(suffix="old", ended=True), item(suffix="old")]) == [
        Candidate("rewrite", (*ids("abc"), EOS), "abc"),
        Candidate("rewrite", ids("abc"), "abc"),
    ]
    half = rewriter(lambda fields: "aé", suffix_tokens=2)  # the text is that of the ids, half a character included
    assert half([item(suffix="old")])[0].text == "a\ufffd"


def test_what_is_left_of_a_prefixs_first_character_is_not_shown():
    shown = []
    cut = PrefixSuffix((BOS, *ids("漢p")[1:]), ids(" old"), "k")
    rewriter(lambda fields: shown.append(fields["prefix"]) or "COPY")([cut])
    assert shown == ["p"]


TEXTS = [
    "two\nlines",
    'a "quote", and {"rewrite": "x"}',
    "back\\slash \\n",
    "it's 5 > 4",
    "漢字 🙂",
    "<think>no</think>",
    "\t{[(",
]


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_survives_json(text):
    (found,) = rewriter(lambda fields: text)([item(suffix="old")])
    assert found is not None and found.text == text.strip()


def reply(text: str, finish="stop") -> Reply:
    return Reply(text, finish)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("<rewrite>new text</rewrite>", "new text"),
        (
            "<think><rewrite>draft</rewrite></think>Here:\n<rewrite>\nnew\n\ntext\n</rewrite>\nIs it good?",
            "new\n\ntext",
        ),
        ("<rewrite>first</rewrite> or rather <rewrite>second</rewrite>", "second"),
        ("new text", "new text"),
        ("draft</think>\n new text ", "new text"),
        ("I can't help but smile, she said.", "I can't help but smile, she said."),
        ("<rewrite>I'm sorry, I can't help.</rewrite>", "I'm sorry, I can't help."),
        ("COPY", COPY),
        ("<think>fine</think>\n**COPY**", COPY),
        ("<rewrite>COPY</rewrite>", COPY),
        ("It follows well and is correct.\nCOPY", COPY),
    ],
)
def test_answers_that_are_read(answer, text):
    assert read_rewrite(reply(answer), as_json=False) == (text, "")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (reply(""), "empty"),
        (reply("<think>hm, hm"), "empty"),
        (reply("<rewrite> </rewrite>"), "empty"),
        (reply("<rewrite>new te"), "unfinished"),
        (reply("<rewrite>draft</rewrite> no: <rewrite>new te"), "unfinished"),
        (reply("new</rewrite>"), "unfinished"),
        (reply("<rewrite>new te", "length"), "cut off"),
        (reply("<rewrite>new</rewrite>", "length"), "cut off"),
        (reply("", "refused"), "refused"),
        (reply("", "failed"), "failed"),
        (reply("I'm sorry, but I can't do that."), "refused"),
        (reply("I cannot assist with this request."), "refused"),
        (reply("As an AI, I have no opinion."), "refused"),
    ],
)
def test_answers_that_are_no_rewrite(answer, reason):
    assert read_rewrite(answer, as_json=False) == (None, reason)


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ('{"rewrite": "new"}', ("new", "")),
        ('```json\n{"rewrite": "COPY"}\n```', (COPY, "")),
        ('<think>{"rewrite": "draft"}</think>{"rewrite": "new"}', ("new", "")),
        ('{"rewrite": null}', (None, "empty")),
        ('{"rewrite": 5}', (None, "unreadable")),
        ('{"text": "new"}', (None, "unreadable")),
        ("new", (None, "unreadable")),
        ('{"rewrite": "ne', (None, "unfinished")),
    ],
)
def test_constrained_answers(answer, found):
    assert read_rewrite(reply(answer), as_json=True) == found


def test_long_garbage_is_read_in_no_time():
    for piece in ("<rewrite>", "</rewrite>", "<rewrite>a</rewrite>", "i am sorry ", "sorry, ", '{"rewrite": "', "<"):
        for as_json in (False, True):
            read_rewrite(reply(piece * (200_000 // len(piece))), as_json)


def test_a_rewriter_on_an_engine_and_on_a_server():
    def write(prompt: str) -> str:
        assert "<beginning>\nOnce\n</beginning>" in prompt
        if "upon a time" in prompt:
            return "<think>better</think><rewrite>there was</rewrite>"
        return "never ends " * 100 if "long" in prompt else "COPY"

    items = [item(), item(suffix=" fine"), item(suffix=" long")]
    expected = [
        Candidate("rewrite", ids(" there was"), " there was"),
        Candidate("rewrite", ids(" fine"), " fine"),
        None,
    ]
    backend = EngineBackend(WritingEngine(TOKENIZER, write), TOKENIZER, "m", max_prompt_tokens=3000)
    one = Rewriter(backend, SAMPLING, TOKENIZER, QUALITY)
    assert one(items) == expected and one.tally.skipped == {"cut off": 1}
    assert one.tally.work.completion_tokens > 200

    def respond(body, number):
        assert body["response_format"]["json_schema"]["schema"]["required"] == ["rewrite"]
        prompt = body["messages"][0]["content"]
        if "long" in prompt:
            return 200, completion('{"rewrite": "ne', "length"), {}
        return json.dumps({"rewrite": "there was" if "upon a time" in prompt else "COPY"})

    with serve(respond) as served:
        one = Rewriter(EndpointBackend(served.endpoint()), SAMPLING, TOKENIZER, QUALITY)
        assert one(items) == expected and one.tally.skipped == {"cut off": 1}
        assert (one.tally.work.requests, one.tally.work.prompt_tokens) == (3, 300)
        one.close()


def test_equal_questions_are_asked_once_and_the_cache_keeps_them(tmp_path):
    asked = []

    def write(fields):
        asked.append(fields["suffix"])
        return "new"

    items = [item(suffix=" a"), item(suffix=" b"), item(suffix=" a")]
    one = rewriter(write, cache=JudgeCache(tmp_path / "c"))
    first = one(items)
    assert asked == [" a", " b"] and (one.tally.work.requests, one.tally.work.cached) == (2, 1)
    again = rewriter(write, cache=JudgeCache(tmp_path / "c"))
    assert again(items) == first and len(asked) == 2
    assert (again.tally.work.requests, again.tally.work.cached, again.tally.rewritten) == (0, 3, 3)
    other = Rewriter(one.backend, SAMPLING, TOKENIZER, load_rewrite("safety"), cache=again.cache)
    other(items)
    assert len(asked) == 4  # another prompt is another question


def test_more_suffixes_than_the_backend_takes_at_once():
    one = rewriter(lambda fields: "new " + fields["suffix"])
    one.backend.capacity = 3
    found = one([item(suffix=str(n)) for n in range(10)])
    assert [candidate.text for candidate in found] == [f"new {n}" for n in range(10)]
    assert one([]) == []


def test_a_backend_that_is_down_is_given_up_and_nothing_answered_is_asked_again(tmp_path):
    working, asked = True, []

    def write(fields):
        asked.append(fields["suffix"])
        if not working:
            raise ConnectionError("down")
        return "new"

    one = rewriter(write, cache=JudgeCache(tmp_path / "c"), patience=3)
    one([item(suffix="0")])
    working = False
    assert one([item(suffix="0"), item(suffix="1"), item(suffix="2")])[1:] == [None, None]
    assert one.tally.skipped == {"failed": 2} and one.tally.work.failed == 2
    with pytest.raises(BackendFailed, match="3 requests failed in a row"):
        one([item(suffix="3")])
    working, asked[:] = True, []
    assert None not in one([item(suffix=str(n)) for n in range(4)])
    assert asked == ["1", "2", "3"]


def test_one_backend_serves_rewriter_and_judge():
    def both(fields):
        return "longer" if "suffix" in fields else "A" if len(fields["a"]) > len(fields["b"]) else "B"

    backend = FunctionBackend(both, "test")
    (rewrite,) = Rewriter(backend, SAMPLING, TOKENIZER, QUALITY)([item(suffix="old")])
    judge = CandidateJudge(Judge(backend, SAMPLING), {"quality": 1.0})
    (judged,) = judge(["Once"], ["old"], [[Candidate("original", ids("old"), "old"), rewrite]])
    assert [candidate.verdict.score for candidate in judged] == [0.0, 1.0]


@pytest.mark.parametrize("name", ["quality", "safety", "reasoning", "table", "faq", "tutorial", "math"])
def test_shipped_prompts(name):
    prompt = load_rewrite(name)
    assert prompt.name == name and name in shipped_rewrites()
    for as_json in (False, True):
        (message,) = prompt.messages({"prefix": "{one} <b>", "suffix": "two {x}"}, as_json=as_json)
        assert "{one} <b>" in message["content"] and "two {x}" in message["content"]
        assert message["content"].endswith(prompt.answer_format(as_json))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: a\nprompt: '{prefix} {answer_format}'", "the prompt uses"),
        ("name: a\nprompt: '{prefix} {suffix} {answer_format}'\ncomment: why", "and nothing else"),
        ("name: a", "mine.yaml: prompt\n.*Field required"),
        ("name: a\npromt: x", "did you mean `prompt`"),
        ("name: a\nname: b", "the key is there twice"),
        ("name: [", "rewrite prompt"),
    ],
)
def test_prompt_files_that_are_refused(tmp_path, text, words):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(DataError, match=words):
        load_rewrite(file)


def test_what_does_not_exist_is_refused():
    with pytest.raises(DataError, match="quality"):
        load_rewrite("qualty")
    with pytest.raises(ConfigError, match="suffix_tokens=0"):
        rewriter(str, suffix_tokens=0)
