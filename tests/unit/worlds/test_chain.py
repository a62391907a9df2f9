"""The chain world: judges find exactly what authors did, the splits are disjoint, grades take any tokens."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest

from ixt_rl.conditioning.feedback import load_feedback_template
from ixt_rl.worlds import WORLDS, ChainWorld
from ixt_rl.worlds.chain.authors import AUTHORS, ChainAuthors, misconceived
from ixt_rl.worlds.chain.judge import matched, read_document, verifier
from ixt_rl.worlds.chain.text import DIGITS, FILLERS, JUNK, LENGTHS, ChainProblem, solution
from ixt_rl.worlds.chain.world import ID, VOCABULARY
from ixt_rl.worlds.shared import is_eval_text

WORLD = ChainWorld()
BY_HAND = ChainProblem(5, (("+", 0), ("*", 6)))  # 5 + 0 = 5, 5 * 6 = 30 = 4 * 7 + 2
QUESTION = "Q 5 a + 0 b * 6 ?"
SOLUTION = "5 a + 0 = 5 b * 6 = 2 A 2"


def ids(text):
    return [ID[word] for word in text.split()]


@pytest.fixture(scope="module")
def documents():
    """20,000 (author, text, problem or None, verdict)."""
    authors = ChainAuthors(0)
    written = [authors.document() for _ in range(20_000)]
    return [(author, text, (ChainProblem.read(text.split()) or [None])[0], verifier(text)) for author, text in written]


def two_step_problems():
    steps = list(itertools.product("+-*", range(7)))
    return [ChainProblem(start, pair) for start in range(7) for pair in itertools.product(steps, repeat=2)]


def test_a_problem_by_hand():
    assert BY_HAND.question == QUESTION
    assert ChainProblem.read(QUESTION.split()) == (BY_HAND, 9)
    assert BY_HAND.results() == [5, 2]
    assert " ".join(solution(BY_HAND, [5, 2], 2)) == SOLUTION
    assert [misconceived(op, 2, 5, True) for op in "+-*"] == [6, 3, 3]
    assert misconceived("+", 2, 5, False) == 0
    assert misconceived("-", 5, 2, True) == 3


def test_every_two_step_problem_reads_back_and_is_solved():
    problems = two_step_problems()
    assert len(problems) == 3087
    for problem in problems:
        assert ChainProblem.read(problem.question.split()) == (problem, 9)
        (first, x), (second, y) = problem.steps
        assert problem.answer == eval(f"(({problem.start} {first} {x}) {second} {y}) % 7")
        text = f"{problem.question} {' '.join(solution(problem, problem.results(), problem.answer))}"
        assert verifier(text).level == matched(text).level == 5
    held_out = sum(is_eval_text(problem.question) for problem in problems)
    assert 0.08 < held_out / len(problems) < 0.12


def test_any_other_digit_for_a_result_is_found():
    rng = random.Random(0)
    for _ in range(200):
        problem = ChainProblem.random(rng)
        words = solution(problem, problem.results(), problem.answer)
        for at in (*range(5, len(words), 5), len(words) - 1):
            for digit in DIGITS:
                changed = [*words[:at], digit, *words[at + 1 :]]
                verdict = verifier(" ".join([problem.question, *changed]))
                grade = WORLD.grade(problem.question, ids(" ".join([*changed, "<eos>"])))
                same = digit == words[at]
                assert verdict.level == (5 if same else 3 if at == len(words) - 1 else 2)
                assert grade.strict == same
                assert [i for i, right in enumerate(grade.token_right) if not right] == ([] if same else [at])


@pytest.mark.parametrize(
    ("text", "level", "critique"),
    [
        (f"{QUESTION} {SOLUTION}", 5, "all right brief"),
        (f"{QUESTION} 5 so a + 0 = 5 b * 6 = 2 A 2", 5, "all right brief"),
        (f"{QUESTION} 5 so now a + 0 = 5 b * 6 = 2 A 2", 4, "all right wordy"),
        (f"{QUESTION} 5 a + 0 = 5 a + 0 = 5 b * 6 = 2 A 2", 4, "all right wordy"),
        (f"{QUESTION} 5 a + 0 = 5 a + 0 = 3 b * 6 = 4 A 4", 2, "step a wrong"),
        (f"{QUESTION} 5 a + 0 = 5 b * 6 = 2 A 3", 3, "answer wrong"),
        (f"{QUESTION} 5 a + 0 = 3 b * 6 = 4 A 4", 2, "step a wrong"),
        (f"{QUESTION} 5 a + 0 = 5 b * 5 = 4 A 4", 2, "step b wrong"),
        (f"{QUESTION} 4 a + 0 = 4 b * 6 = 3 A 3", 2, "step a wrong"),
        (f"{QUESTION} 5 a + 0 = 5 A 5", 2, "incomplete"),
        (f"{QUESTION} 5 a + 0 = 5 b * 6 = 2", 2, "incomplete"),
        (f"{QUESTION} {SOLUTION} A 2", 2, "incomplete"),
        (f"{QUESTION} 5 a + 0 = 5 b * 6 = 2 c + 1 = 3 A 3", 2, "incomplete"),
        (f"{QUESTION} river cloud", 1, "off topic"),
        ("river cloud", 1, "off topic"),
        (SOLUTION, 1, "off topic"),
        ("", 1, "off topic"),
    ],
)
def test_verdicts_by_hand(text, level, critique):
    verdict = verifier(text)
    assert (verdict.level, verdict.critique) == (level, critique)
    assert bool(verdict.scores) == (level > 1)


@pytest.mark.parametrize(
    ("body", "scores"),
    [
        (SOLUTION, (5, 5, 5, 2)),
        ("5 now so a + 0 = 5 b * 6 = 3 A 3", (1, 3, 4, 2)),
        ("5 now so a + 0 = 5 a + 0 = 5 b * 6 = 2 A 4", (1, 5, 3, 2)),
        ("5 a + 0 = 3 b * 6 = 4 A 2", (5, 1, 5, 2)),
    ],
)
def test_scores_by_hand(body, scores):
    axes = ("correctness", "soundness", "efficiency", "difficulty")
    assert verifier(f"{QUESTION} {body}").scores == dict(zip(axes, scores, strict=True))


def test_the_verdict_equals_what_the_author_did(documents):
    """Every kind of author, every document: level and critique follow from the construction."""
    for author, text, problem, verdict in documents:
        if author == "junk":
            assert verdict.level == 1
            continue
        truth, words = problem.results(), text.split()
        wasteful = len(words) > len(problem.question.split()) + 5 * len(truth) + 3
        if author == "misconception":
            states = [problem.start]
            for label, (operation, operand) in zip("abcd", problem.steps, strict=False):
                at = words.index(label, len(problem.question.split()))
                states.append(int(words[at + 4]))
                assert states[-1] in {misconceived(operation, states[-2], operand, s) for s in (True, False)}
            expected = {True: 4 if wasteful else 5, False: 2}[states[1:] == truth]
        else:
            expected = {"excellent": 5, "verbose": 4, "slip": 2, "wrong answer": 3}[author]
        assert verdict.level == expected, (author, text)
        if expected != 2:
            target = WORLD.target(problem.question, expected)
            assert verdict.critique == target.critique
            assert {**verdict.scores, "efficiency": 0} == {**target.scores, "efficiency": 0}


def test_shares_of_authors_and_levels(documents):
    """The levels of worlds.md's world, 14.1, 40.9, 4.9, 16.7, 23.4 %, within 1.5 points (about 4 standard errors)."""
    authors = Counter(author for author, _, _, _ in documents)
    assert sum(AUTHORS.values()) == 100
    for author, share in AUTHORS.items():
        assert abs(authors[author] / 200 - share) < 1.5
    levels = Counter(verdict.level for _, _, _, verdict in documents)
    for level, share in zip((1, 2, 3, 4, 5), (14.1, 40.9, 4.9, 16.7, 23.4), strict=True):
        assert abs(levels[level] / 200 - share) < 1.5
    lengths = [len(text.split()) for _, text, _, _ in documents]
    assert 30 < sum(lengths) / len(lengths) < 34
    assert {len(p.steps) for _, _, p, _ in documents if p} == set(LENGTHS)


def test_the_matched_judge_is_blind_to_steps(documents):
    """Lucky answers pass it, and nothing else differs beyond the level of a wrong answer."""
    assert matched(f"{QUESTION} 5 a + 0 = 3 b * 6 = 2 A 2").level == 5
    differing = Counter()
    for _, text, _, late in documents[:5000]:
        early = matched(text)
        found = read_document(text)
        if late.level != early.level:
            differing[late.level, early.level] += 1
            lucky = found[1].first_wrong is not None and found[1].answer == found[0].answer
            assert lucky or (late.level, early.level) == (3, 2)
    assert set(differing) == {(3, 2), (2, 5), (2, 4)}


def test_no_evaluation_problem_is_in_a_corpus(documents):
    assert not [text for _, text, problem, _ in documents if problem and is_eval_text(problem.question)]
    train, evaluation = WORLD.rows("train", 2000, 0), WORLD.rows("eval", 600, 99)
    assert all(is_eval_text(row["question"]) for row in evaluation)
    seen = {problem.question for _, _, problem, _ in documents if problem} | {row["question"] for row in train}
    assert not seen & {row["question"] for row in evaluation}
    for row in evaluation:
        assert row["answer"] == str(ChainProblem.read(row["question"].split())[0].answer)


def test_everything_repeats_with_its_seed():
    assert WORLD.corpus(50, 3) == WORLD.corpus(80, 3)[:50] != WORLD.corpus(50, 4)
    assert WORLD.rows("eval", 50, 3) == WORLD.rows("eval", 80, 3)[:50] != WORLD.rows("eval", 50, 4)


@pytest.mark.parametrize("name", WORLD.feedback_templates)
def test_feedback_is_in_the_vocabulary_and_reads_back(name, documents):
    template, tokenizer = load_feedback_template(WORLD.feedback_templates[name]), WORLD.tokenizer()
    judged = [judge(text) for _, text, _, _ in documents[:3000] for judge in WORLD.judges.values()]
    wished = [WORLD.target(row["question"], level) for row in WORLD.rows("eval", 20, 0) for level in range(1, 6)]
    lengths = []
    for feedback in [*judged, *wished]:
        text = template.render(feedback)
        tokens = tokenizer(text + template.separator, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(tokens).split() == text.split()
        assert template.parse(text) == template.shown(feedback)
        lengths.append(len(tokens))
    assert sum(lengths) / len(lengths) <= {"levels": 2, "critique": 12.5}[name]


def test_documents_are_in_the_vocabulary(documents):
    words = {word for _, text, _, _ in documents for word in text.split()}
    assert words <= set(VOCABULARY)
    assert {*DIGITS, *FILLERS, *JUNK} <= words
    tokenizer = WORLD.tokenizer()
    assert len(tokenizer) == len(VOCABULARY) < 128
    assert tokenizer.decode(tokenizer(f"{QUESTION} {SOLUTION}")["input_ids"]) == f"<bos> {QUESTION} {SOLUTION}"


def test_what_is_asked_for_is_what_the_judge_would_say():
    for row in WORLD.rows("eval", 50, 1):
        problem, _ = ChainProblem.read(row["question"].split())
        best = verifier(f"{row['question']} {' '.join(solution(problem, problem.results(), problem.answer))}")
        target = WORLD.target(row["question"], 5)
        assert (best.level, best.scores, best.critique) == (target.level, target.scores, target.critique)
        assert target.scores["difficulty"] == len(problem.steps)
        assert [WORLD.target(row["question"], level).level for level in range(1, 6)] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("completion", "checked", "strict", "reasoned", "brief"),
    [
        (f"{SOLUTION} <eos>", True, True, True, True),
        ("so now we get 5 a + 0 = 5 b * 6 = 2 A 2 <eos>", True, True, True, False),
        (SOLUTION, False, False, True, False),  # cut before <eos>
        ("5 a + 0 = 3 b * 6 = 4 A 2 <eos>", True, False, True, False),
        ("5 A 2 <eos>", True, False, False, False),
        ("5 a + 0 = 5 b * 6 = 2 A <eos>", False, False, True, False),
        ("<eos>", False, False, False, False),
    ],
)
def test_grades_by_hand(completion, checked, strict, reasoned, brief):
    grade = WORLD.grade(QUESTION, ids(completion))
    assert (grade.checked, grade.strict, grade.reasoned) == (checked, strict, reasoned)
    assert grade.extra == {"brief": brief}
    assert len(grade.token_right) == len(completion.split())


@pytest.mark.parametrize("name", ["chain", "facts"])
def test_any_tokens_have_a_grade_and_any_text_a_verdict(name):
    world, rng = WORLDS[name](), random.Random(0)
    tokenizer = world.tokenizer()
    questions = world.rows("eval", 50, 0)
    for _ in range(2000):
        question = rng.choice(questions)["question"]
        tokens = rng.choices(range(len(tokenizer) + 3), k=rng.randrange(30))  # a model may have more ids
        grade = world.grade(question, tokens)
        assert len(grade.token_right) == len(tokens)
        assert not grade.strict
        for judge in world.judges.values():
            assert judge(f"{question} {tokenizer.decode(tokens)}").level in (1, 2, 3, 4, 5)
            assert judge(tokenizer.decode(tokens)).level in (1, 2, 3, 4, 5)
