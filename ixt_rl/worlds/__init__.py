"""Small verifiable worlds, made by code: they know every step of every problem."""

from ixt_rl.worlds.addition import AdditionWorld
from ixt_rl.worlds.chain import ChainWorld
from ixt_rl.worlds.facts import FactsWorld

WORLDS = {"addition": AdditionWorld, "chain": ChainWorld, "facts": FactsWorld}

__all__ = ["WORLDS", "AdditionWorld", "ChainWorld", "FactsWorld"]
