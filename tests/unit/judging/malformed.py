"""Answers that must not become a verdict, made by the hundred from answers that would."""

from __future__ import annotations

import json
import random

from ixt_rl.judging import Rubric

PROSE = [
    "The text is quite good, I would say four out of five on most axes.",
    "Overall: I like it. 4/5 for style, 5 for the rest.",
    "I cannot judge this text.",
    "As a language model I have no opinion. Which axes do you mean?",
    "Score: 4. Level: 5. Quality: excellent. A and B are both fine, yes or no.",
    "Le texte est bien écrit, je lui donne la note de 4 sur 5.",
    "Der Text ist gut. Urteil: A. Gesamt: 4 von 5.",
    "这篇文章写得很好，总体评分为四分。判定：甲",
    "文章の質は高いです。総合評価は5点満点中4点です。",
    "النص جيد جدا، والتقييم العام أربعة من خمسة.",
    "Текст хороший. Вердикт: да. Оценка 4 из 5.",
]


def good_answer(rubric: Rubric, rng: random.Random) -> str:
    """A well-formed JSON answer."""
    values = {
        name: rng.choice(list(axis.labels)) if axis.labels else rng.randint(int(axis.low), int(axis.high))
        for name, axis in rubric.axes.items()
    }
    return json.dumps({rubric.comment_key: "Well done, with a small gap.", **values})


def truncated(rubric: Rubric, rng: random.Random) -> str:
    whole = good_answer(rubric, rng)
    start = whole.index(":") + 1
    return "Here it is:\n" * rng.randint(0, 1) + whole[: rng.randint(start, len(whole) - 1)]


def out_of_range(rubric: Rubric, rng: random.Random) -> str:
    bad = [7, 0, -1, 10, 15, 5.01, 1e999, float("nan"), True, False, None, "high", "9/10", "80%", "", [4], {}, "4 or 5"]
    bad += ["6/5", "-3", "four", 10**40]
    return json.dumps({"critique": "fine", **{name: rng.choice(bad) for name in rubric.axes}})


def prose(rubric: Rubric, rng: random.Random) -> str:
    return " ".join(rng.sample(PROSE, rng.randint(1, 4)))


def empty(rubric: Rubric, rng: random.Random) -> str:
    return rng.choice(
        ["", " ", "\n\n", "\x00", "```json\n```", "{}", "[]", "null", "\ufeff", "…", "<think></think>", '""']
    )


def only_thinking(rubric: Rubric, rng: random.Random) -> str:
    """A verdict inside of thinking, nested or never closed, is a draft."""
    inner = good_answer(rubric, rng) + "\nVerdict: A\nVerdict: yes\n"
    shapes = ["<think>{}", "<think>a<think>{}</think>", "<think>{}</think>", "{}</think>", "<think><THINK>{}</think>b"]
    shapes += ["<think>a</think><thinking>{}", "{}</think></think>", "[THINK]{}[/THINK]", "<thought>{}<think>"]
    return rng.choice(shapes).replace("{}", inner)


def broken(rubric: Rubric, rng: random.Random) -> str:
    """JSON with a colon, a comma or a bracket gone, or another object."""
    whole = good_answer(rubric, rng)
    return rng.choice(
        [
            whole.replace(": ", " "),
            whole.replace(", ", " "),
            whole[:-1] + "]",
            whole[1:],
            whole.replace('":', '"='),
            json.dumps({"note": 4, "stars": "5/5"}),
            json.dumps([4, 5, 3]),
            '{"' * rng.randint(1, 50),
            "{a:" * rng.randint(9, 50) + "1" + "}" * 50,
            rubric.answer_format(),
            rubric.answer_format(as_json=True),
        ]
    )


def huge(rubric: Rubric, rng: random.Random) -> str:
    """A megabyte."""
    unit = rng.choice(
        ["x", "{", "<think>", '{"', "Verdict: ", "\n", "4/5 ", "`" * 3, "{a:1 1}", "\\", "'", good_answer(rubric, rng)]
    )
    return unit * (1_000_000 // len(unit))


KINDS = {
    truncated: 250,
    out_of_range: 250,
    prose: 120,
    empty: 60,
    only_thinking: 150,
    broken: 150,
    huge: 20,
}


def malformed_answers(rubric: Rubric, seed: int) -> list[tuple[str, str]]:
    """1,000 of (kind, answer)."""
    rng = random.Random(seed)
    return [(make.__name__, make(rubric, rng)) for make, count in KINDS.items() for _ in range(count)]
