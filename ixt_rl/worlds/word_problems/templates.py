"""The texts of word problems: what is told and asked, and how a reply states its one step.

`{a}` and `{b}` are the problem's numbers, `{name}` and `{other}` two people, `{things}` what is counted, `{step}` the
equation. The operation goes from a to b: a + b, a - b, a * b, a / b. The last three of each operation are held out:
no problem for training and no document has them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

Operation = Literal["add", "subtract", "multiply", "divide"]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)

NAMES = (
    "Mia", "Tom", "Anna", "Ben", "Lena", "Sam", "Nora", "Max", "Julia", "Leo", "Emma", "Paul", "Clara", "Jack", "Sara",
    "David", "Lily", "Adam", "Rosa", "Mark",
)  # fmt: skip
THINGS = (
    "apples", "books", "coins", "cards", "stones", "eggs", "pens", "cups", "flowers", "shells", "stamps", "balls",
    "keys", "candles", "tickets", "oranges",
)  # fmt: skip

_HELD_OUT = 3
_FIELDS = {"name": "[A-Z][a-z]+", "other": "[A-Z][a-z]+", "things": "[a-z]+", "a": "[0-9]+", "b": "[0-9]+"}

_HAS = "{name} has {step} {things}."
_THERE = "There are {step} {things}."

_TEXTS: dict[Operation, tuple[tuple[str, str], ...]] = {
    "add": (
        ("{name} has {a} {things} and buys {b} more. How many {things} does {name} have now?", _HAS),
        ("{name} finds {a} {things} in the morning and {b} in the afternoon. How many {things} are found in all?",
         "{name} finds {step} {things}."),
        ("There are {a} {things} in one box and {b} in another. How many {things} are there together?", _THERE),
        ("{name} has {a} {things}. Then {other} gives {name} {b} {things}. How many {things} does {name} have then?",
         _HAS),
        ("{name} sold {a} {things} on Monday and {b} on Tuesday. How many {things} did {name} sell on both days?",
         "{name} sold {step} {things}."),
        ("On the table are {a} {things}. {name} puts {b} more there. How many {things} are on the table?", _THERE),
        ("{name} has {b} more {things} than {other}, who has {a}. How many {things} does {name} have?", _HAS),
        ("A basket holds {a} {things}. {name} adds another {b}. How many {things} are in the basket at the end?",
         _THERE),
        ("{name} counted {a} {things} at home and {b} at school. What is the total number of {things}?", _THERE),
        ("After lending {b} {things} to {other}, {name} still has {a}. How many {things} did {name} have before?",
         "{name} had {step} {things}."),
    ),
    "subtract": (
        ("{name} has {a} {things} and gives {b} to {other}. How many {things} does {name} have left?", _HAS),
        ("There were {a} {things} in a shop. Then {b} were sold. How many {things} are left?", _THERE),
        ("{name} had {a} {things} and lost {b}. How many {things} remain?", _HAS),
        ("{name} has {a} {things} and {other} has {b}. How many more {things} does {name} have than {other}?",
         "{name} has {step} {things} more."),
        ("{name} needs {a} {things} and has {b}. How many more {things} does {name} need?",
         "{name} needs {step} {things}."),
        ("Of {a} {things}, {b} are red. How many {things} are not red?", _THERE),
        ("{name} and {other} have {a} {things} together. {other} has {b}. How many {things} does {name} have?", _HAS),
        ("{name} packed {a} {things}, but {b} fell out of the bag. How many {things} are still in the bag?", _THERE),
        ("{other} has {b} {things}, and {name} has {a}. What is the difference between the two?",
         "The difference is {step} {things}."),
        ("{name} began the day with {a} {things} and ended it with {b}. How many {things} did {name} use?",
         "{name} used {step} {things}."),
    ),
    "multiply": (
        ("{name} has {a} bags with {b} {things} each. How many {things} does {name} have?", _HAS),
        ("There are {a} rows of {b} {things}. How many {things} are there?", _THERE),
        ("{name} buys {b} {things} every day for {a} days. How many {things} does {name} buy?",
         "{name} buys {step} {things}."),
        ("Each of {a} children gets {b} {things}. How many {things} are needed?", "They need {step} {things}."),
        ("{name} puts {b} {things} on each of {a} plates. How many {things} are on the plates?", _THERE),
        ("A box holds {b} {things}. How many {things} do {a} boxes hold?", "They hold {step} {things}."),
        ("{other} has {b} {things}, and {name} has {a} times as many. How many {things} does {name} have?", _HAS),
        ("{name} fills {a} jars and puts {b} {things} into every jar. How many {things} does {name} need?",
         "{name} needs {step} {things}."),
        ("A shop sells {b} {things} an hour. How many {things} does it sell in {a} hours?",
         "It sells {step} {things}."),
        ("There are {a} shelves, and {b} {things} stand on each shelf. What is the number of {things}?", _THERE),
    ),
    "divide": (
        ("{name} shares {a} {things} equally among {b} friends. How many {things} does each friend get?",
         "Each friend gets {step} {things}."),
        ("There are {a} {things} in {b} bags, the same number in each. How many {things} are in one bag?", _THERE),
        ("{name} packs {a} {things} into boxes of {b}. How many boxes does {name} fill?", "{name} fills {step} boxes."),
        ("{name} lays {a} {things} in {b} equal rows. How many {things} are in a row?", _THERE),
        ("{name} uses {b} {things} a day. How many days do {a} {things} last?", "They last {step} days."),
        ("Together {b} children collected {a} {things}, each the same number. How many {things} did each collect?",
         "Each child collected {step} {things}."),
        ("{name} has {a} {things}, which is {b} times as many as {other} has. How many {things} does {other} have?",
         "{other} has {step} {things}."),
        ("A teacher splits {a} {things} evenly between {b} groups. How many {things} does a group get?",
         "A group gets {step} {things}."),
        ("{name} puts {a} {things} on {b} shelves, equally many on each. How many {things} stand on one shelf?",
         _THERE),
        ("One bag holds {b} {things}. How many bags does {name} need for {a} {things}?",
         "{name} needs {step} bags."),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class ProblemText:
    """One way of telling a problem.

    Args:
        operation: that leads to the answer.
        asks: the problem.
        says: the sentence of a reply with its step.
        held_out: whether only evaluation has it.
    """

    operation: Operation
    asks: str
    says: str
    held_out: bool

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """What all problems of this text match, with their fields as groups."""
        seen: set[str] = set()
        parts = re.split(r"\{(\w+)\}", self.asks)
        for place in range(1, len(parts), 2):
            field = parts[place]
            parts[place] = f"(?P={field})" if field in seen else f"(?P<{field}>{_FIELDS[field]})"
            seen.add(field)
        return re.compile("".join(part if at % 2 else re.escape(part) for at, part in enumerate(parts)))


TEXTS: tuple[ProblemText, ...] = tuple(
    ProblemText(operation, asks, says, held_out=place >= len(texts) - _HELD_OUT)
    for operation, texts in _TEXTS.items()
    for place, (asks, says) in enumerate(texts)
)
