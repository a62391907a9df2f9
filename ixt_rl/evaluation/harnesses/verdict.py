"""What another harness is given of one completion, and what it says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HarnessCase:
    """One completion to be judged.

    Args:
        suite: name of the suite, by which harnesses choose their rule.
        text: the completion.
        gold: the gold answer alone.
        solution: the gold solution, which some harnesses read the gold from; "" where the suite has none.
    """

    suite: str
    text: str
    gold: str
    solution: str = ""


@dataclass(frozen=True)
class HarnessVerdict:
    """A verdict by the rules of another harness.

    Args:
        right: True or False as that harness scores it; None where it gives no score.
        extracted: what it compared, in its own spelling; None where it found nothing.
        why: the rule that decided.
    """

    right: bool | None
    extracted: str | None
    why: str
