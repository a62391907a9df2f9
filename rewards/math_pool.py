"""`ixt_rl.rewards.math.pool` under its former name."""

from ixt_rl.rewards.math.pool import *  # noqa: F403
