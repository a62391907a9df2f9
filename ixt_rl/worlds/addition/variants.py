"""Addition worlds with another told mode, or another key: where copying that mode, and trusting the key, can fail.

| name | told documents | key |
|---|---|---|
| `addition` | ten times more careful, in the same styles | right |
| `addition-told-1x`, `-2x`, `-5x` | as careful, two and five times more careful | right |
| `addition-shortcut` | state the answer directly in 60 %, untold ones in 6 % | right |
| `addition-slips` | ten times more careful, but 70 % have one wrong digit in any column, untold ones none | right |
| `addition-wrong-keys` | as in `addition` | wrong for 20 % of the training problems |
| `addition-no-carry` | as in `addition` | right; problems to train on have no carry, those of evaluation at least one |

`addition-slips` is long (three in four rationales copy every column, half repeat their steps), and told and untold
styles are the same: its told mode is no better than the untold one in whole rationales, and knows far better which
single digit is right.
"""

from __future__ import annotations

from typing import Literal

from ixt_rl.worlds.addition.author import Habits
from ixt_rl.worlds.addition.problem import AdditionProblem
from ixt_rl.worlds.addition.world import AdditionWorld

LONG = (0.20, 0.74, 0.06)
DIRECT = (0.19, 0.21, 0.60)


class AsCarefulToldWorld(AdditionWorld):
    """Told documents are as careless as untold ones: the told mode is the posterior of the untold one."""

    name = "addition-told-1x"
    habits = Habits(told_noise=1.0)


class TwiceAsCarefulToldWorld(AdditionWorld):
    """Told documents are twice as careful."""

    name = "addition-told-2x"
    habits = Habits(told_noise=0.5)


class FiveTimesAsCarefulToldWorld(AdditionWorld):
    """Told documents are five times as careful."""

    name = "addition-told-5x"
    habits = Habits(told_noise=0.2)


class ShortcutWorld(AdditionWorld):
    """Told documents mostly state the answer without any step."""

    name = "addition-shortcut"
    habits = Habits(told_styles=DIRECT)


class SlipsWorld(AdditionWorld):
    """Told documents are long and careful, and mostly have one wrong digit somewhere."""

    name = "addition-slips"
    habits = Habits(styles=LONG, told_styles=LONG, told_check=0.5, told_slip=0.7)


class WrongKeysWorld(AdditionWorld):
    """A fifth of the training problems has a wrong key."""

    name = "addition-wrong-keys"
    wrong_keys = 0.2


class NoCarryWorld(AdditionWorld):
    """Problems without a carry are trained on, those with one measured: what is learnt has to hold elsewhere."""

    name = "addition-no-carry"

    def in_domain(self, problem: AdditionProblem, split: Literal["train", "eval"]) -> bool:
        carries = any(carry for _, carry in problem.steps())
        return carries == (split == "eval")
