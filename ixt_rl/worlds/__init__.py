"""Small verifiable worlds, made by code: they know every step of every problem."""

from ixt_rl.worlds.addition import AdditionWorld

WORLDS = {"addition": AdditionWorld}

__all__ = ["WORLDS", "AdditionWorld"]
