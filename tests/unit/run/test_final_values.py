"""A stage's last figures: means of what goes up and down, the last of what only grows."""

from __future__ import annotations

from types import SimpleNamespace

from ixt_rl.run.final_values import final_values


def test_totals_are_the_last_rows_and_the_rest_means_over_the_last_steps(tmp_path):
    rows = [
        {"phase": "train", "step": n, "num_tokens": 100 * n, "tokens": 90 * n, "flops/train": 9.0 * n, "loss": float(n)}
        for n in range(1, 11)
    ]
    folder = SimpleNamespace(metrics=lambda: rows, final_metrics=dict, path=tmp_path)
    assert final_values(folder) == {"num_tokens": 1000, "tokens": 900, "flops/train": 90.0, "loss": 8.5}  # type: ignore[arg-type]
