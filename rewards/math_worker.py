"""`ixt_rl.rewards.math.worker` under its former name."""

from ixt_rl.rewards.math.worker import *  # noqa: F403
