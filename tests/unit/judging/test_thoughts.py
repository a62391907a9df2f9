"""Thoughts in a text: what is verified of an annotation, what a teacher's answers become, and the text that is left."""

from __future__ import annotations

import random

import pytest

from ixt_rl.conditioning.thought_marks import TEACHER_TAG, Woven, interleaved, predicted_suffix, weave
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.judging import EngineBackend, FunctionBackend
from ixt_rl.models import byte_tokenizer
from ixt_rl.rewriting.thinker import Thinker, chunks
from ixt_rl.types import SamplingParams
from tests.unit.judging.test_engine import CHAT, WritingEngine

SAMPLING = SamplingParams(max_new_tokens=200, temperature=0.0)
TEXT = "It was 3 km away.\n\nAt 6 km/h we came at half past."


def thinker(function, **settings) -> Thinker:
    return Thinker(FunctionBackend(function, "test"), SAMPLING, **settings)


@pytest.mark.parametrize(
    ("original", "annotated", "written"),
    [
        ("a b", "a <think> t </think> b", "a <think> t </think> b"),
        ("a b", "a<think>t</think>b", "a <think> t </think> b"),
        ("a b", "a\n<think>\nt\n</think>\n\nb", "a <think> t </think> b"),
        ("a b", "<think>t</think> a b", "<think> t </think> a b"),
        ("a b", "  a b ", "a b"),
        ("a\n\nb", "a <think>t</think> b", "a\n\n<think> t </think>\nb"),
        ("ab", "a<think>t</think>b", "a<think> t </think>b"),
        ("a b", "a <think>t</think> <think>u</think> b", "a <think> t </think> <think> u </think> b"),
        ("a b", "a b <think>t</think>", "a b<think> t </think>"),
        ("a b\n", "a b\n<think>t</think>", "a b\n<think> t </think>\n"),
        (" a", "<think>t</think>a", " <think> t </think> a"),
        ("a  b", "a  b", "a  b"),
        ("", "<think>t</think>", "<think> t </think> "),
    ],
)
def test_white_space_around_thoughts_is_the_originals_and_the_original_comes_back(original, annotated, written):
    woven = weave(original, annotated)
    assert woven == Woven(written, "", annotated.count("<think>"))
    assert interleaved(written) == original
    assert weave(original, written).text == written  # in its own form it stays as it is


@pytest.mark.parametrize(
    ("annotated", "reason"),
    [
        ("a <think> t <think> u </think> </think> b", "nested thought"),
        ("a <think> t b", "thought not closed"),
        ("a <think> t </think> b <think>", "thought not closed"),
        ("a </think> b", "thought not opened"),
        ("a <think> t </think> </think> b", "thought not opened"),
        ("a <think> </think> b", "empty thought"),
        ("a <think> t </think> c", "text changed: at character 2 'c' stands for 'b'"),
        ("A b", "text changed: at character 0 'A b' stands for 'a b'"),
        ("a <think> t </think> b c", "text changed: at character 3 ' c' stands for ''"),
        ("a <think> t </think>", "text changed: at character 2 '' stands for 'b'"),
        ("a  b", "text changed: at character 2 ' b' stands for 'b'"),
        ("a\nb", "text changed: at character 1 '\\nb' stands for ' b'"),
        ("ab", "text changed: at character 1 'b' stands for ' b'"),
        ("a <Think> t </Think> b", "text changed: at character 2 '<Think> t </Think> b' stands for 'b'"),
    ],
)
def test_what_is_not_the_original_with_thoughts_is_refused_with_the_reason(annotated, reason):
    assert weave("a b", annotated) == Woven(None, reason)


def test_every_single_changed_character_is_found():
    annotated = weave(TEXT, TEXT.replace("At", "<think>3 / 6</think> At")).text
    assert annotated is not None
    start, end = annotated.index("<think>"), annotated.index("</think>") + len("</think>")
    for at in [i for i in range(len(annotated)) if i < start or i >= end]:
        changed = annotated[:at] + ("x" if annotated[at] != "x" else "y") + annotated[at + 1 :]
        assert weave(TEXT, changed).text is None, changed


def test_a_text_that_has_marks_itself_is_never_annotated():
    for original in ("a </think> b", "a <note> b"):
        assert weave(original, original, TEACHER_TAG) == Woven(None, "marks in the original")
    assert weave("a b", "a <note> <think> </note> b", TEACHER_TAG).reason == "nested thought"
    assert weave("a b", "a <think> t </think> b", TEACHER_TAG).reason.startswith("text changed")


def test_any_text_with_thoughts_anywhere_comes_back():
    rng = random.Random(0)
    for _ in range(2000):
        original = "".join(rng.choices("ab \n.", k=rng.randint(0, 12)))
        annotated = original
        for cut in sorted(rng.choices(range(len(original) + 1), k=rng.randint(0, 4)), reverse=True):
            annotated = f"{annotated[:cut]}<think>t{cut}</think>{annotated[cut:]}"
        woven = weave(original, annotated)
        assert woven.text is not None, (original, annotated, woven)
        assert interleaved(woven.text) == original
        assert woven.text.count("<think> t") == annotated.count("<think>")


def test_interleaved_refuses_marks_that_do_not_pair_up():
    with pytest.raises(DataError, match="thought not closed"):
        interleaved("a <think> b")


@pytest.mark.parametrize(
    ("completion", "predicted"),
    [
        (" <think> 3 / 6 </think> at half past.\n", "at half past."),
        ("<think> t </think> a <think> u </think> b", "a b"),
        ("<think> t </think>", ""),
        ("at half past.", None),
        ("<think> t at half past.", None),
        ("t </think> at half past.", None),
        ("<think> <think> t </think> a", None),
    ],
)
def test_the_predicted_suffix_is_what_is_said_outside_of_whole_thoughts(completion, predicted):
    assert predicted_suffix(completion) == predicted


def test_chunks_are_the_text_and_hold_whole_sentences_where_they_fit():
    text = "One. Two is longer.\nThree? " + "x" * 25
    assert chunks(text, 100) == [text]
    assert chunks(text, 20) == ["One. Two is longer.\n", "Three? ", "x" * 20, "x" * 5]
    for limit in range(1, 60):
        assert "".join(chunks(text, limit)) == text
        assert max(map(len, chunks(text, limit))) <= limit
    assert chunks("", 5) == []
    with pytest.raises(ConfigError, match="chunk_characters=0"):
        thinker(lambda fields: "COPY", chunk_characters=0)


def test_a_teacher_annotates_chunk_by_chunk_and_what_it_changed_is_undecided():
    seen = []

    def teach(fields):
        chunk = fields["suffix"]
        seen.append((fields["prefix"], chunk))
        if "plain" in chunk:
            return "COPY"
        if "bad" in chunk:
            return chunk.replace("bad", "good <note> better so </note>")
        return None if "none" in chunk else f"<note> t </note> {chunk.strip()}"

    one = thinker(teach, chunk_characters=12, context_characters=6)
    texts = ["First one. Second thirdfourth", "All plain.", "It is bad.", "First one. None here.", ""]
    assert chunks(texts[0], 12) == ["First one. ", "Second third", "fourth"]
    found = one.annotate(texts)
    assert found == [
        "<think> t </think> First one. <think> t </think> Second third<think> t </think>fourth",
        "All plain.",
        None,
        "<think> t </think> First one. <think> t </think> None here.",
        "",
    ]
    assert interleaved(found[0] or "") == texts[0]
    assert seen[:3] == [("", "First one. "), (" one. ", "Second third"), (" third", "fourth")]
    assert (one.tally.asked, one.tally.copied, one.tally.rewritten) == (7, 1, 5)
    assert one.tally.skipped == {"text changed": 1}
    assert one.annotate(["First one. it is none"]) == [None]  # one chunk is missing, so the document is
    assert one.tally.skipped == {"text changed": 1, "empty": 1}


def test_a_language_model_writes_notes_since_its_own_thinking_is_stripped():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = CHAT.replace("%s", "")
    answer = "<think> I copy it </think>\n<rewrite>\na\n<note>why</note>\nb\n</rewrite>"
    engine = WritingEngine(tokenizer, lambda prompt: answer)
    backend = EngineBackend(engine, tokenizer, "m", batch_size=4, max_prompt_tokens=4000)
    assert Thinker(backend, SAMPLING).annotate(["a b"]) == ["a <think> why </think> b"]
    assert f"<{TEACHER_TAG}>" in engine.prompts[0]
    assert "<think>" not in engine.prompts[0]
