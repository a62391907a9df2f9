"""Importance weights: closed forms, and TRL's own lines on the same input."""

from __future__ import annotations

import ast
import inspect
import math
import textwrap
from types import SimpleNamespace

import pytest
import torch
from trl import GRPOTrainer
from trl.trainer import grpo_trainer

from ixt_rl.errors import ConfigError
from ixt_rl.kernels.correction import Correction

LEVELS_AND_MODES = [(level, mode) for level in ("token", "sequence") for mode in ("truncate", "mask")]


@pytest.mark.parametrize(
    ("level", "mode", "expected"),
    [
        ("token", "truncate", [0.5, 2.0, 2.0, 1.0, 1.75]),
        ("token", "mask", [0.5, 0.0, 0.0, 1.0, 1.75]),
        ("sequence", "truncate", [1.5, 2.0, 1.5, 2.0, 1.75]),
        ("sequence", "mask", [1.5, 0.0, 1.5, 0.0, 1.75]),
    ],
)
def test_weights_by_hand(level, mode, expected):
    """Rows 0 and 1 have two tokens each, row 2 none, row 3 one; products of their ratios: 1.5, 2.5, -, 1.75."""
    log_ratio = torch.tensor([0.5, 2.5, 3.0, 1.0, 1.75]).log()
    weights = Correction(level, mode, cap=2.0).weights(log_ratio, torch.tensor([0, 1, 0, 1, 3]))
    torch.testing.assert_close(weights, torch.tensor(expected))


def trl_ratio(correction: Correction, logps, sampled, mask) -> torch.Tensor:
    """(B, T) or (B, 1): what TRL makes of the same log-probs, by its own lines, taken from its source."""
    source = textwrap.dedent(inspect.getsource(GRPOTrainer._generate_and_score_completions))
    (block,) = (
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.If)
        and ast.unparse(node.test) == "self.use_vllm and self.vllm_importance_sampling_correction"
        and "vllm_importance_sampling_ratio = torch.exp(" in ast.unparse(node)
    )
    trainer = SimpleNamespace(
        use_vllm=True,
        vllm_importance_sampling_correction=True,
        vllm_importance_sampling_mode=f"{correction.level}_{correction.mode}",
        vllm_importance_sampling_clip_max=correction.cap,
        vllm_importance_sampling_clip_min=None,
    )
    names = {
        "self": trainer, "completion_mask": mask, "tool_mask": None, "old_per_token_logps": logps,
        "sampling_per_token_logps": sampled,
    }  # fmt: skip
    exec(compile(ast.Module([block], []), grpo_trainer.__file__, "exec"), vars(grpo_trainer) | names, found := {})
    return found["vllm_importance_sampling_ratio"]


@pytest.mark.parametrize(("level", "mode"), LEVELS_AND_MODES)
def test_weights_are_those_of_trl(level, mode):
    correction = Correction(level, mode, cap=1.3)
    g = torch.Generator().manual_seed(0)
    mask = (torch.arange(20) < torch.tensor([20, 7, 1, 13, 19])[:, None]).int()
    logps = -torch.rand(5, 20, generator=g) * 4
    sampled = logps + 0.15 * torch.randn(5, 20, generator=g)
    sampled[1, 2] = math.nan  # not known: it counts by a ratio of 1
    sampled[0, 3], sampled[3, 1] = logps[0, 3] - 200, logps[3, 1] + 200  # ratios beyond float32 both ways
    kept = mask.bool()
    rows = kept.nonzero()[:, 0]
    ours = correction.weights((logps - sampled)[kept], rows)
    theirs = trl_ratio(correction, logps, sampled, mask).expand(5, 20)[kept]
    assert theirs.unique().numel() >= 3
    assert ours.isfinite().all()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-30)
    changed = correction.changed((logps - sampled)[kept], rows)
    assert changed.any()
    assert not changed.all()
    assert (ours[changed] == (correction.cap if mode == "truncate" else 0)).all()


@pytest.mark.parametrize(("level", "mode"), LEVELS_AND_MODES)
def test_weights_carry_no_gradient_are_fp32_and_follow_their_tokens(level, mode):
    correction = Correction(level, mode, cap=1.1)
    log_ratio = 0.1 * torch.randn(30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = torch.arange(30) // 4
    weights = correction.weights(log_ratio.requires_grad_(), rows)
    assert weights.dtype == torch.float32
    assert not weights.requires_grad
    shuffled = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(correction.weights(log_ratio[shuffled], rows[shuffled]), weights[shuffled])
    assert correction.weights(log_ratio[:0], rows[:0]).shape == (0,)


def test_weights_make_sampled_means_those_of_the_policy():
    """E_mu[min(r, cap) f] over a small vocabulary, exactly: unbiased where the cap is not reached, never above."""
    policy, sampler = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.4, 0.5, 0.1])
    log_ratio, rows = (policy / sampler).log(), torch.arange(3)
    torch.testing.assert_close(sampler * Correction(cap=2.5).weights(log_ratio, rows), policy)
    torch.testing.assert_close(
        sampler * Correction(cap=1.5).weights(log_ratio, rows), torch.minimum(policy, 1.5 * sampler)
    )


@pytest.mark.parametrize(
    "wrong", [{"cap": 0.0}, {"cap": -1.0}, {"cap": math.nan}, {"level": "row"}, {"mode": "clip"}], ids=str
)
def test_settings_without_meaning_are_refused(wrong):
    with pytest.raises(ConfigError, match=str(*wrong)):
        Correction(**wrong)
