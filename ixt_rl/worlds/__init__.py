"""Small verifiable worlds, made by code: they know every step of every problem."""

from ixt_rl.worlds.addition import AdditionWorld
from ixt_rl.worlds.almanac import AlmanacWorld
from ixt_rl.worlds.chain import ChainWorld
from ixt_rl.worlds.facts import FactsWorld
from ixt_rl.worlds.thoughts import AnnotatedThoughtsWorld, ThoughtsWorld

WORLDS = {
    "addition": AdditionWorld,
    "chain": ChainWorld,
    "facts": FactsWorld,
    "almanac": AlmanacWorld,
    "thoughts": ThoughtsWorld,
    "thoughts-annotated": AnnotatedThoughtsWorld,
}

__all__ = [
    "WORLDS",
    "AdditionWorld",
    "AlmanacWorld",
    "AnnotatedThoughtsWorld",
    "ChainWorld",
    "FactsWorld",
    "ThoughtsWorld",
]
