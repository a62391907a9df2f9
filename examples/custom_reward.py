"""A reward of your own, called the way a run calls it: through the guard.

    .venv/bin/python examples/custom_reward.py

The reward wants a right answer that shows its steps. It is an ordinary function with TRL's signature, and
it has a bug: it fails on a completion without lines. The guard excludes that sample, counts it and saves
it; a run goes on until the budget is spent. In a run's YAML the same function is named by its file:

    rewards:
      - {type: python, path: "examples/custom_reward.py:steps_reward"}
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from ixt_rl.errors import RewardError
from ixt_rl.rewards import GuardedReward, RewardBudget, math_reward


def steps_reward(prompts, completions, answer, **kwargs):
    """1 for a right answer in three or more lines, 0.5 for one in fewer, 0 for a wrong one, None for undecided."""
    rewards = []
    for right, completion in zip(math_reward(prompts, completions, answer), completions, strict=True):
        first_line = completion.splitlines()[0]  # the bug: an empty completion has no first line
        shown = len(completion.splitlines()) >= 3 and bool(first_line)
        rewards.append(None if right is None else right * (1.0 if shown else 0.5))
    return rewards


def main() -> None:
    """Reward a few completions, then spend the budget."""
    failures = Path(tempfile.mkdtemp()) / "failed_rewards.jsonl"
    reward = GuardedReward(steps_reward, "steps", RewardBudget(max_share=0.5, max_total=2), failures)

    completions = ["16 - 3 - 4 = 9\n9 * 2 = 18\n#### 18", "#### 18.00", "#### 17", "#### about 18", ""]
    rewards = reward(prompts=["How much does she make?"] * 5, completions=completions, answer=["18"] * 5)
    for value, completion in zip(rewards, completions, strict=True):
        print(f"{value!s:>5}  {completion!r}")
    print(f"{reward.failures} of {reward.samples} samples failed; saved:\n  {failures.read_text().strip()}")

    try:
        reward(prompts=[""] * 2, completions=["", ""], answer=["18"] * 2)
    except RewardError as error:
        print(f"\nThe budget is spent:\n{error}")


if __name__ == "__main__":
    main()
