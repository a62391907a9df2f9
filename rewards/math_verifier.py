"""`ixt_rl.rewards.math.verifier` under its former name."""

from ixt_rl.rewards.math.verifier import *  # noqa: F403
