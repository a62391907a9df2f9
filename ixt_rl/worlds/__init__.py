"""Small verifiable worlds, made by code: they know every step of every problem."""

from ixt_rl.worlds.addition.world import AdditionWorld
from ixt_rl.worlds.almanac.world import AlmanacWorld
from ixt_rl.worlds.chain.world import ChainWorld
from ixt_rl.worlds.facts.world import FactsWorld
from ixt_rl.worlds.thoughts.world import AnnotatedThoughtsWorld, ThoughtsWorld

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
