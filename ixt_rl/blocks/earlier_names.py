"""Names that run files and run folders had before: what each is called now.

A run file with one is refused and told the name of now; the report reads folders made under both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

METRICS: Mapping[str, str] = {
    "kept_share": "rollout/kept",
    "excluded_share": "rollout/undecided",
    "posterior_kl": "factor/kl",
    "identical_share": "candidates/identical",
    "undecided_share": "candidates/undecided",
    "tokens/judged": "tokens/annotate",
    "ratio": "ratio/mean",
    "mismatch/logp_abs": "sampler/logp_abs",
    "mismatch/ratio": "sampler/ratio",
    "mismatch/corrected_share": "sampler/corrected_share",
}
"""Of metrics.jsonl and summary.json; a metric of an evaluation may have `eval_` before it."""

RUN_KEYS: Mapping[str, str] = {"rollout": "engine"}
STAGE_KEYS: Mapping[str, str] = {"rollout": "sampling"}
ENGINE_KEYS: Mapping[str, str] = {"engine": "type"}


def metric_of_now(name: str) -> str:
    """The name a metric has now."""
    plain = name.removeprefix("eval_")
    return name[: len(name) - len(plain)] + METRICS.get(plain, plain)


def metrics_of_now(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of metrics under the names of now."""
    return {metric_of_now(name): value for name, value in row.items()}


def with_names_of_now(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """A block under the names of now, its keys in their order."""
    return {names.get(key, key): value for key, value in values.items()}
