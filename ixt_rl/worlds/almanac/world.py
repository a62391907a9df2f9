"""Short articles about people and towns of a made-up land, of mixed truth, safety and care: a text world for SIP.

    mira tolen lives in varn . | mira keeps a dog . the favourite food of mira is soup . ...

The corpus (`almanac_authors`) says what is true more often than any one myth, but few articles are true, safe and
well written at once. Judges (`almanac_judge`) read sentences and know the facts; the teacher (`almanac_teacher`) knows
them too, and errs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, Literal

from transformers import PreTrainedTokenizerFast

from ixt_rl.types import Feedback, Grade
from ixt_rl.worlds.almanac import judge as almanac_judge
from ixt_rl.worlds.almanac.authors import SUFFIX_TOKENS, AlmanacAuthors
from ixt_rl.worlds.almanac.judge import is_false, matched, read_suffix, verdict, verifier
from ixt_rl.worlds.almanac.teacher import teacher
from ixt_rl.worlds.almanac.text import JUNK, PERSON, SUBJECTS, TOWN, UNSAFE, VAGUE, full_name
from ixt_rl.worlds.passages import JudgeFunction, Passage, Split, Teacher
from ixt_rl.worlds.shared import SPECIAL, numbered, word_tokenizer, words_of

LEVELS = ("bad", "poor", "fair", "good", "excellent")
EOS = "<eos>"


def _words() -> tuple[str, ...]:
    """All words, each once, in the order in which they come up."""
    texts = [*map(full_name, SUBJECTS), *JUNK, "."]
    for table in (PERSON, TOWN):
        for values, templates in table.values():
            texts += [*values, *(template.format(s="", v="") for template in templates)]
    texts += [template.format(s="") for table in (VAGUE, UNSAFE) for forms in table.values() for template in forms]
    feedback = (*LEVELS, "critique:", "true", "uncertain", "false", "safe", "unsafe", "tidy", "careless")
    return tuple(dict.fromkeys([word for text in texts for word in text.split()] + [*feedback, *SPECIAL]))


VOCABULARY = _words()
ID = numbered(VOCABULARY)


class AlmanacWorld:
    """Passages, documents, judges and grades of the almanac.

    Args:
        view: "full", all that there is to an article.
    """

    name = "almanac"
    template = "plain"
    views: tuple[str, ...] = ("full",)
    judges: dict[str, Callable[[str], Feedback]] = {"verifier": verifier, "matched": matched}
    sites: tuple[str, ...] = JUNK[:5]
    feedback_templates: dict[str, dict[str, Any]] = {
        "levels": {"levels": LEVELS, "separator": "\n"},
        "critique": {"levels": LEVELS, "critique": True, "separator": "\n"},
    }
    suffix_tokens = SUFFIX_TOKENS
    judge_functions: dict[str, JudgeFunction] = {
        "quality": almanac_judge.judged_quality,
        "safety": almanac_judge.judged_safety,
        "factuality": almanac_judge.judged_factuality,
    }

    def __init__(self, view: str = "full"):
        self.view = view

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """A word-level tokenizer of all words of articles and feedback; encoding adds `<bos>`."""
        return word_tokenizer(ID)

    def corpus(self, count: int, seed: int) -> list[str]:
        """`count` documents, without `<bos>` and `<eos>`; none begins with a prefix for evaluation."""
        authors = AlmanacAuthors(seed)
        passages = (authors.article()[1] for _ in range(count))
        return [f"{passage.prefix} {passage.suffix}" for passage in passages]

    def passages(self, split: Split, count: int, seed: int) -> list[Passage]:
        """`count` articles of a split, cut after their first or second sentence."""
        authors = AlmanacAuthors(seed, split, f"passages/{split}")
        return [authors.article()[1] for _ in range(count)]

    def rows(self, split: Literal["train", "eval"], count: int, seed: int) -> list[dict[str, Any]]:
        """`count` passages of a split as rows: `question` is the prefix, `answer` what the author wrote."""
        return [{"question": one.prefix, "answer": one.suffix} for one in self.passages(split, count, seed)]

    def rewriter(self, error: float, seed: int) -> Teacher:
        """Who writes right suffixes, but for a share of `error`; see `almanac_teacher.teacher`."""
        return teacher(error, seed)

    def measure(self, prefix: str, original: str, suffix: str) -> dict[str, float]:
        """`right`, `quality`, `coherence`, `factuality` and `safety` of a suffix; see `almanac_judge.measure`."""
        return almanac_judge.measure(prefix, original, suffix)

    def target(self, question: str, level: int) -> Feedback:
        """What the verifier says of a typical article of that level; the same for every beginning."""
        return {
            5: verdict(5, 1.0, True, True),
            4: verdict(4, 0.5, True, True),
            3: verdict(3, 1.0, True, False),
            2: verdict(2, 0.0, True, True),
            1: verdict(1, 1.0, False, False),
        }[level]

    def grade(self, question: str, completion_ids: Sequence[int]) -> Grade:
        """Checked: facts, all true. Strict: nothing is wrong with it. Words are right in good and true sentences."""
        words = words_of(VOCABULARY, completion_ids)
        ended = bool(words) and words[-1] == EOS
        reading = read_suffix(question, " ".join(words[:-1] if ended else words))
        said = words[:-1] if ended else words
        fine = [
            good and one is not None and not is_false(one) for one, good in zip(reading.said, reading.good, strict=True)
        ]
        sentence = accumulate((word == "." for word in said), initial=0)  # of each word
        word_right = [fine[index] for index, _ in zip(sentence, said, strict=False)]
        return Grade(
            checked=reading.factuality == 1,
            strict=reading.right and ended,
            reasoned=reading.fresh > 0,
            token_right=(*word_right, *([reading.right] if ended else [])),
            extra={"safe": reading.safe, "coherent": reading.coherence == 1},
        )
