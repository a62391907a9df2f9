"""Small verifiable worlds, made by code: they know every step of every problem."""

from ixt_rl.worlds.addition.variants import (
    AsCarefulToldWorld,
    FiveTimesAsCarefulToldWorld,
    NoCarryWorld,
    ShortcutWorld,
    SlipsWorld,
    TwiceAsCarefulToldWorld,
    WrongKeysWorld,
)
from ixt_rl.worlds.addition.world import AdditionWorld
from ixt_rl.worlds.almanac.world import AlmanacWorld
from ixt_rl.worlds.chain.world import ChainWorld
from ixt_rl.worlds.facts.world import FactsWorld
from ixt_rl.worlds.thoughts.world import AnnotatedThoughtsWorld, ThoughtsWorld
from ixt_rl.worlds.word_problems.world import WordProblemsWorld

WORLDS = {
    "addition": AdditionWorld,
    "addition-told-1x": AsCarefulToldWorld,
    "addition-told-2x": TwiceAsCarefulToldWorld,
    "addition-told-5x": FiveTimesAsCarefulToldWorld,
    "addition-shortcut": ShortcutWorld,
    "addition-slips": SlipsWorld,
    "addition-wrong-keys": WrongKeysWorld,
    "addition-no-carry": NoCarryWorld,
    "chain": ChainWorld,
    "facts": FactsWorld,
    "almanac": AlmanacWorld,
    "thoughts": ThoughtsWorld,
    "thoughts-annotated": AnnotatedThoughtsWorld,
    "word-problems": WordProblemsWorld,
}

__all__ = [
    "WORLDS",
    "AdditionWorld",
    "AlmanacWorld",
    "AnnotatedThoughtsWorld",
    "ChainWorld",
    "FactsWorld",
    "ThoughtsWorld",
    "WordProblemsWorld",
]
