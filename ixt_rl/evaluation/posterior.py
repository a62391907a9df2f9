"""How far the estimated posterior of a question is from the true one: KL divergences of whole completions, in nats.

    true        pi(z | x, y) = pi(z | x) w(z) / Z,   Z = sum_z pi(z | x) w(z) = pi(y | x)
                w(z) = pi(y | x, z): 1 or 0 where the answer y is read out of z
    estimated   pi(z | x (+) y), the model that is told the answer

With every completion given, sums are exact. Else draws z_i from the policy (n_p) and from the told model (n_q) are
taken for draws of their mixture m = (n_p p + n_q q) / n (Veach and Guibas 1995, the balance heuristic), so that no
weight is above n / n_p. The true posterior's are a_i = p_i w_i / m_i, self-normalised; their effective sample size is
(sum a)^2 / sum a^2. Intervals are those of the linearised estimators, each half of the draws with its own variance;
their degrees of freedom are the effective number of draws that the variance comes from.

KL(true || policy) = -log pi(y | x) where y is read out: what a model that is told nothing would have. An estimate that
is no nearer to the true posterior than that tells no more than the question does.

Where w is 0 for some completion that the told model gives, KL(estimated || true) is infinite: it is therefore that of
the estimate among completions with w > 0, beside the share of its mass that these are.

NumPy only. Shapes: n completions of one question, Q questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ixt_rl.errors import DataError
from ixt_rl.evaluation.statistics.means import MeanValue, mean_value
from ixt_rl.evaluation.statistics.quantiles import t_quantile

LEAST_EFFECTIVE = 16.0
"""Below this effective sample size a divergence is undecided: intervals of so few draws are too short."""

_WHOLE = 1e-3  # by how much probabilities of all completions may miss 1
_ABOVE = 1e-4  # by how much rounding may lift a log-prob above 0


@dataclass(frozen=True)
class Nats:
    """A divergence with its confidence interval; `value` None is undecided, and `why` says for what reason.

    Exact ones have an interval of length 0.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    why: str = ""


@dataclass(frozen=True)
class SequenceKL:
    """Of one question; distributions are those among completions that are decided.

    Args:
        true_told: KL(true || estimated).
        told_true: KL(estimated, among completions that have the answer || true).
        true_policy: KL(true || policy).
        gain: `true_policy - true_told`: how much nearer to the true posterior the told model is than the policy.
        right_policy: Z, how often the policy has the answer; None where no completion is decided.
        right_told: share of the told model's mass on completions with w > 0; None likewise.
        length: mean tokens of a completion of the true posterior; None where that is undecided.
        length_told: the same of the told model.
        effective: effective sample size of the true posterior; None where every completion is given.
        undecided: share of the completions given of which nobody knows whether they have the answer.
        draws: n.
    """

    true_told: Nats
    told_true: Nats
    true_policy: Nats
    gain: Nats
    right_policy: float | None
    right_told: float | None
    length: float | None
    length_told: float
    effective: float | None
    undecided: float
    draws: int

    @property
    def per_token(self) -> float | None:
        """KL(true || estimated) in nats a token: by the chain rule the mean over the true posterior's tokens of the
        divergence of the next one."""
        return None if self.true_told.value is None or not self.length else self.true_told.value / self.length


def sequence_kl(
    log_policy: np.ndarray,
    log_told: np.ndarray,
    log_answer: np.ndarray,
    lengths: np.ndarray,
    told: np.ndarray | None = None,
    *,
    least_effective: float = LEAST_EFFECTIVE,
    level: float = 0.95,
) -> SequenceKL:
    """The divergences of one question; see the head of this file.

    Args:
        log_policy, log_told: float [n], log pi(z | x) and log pi(z | x (+) y) of whole completions.
        log_answer: float [n], log w: 0 right, -inf wrong, between for log pi(y | x, z), nan undecided.
        lengths: [n] tokens of each completion.
        told: bool [n], which ones were drawn from the told model, the others from the policy; None: every completion
            there is, each once.
        least_effective: what effective sample size decides.
        level: of confidence.

    Raises:
        DataError: shapes differ, a log-prob is not finite, no draw is the policy's, or not every completion is there.
    """
    p, q, w_log = (np.asarray(x, np.float64) for x in (log_policy, log_told, log_answer))
    n_tokens = np.asarray(lengths, np.float64)
    drawn = None if told is None else np.asarray(told, bool)
    _check(p, q, w_log, n_tokens, drawn)
    decided = ~np.isnan(w_log)
    has = decided & (w_log > -np.inf)
    w_log = np.where(has, np.minimum(w_log, 0.0), 0.0)
    whole, m = drawn is None, _log_mixture(p, q, drawn)
    policy_over_m, told_over_m = np.exp(p - m), np.exp(q - m)
    if whole:
        _check_whole(policy_over_m.mean(), told_over_m.mean())
    true, right = np.where(has, policy_over_m * np.exp(w_log), 0.0), np.where(has, told_over_m, 0.0)
    # the shares of what is decided; exactly 1 where all is, which says more than its estimate
    parts = [None if decided.all() else np.where(decided, x, 0.0) for x in (policy_over_m, told_over_m)]
    decided_policy, decided_told = (1.0 if x is None else float(x.mean()) for x in parts)
    estimator = _Estimator(drawn, level)
    enough, why = _enough(true, whole, least_effective, "completions with the answer")
    enough_told, why_told = _enough(right, whole, least_effective, "told completions with the answer")
    undecided = Nats(None, why=why)
    if enough:
        # log true - log told = p + w_log - q - log Z + log(decided share of told), and so on
        true_told = estimator.divergence(true, p + w_log - q, minus=true, plus=parts[1])
        true_policy = estimator.divergence(true, w_log, minus=true, plus=parts[0])
        gain = estimator.divergence(true, q - p, minus=parts[1], plus=parts[0])
    else:
        true_told = true_policy = gain = undecided
    told_true = Nats(None, why=why or why_told)
    if enough and enough_told:
        told_true = estimator.divergence(right, q - p - w_log, minus=right, plus=true)
    return SequenceKL(
        true_told=true_told,
        told_true=told_true,
        true_policy=true_policy,
        gain=gain,
        right_policy=float(true.mean() / decided_policy) if decided_policy else None,
        right_told=float(right.mean() / decided_told) if decided_told else None,
        length=float((true * n_tokens).mean() / true.mean()) if enough else None,
        length_told=float((told_over_m * n_tokens).mean() / told_over_m.mean()),
        effective=None if whole else effective_sample_size(true),
        undecided=float(1 - decided.mean()),
        draws=len(p),
    )


def effective_sample_size(weights: np.ndarray) -> float:
    """(sum w)^2 / sum w^2 of weights [n]; 0 where all are 0."""
    return float(weights.sum() ** 2 / (weights**2).sum()) if weights.any() else 0.0


@dataclass(frozen=True)
class _Estimator:
    """Means under weights, with the error of the draws they are made from."""

    told: np.ndarray | None
    level: float

    def divergence(
        self, weights: np.ndarray, values: np.ndarray, *, minus: np.ndarray | None, plus: np.ndarray | None
    ) -> Nats:
        """sum(weights values) / sum(weights) - log mean(minus) + log mean(plus); None counts as 1.

        Linearised, each draw's part is  weights_i (values_i - ratio) / mean(weights) - minus_i / mean(minus) + ...
        """
        total = weights.mean()
        ratio = float((weights * values).mean() / total)
        value, part = ratio, weights * (values - ratio) / total
        for term, sign in ((minus, -1.0), (plus, 1.0)):
            if term is not None:
                value += sign * float(np.log(term.mean()))
                part = part + sign * (term / term.mean() - 1)
        if self.told is None:
            return Nats(value, value, value)
        groups = [part[self.told], part[~self.told]]
        variance = sum(len(x) * x.var(ddof=1) for x in groups if len(x) > 1) / len(part) ** 2
        freedom = max(1.0, effective_sample_size(part**2) - 1)
        half = t_quantile((1 + self.level) / 2, freedom) * float(np.sqrt(variance))
        return Nats(value, value - half, value + half)


def _log_mixture(p: np.ndarray, q: np.ndarray, told: np.ndarray | None) -> np.ndarray:
    """log m [n]; of every completion once, the uniform distribution over them."""
    if told is None:
        return np.full(len(p), -np.log(len(p)))
    shares = np.log([max(float(x.mean()), 1e-300) for x in (~told, told)])
    return np.logaddexp(p + shares[0], q + shares[1])


def _enough(weights: np.ndarray, whole: bool, least: float, of: str) -> tuple[bool, str]:
    if not weights.any():
        return False, f"no {of}"
    found = effective_sample_size(weights)
    if not whole and found < least:
        return False, f"effective sample size {found:.1f} of {of}, least {least:g}"
    return True, ""


def _check(p: np.ndarray, q: np.ndarray, w: np.ndarray, lengths: np.ndarray, told: np.ndarray | None) -> None:
    shapes = [x.shape for x in (p, q, w, lengths, *(() if told is None else (told,)))]
    if len(set(shapes)) > 1 or p.ndim != 1 or not len(p):
        raise DataError(
            f"arrays of shapes {', '.join(map(str, shapes))}",
            reason="each completion has one value in each of them",
            remedy="give arrays of shape (n,), n at least 1",
        )
    if not (np.isfinite(p).all() and np.isfinite(q).all()) or (w > _ABOVE).any():
        raise DataError(
            "log-probs that are not finite, or a log_answer above 0",
            reason="divergences are sums of log-probs, and pi(y | x, z) is at most 1",
            remedy="score every completion under both prompts; log_answer is 0, -inf, between, or nan (undecided)",
        )
    if told is not None and told.all():
        raise DataError(
            "all completions were drawn from the told model",
            reason="weights are bounded only where some are the policy's",
            remedy="draw as many from each",
        )


def _check_whole(policy: float, told: float) -> None:
    if max(abs(policy - 1), abs(told - 1)) > _WHOLE:
        raise DataError(
            f"probabilities that add up to {policy:.4f} (policy) and {told:.4f} (told)",
            reason="without `told` every completion there is has to be given, once",
            remedy="give the others too, or say in `told` which ones were drawn from which model",
        )


# ------------------------------------------------------------------------------------- over questions


@dataclass(frozen=True)
class PosteriorSummary:
    """Means over the questions where the divergence is decided, with t-intervals over these.

    What is undecided is mostly what the policy hardly ever has right, where divergences are largest: beside many
    undecided questions a mean is too low.

    Args:
        true_told, told_true, true_policy, gain: see `SequenceKL`.
        per_token: KL(true || estimated) a token.
        questions: Q.
        undecided: questions where `true_told` is.
        effective: median effective sample size of all questions; None where every completion was given.
        exact: whether that is so.
        right_policy, right_told: means over the questions of which some completion is decided.
        length_told: over all.
        length: over those whose divergence is decided.
    """

    true_told: MeanValue
    told_true: MeanValue
    true_policy: MeanValue
    gain: MeanValue
    per_token: MeanValue
    questions: int
    undecided: int
    effective: float | None
    exact: bool
    right_policy: float | None
    right_told: float | None
    length: float | None
    length_told: float


def over_questions(found: Sequence[SequenceKL], level: float = 0.95) -> PosteriorSummary:
    """The summary of Q questions.

    Raises:
        DataError: there is none.
    """
    if not found:
        raise DataError("0 questions", reason="a mean is over at least one", remedy="measure some, by `sequence_kl`")
    effective = [one.effective for one in found if one.effective is not None]
    names = ("true_told", "told_true", "true_policy", "gain")
    means = {name: mean_value([getattr(one, name).value for one in found], level) for name in names}
    return PosteriorSummary(
        **means,
        per_token=mean_value([one.per_token for one in found], level),
        questions=len(found),
        undecided=sum(one.true_told.value is None for one in found),
        effective=float(np.median(effective)) if effective else None,
        exact=not effective,
        right_policy=mean_value([one.right_policy for one in found]).value,
        right_told=mean_value([one.right_told for one in found]).value,
        length=mean_value([one.length for one in found]).value,
        length_told=float(np.mean([one.length_told for one in found])),
    )
