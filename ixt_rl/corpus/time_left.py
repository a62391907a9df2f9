"""How long replies that are still to come will take, from those that came and the tokens of those under way.

s seconds so far, W tokens written, E replies ended, L left, each of at most N tokens:

    s L / E              as fast as so far. With the tokens of replies under way in W, W / E is the mean length that one
                         estimates of lives of which some are not over, and L of that length are left at W / s
    ((L + E) N - W) s / W    the most: each as long as it may be; all there is to say before the first has ended
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TimeLeft:
    """An estimate.

    Args:
        seconds: of wall time.
        most: whether it is no more than a bound.
    """

    seconds: float
    most: bool

    def __str__(self) -> str:
        return f"{'at most' if self.most else 'about'} {duration(self.seconds)} left"


def time_left(seconds: float, tokens: float, ended: float, left: float, longest: int) -> TimeLeft | None:
    """See the module; None before anything is known.

    Args:
        seconds: s.
        tokens: W, 0 where nobody can tell.
        ended: E.
        left: L.
        longest: N.
    """
    if seconds <= 0 or left <= 0:
        return None
    most = ((left + ended) * longest - tokens) * seconds / tokens if tokens > 0 else None
    if ended <= 0:
        return None if most is None else TimeLeft(max(0.0, most), True)
    likely = seconds * left / ended
    return TimeLeft(likely, False) if most is None or likely <= most else TimeLeft(max(0.0, most), True)


def duration(seconds: float) -> str:
    """75 -> `1 min 15 s`, 7500 -> `2 h 5 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
