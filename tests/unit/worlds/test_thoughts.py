"""The thoughts world: what documents hide, a teacher whose errors are counted, disjoint splits, grades by hand."""

from __future__ import annotations

import random
from itertools import islice

import pytest

from ixt_rl.conditioning import Conditioner, Conditioning
from ixt_rl.conditioning.thought_marks import interleaved
from ixt_rl.data.in_memory import MemoryCorpus
from ixt_rl.data.piece_buffer import IGNORED
from ixt_rl.data.token_rows import PackedRows
from ixt_rl.judging import FunctionBackend
from ixt_rl.rewriting.thinker import Thinker
from ixt_rl.types import Document, SamplingParams
from ixt_rl.worlds import AnnotatedThoughtsWorld, ThoughtsWorld
from ixt_rl.worlds.chain.judge import read_solution
from ixt_rl.worlds.chain.text import ChainProblem
from ixt_rl.worlds.shared import is_eval_text
from ixt_rl.worlds.thoughts.text import Author, Teacher, last_problem, whole, working, written_answer
from ixt_rl.worlds.thoughts.world import ID, VOCABULARY, is_annotated

WORLD = ThoughtsWorld()
PREFIXES = ThoughtsWorld("prefixes")
QUESTION = "Q 5 a + 4 b - 3 ?"  # 5 + 4 = 9 = 7 + 2, 2 - 3 = -1 = 6 - 7
THOUGHT = "<think> 5 a + 4 = 2 b - 3 = 6 </think>"
COUNT = 6000


def ids(text):
    return [ID[word] for word in text.split()]


def questions(document: str) -> list[str]:
    """The problems of a document, as questions."""
    return [f"Q {rest.partition('?')[0]}?" for rest in document.split("Q ")[1:]]


@pytest.fixture(scope="module")
def corpus():
    return WORLD.corpus(COUNT, 0)


def test_documents_say_results_and_no_working(corpus):
    assert WORLD.corpus(50, 0) == corpus[:50]
    assert WORLD.corpus(50, 1) != corpus[:50]
    assert not any(word in document.split() for document in corpus for word in ("<think>", "="))
    two = sum(document.count("Q") == 2 for document in corpus)
    assert two / COUNT == pytest.approx(0.15, abs=0.015)
    different = set(corpus)  # a text that comes again has its mistake again
    wrong = sum(not text.endswith(f" {last_problem(text.rpartition(' A ')[0]).answer}") for text in different)
    assert wrong / len(different) == pytest.approx(0.1, abs=0.012)
    assert all(set(document.split()) <= set(VOCABULARY) for document in corpus)


def test_a_prefix_says_how_its_document_goes_on(corpus):
    for document in corpus[:200]:
        prefix = document.rpartition(" A ")[0]
        assert whole(prefix) == document == f"{prefix} {written_answer(prefix)}"


def test_the_annotated_half_is_half_the_corpus_and_prefixes_are_of_the_other(corpus):
    texts, left_out = WORLD.annotations(COUNT, 0)
    annotated = [document for document in corpus if is_annotated(document)]
    assert len(annotated) / COUNT == pytest.approx(0.5, abs=0.02)
    assert len(texts) + left_out.total() == len(annotated)
    assert AnnotatedThoughtsWorld().corpus(COUNT, 0) == texts
    rows = PREFIXES.rows("train", 2000, 0)
    others = {document for document in corpus if not is_annotated(document)}
    assert {f"{row['question']} {row['answer']}" for row in rows} <= others
    assert [row["question"] for row in PREFIXES.rows("train", 5, 0)] == [row["question"] for row in rows[:5]]


def test_no_document_and_no_training_row_has_an_evaluation_problem(corpus):
    trained = {question for document in corpus for question in questions(document)}
    trained |= {questions(row["question"])[-1] for row in PREFIXES.rows("train", 500, 3)}
    practised = {row["question"] for row in WORLD.rows("train", 500, 3)}
    assert not trained & practised
    trained |= practised
    assert not any(map(is_eval_text, trained))
    asked = [row["question"] for row in WORLD.rows("eval", 500, 3)]
    asked += [questions(row["question"])[-1] for row in PREFIXES.rows("eval", 500, 3)]
    assert all(map(is_eval_text, asked))
    assert not trained & set(asked)
    assert {len(last_problem(row["question"]).steps) for row in WORLD.rows("eval", 500, 3)} == {4}


def test_the_teacher_keeps_the_text_and_errs_as_often_as_it_says(corpus):
    texts, left_out = WORLD.annotations(COUNT, 0)
    assert left_out.keys() == {"text changed"}
    assert left_out.total() / (len(texts) + left_out.total()) == pytest.approx(0.02, abs=0.01)
    assert {interleaved(text) for text in texts} <= {document for document in corpus if is_annotated(document)}
    assert all(text.count("<think>") == text.count(" A ") for text in texts)
    wrong = thoughts = 0
    for text in texts:
        thought = text.rpartition("<think>")[2].partition("</think>")[0].split()
        problem = last_problem(interleaved(text).rpartition(" A ")[0])
        reading = read_solution(problem, [*thought, "A", thought[-1]])
        assert reading.complete
        thoughts += 1
        wrong += reading.first_wrong is not None
    assert wrong / thoughts == pytest.approx(0.4, abs=0.03)
    assert WORLD.annotations(300, 0, Teacher(error=0, miscopies=0))[1].total() == 0


def test_a_slip_is_one_wrong_result_and_the_rest_goes_on_from_it():
    problem = ChainProblem(5, (("+", 4), ("-", 3), ("-", 1)))
    assert " ".join(working(problem)) == "5 a + 4 = 2 b - 3 = 6 c - 1 = 5"
    for slip in range(3):
        words = working(problem, slip, random.Random(slip))
        reading = read_solution(problem, [*words, "A", words[-1]])
        assert reading.first_wrong == slip
        assert reading.complete


def test_the_teacher_as_a_backend_writes_what_the_corpus_has(corpus):
    one = Thinker(FunctionBackend(Teacher(), "teacher"), SamplingParams(200))
    documents = [document for document in corpus if is_annotated(document)][:600]
    found = [text for text in one.annotate(documents) if text is not None]
    texts, _ = WORLD.annotations(COUNT, 0)
    assert found == texts[: len(found)]
    assert one.tally.skipped["text changed"] == 600 - len(found) > 0


@pytest.mark.parametrize(
    ("completion", "checked", "strict", "reasoned"),
    [
        (f"{THOUGHT} A 6 <eos>", True, True, True),
        (f"{THOUGHT} A 6 so we get", True, True, True),
        (f"{THOUGHT} A 3 <eos>", False, False, True),
        ("<think> 5 a + 4 = 1 b - 3 = 5 </think> A 6 <eos>", True, False, True),
        ("<think> 5 b - 3 = 2 </think> A 6 <eos>", True, False, True),
        ("<think> </think> A 6 <eos>", True, False, False),
        ("A 6 <eos>", True, False, False),
        ("A 3 <eos>", False, False, False),
        (f"{THOUGHT} so A 6 <eos>", False, False, True),
        ("<think> 5 a + 4 = 2 b - 3 = 6 A 6 <eos>", False, False, True),
        ("", False, False, False),
    ],
)
def test_grades_of_problems_by_hand(completion, checked, strict, reasoned):
    grade = WORLD.grade(QUESTION, ids(completion))
    assert (grade.checked, grade.strict, grade.reasoned) == (checked, strict, reasoned)
    assert len(grade.token_right) == len(completion.split())


def test_a_prefix_is_matched_by_what_its_author_wrote_to_the_end():
    for prefix in [Author(0).prefix() for _ in range(300)]:
        suffix, problem = written_answer(prefix), last_problem(prefix)
        thought = f"<think> {' '.join(working(problem))} </think>"
        right = suffix == f"A {problem.answer}"
        grade = PREFIXES.grade(prefix, ids(f"{thought} {suffix} <eos>"))
        assert (grade.checked, grade.strict) == (True, right)
        assert not PREFIXES.grade(prefix, ids(f"{thought} {suffix}")).checked  # the document ends there
        assert not PREFIXES.grade(prefix, ids(f"{thought} {suffix} so <eos>")).checked
        assert not PREFIXES.grade(prefix, ids(f"{thought} A {(int(suffix[-1]) + 1) % 7} <eos>")).checked


def test_tokens_are_right_where_a_right_completion_has_them():
    grade = WORLD.grade(QUESTION, ids("<think> 5 a + 4 = 4 </think> A 6 <eos>"))
    assert grade.token_right == (*[True] * 6, *[False] * 5)
    assert WORLD.grade(QUESTION, ids("A 6 <eos>")).token_right == (True, True, True)
    assert WORLD.grade(QUESTION, [len(VOCABULARY) + 5, ID["A"]]).token_right == (False, False)


def test_all_tokens_of_annotated_documents_are_in_the_loss():
    texts, _ = WORLD.annotations(100, 0)
    tokenizer = WORLD.tokenizer()
    corpus = MemoryCorpus([Document(text) for text in texts], seed=0)
    rows = PackedRows(corpus, Conditioner(tokenizer, Conditioning()), capacity=128)
    targets = {tuple(ids(f"{text} <eos>")) for text in texts}
    found = []
    for row in islice(rows, 30):
        begins = row["position_ids"] == 0
        assert ((row["labels"] == IGNORED) == begins).all()  # <bos> alone is nobody's target
        for segment in range(1, int(row["segment_ids"].max()) + 1):
            here = row["segment_ids"] == segment
            found.append(tuple(row["labels"][here & ~begins].tolist()))
    assert set(found) <= targets
    assert len(set(found)) > len(targets) / 2
    assert all(ID["<think>"] in labels and ID["="] in labels for labels in found)
