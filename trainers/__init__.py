"""Trainers, a file each, on TRL's public trainers. Imported lazily: `from ixt_rl.trainers import InTROTrainer`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ixt_rl.trainers.dpo import DPOConfig, DPOTrainer
    from ixt_rl.trainers.gpg import GPGConfig, GPGTrainer
    from ixt_rl.trainers.grpo import GRPOConfig, GRPOTrainer
    from ixt_rl.trainers.hooks import Signals
    from ixt_rl.trainers.intro import InTROConfig, InTROTrainer
    from ixt_rl.trainers.ixt import IXTConfig, IXTTrainer
    from ixt_rl.trainers.latro import LaTROConfig, LaTROTrainer
    from ixt_rl.trainers.opsd import OPSDConfig, OPSDTrainer
    from ixt_rl.trainers.policy_gradient import PolicyGradientConfig, PolicyGradientTrainer
    from ixt_rl.trainers.pretrain import PretrainConfig, PretrainTrainer
    from ixt_rl.trainers.raft import RAFTConfig, RAFTTrainer
    from ixt_rl.trainers.rlcsd import RLCSDConfig, RLCSDTrainer
    from ixt_rl.trainers.rloo import RLOOConfig, RLOOTrainer
    from ixt_rl.trainers.rlp import RLPConfig, RLPTrainer
    from ixt_rl.trainers.rlsd import RLSDConfig, RLSDTrainer
    from ixt_rl.trainers.sdft import SDFTConfig, SDFTTrainer
    from ixt_rl.trainers.sdpo import SDPOConfig, SDPOTrainer
    from ixt_rl.trainers.sip import SIPConfig, SIPTrainer
    from ixt_rl.trainers.star import STaRConfig, STaRTrainer
    from ixt_rl.trainers.where import Where

_HOME = {
    "DPOConfig": "dpo",
    "DPOTrainer": "dpo",
    "GPGConfig": "gpg",
    "GPGTrainer": "gpg",
    "GRPOConfig": "grpo",
    "GRPOTrainer": "grpo",
    "IXTConfig": "ixt",
    "IXTTrainer": "ixt",
    "InTROConfig": "intro",
    "InTROTrainer": "intro",
    "OPSDConfig": "opsd",
    "OPSDTrainer": "opsd",
    "PolicyGradientConfig": "policy_gradient",
    "PolicyGradientTrainer": "policy_gradient",
    "LaTROConfig": "latro",
    "LaTROTrainer": "latro",
    "PretrainConfig": "pretrain",
    "PretrainTrainer": "pretrain",
    "RAFTConfig": "raft",
    "RAFTTrainer": "raft",
    "RLCSDConfig": "rlcsd",
    "RLCSDTrainer": "rlcsd",
    "RLOOConfig": "rloo",
    "RLOOTrainer": "rloo",
    "SDFTConfig": "sdft",
    "SDFTTrainer": "sdft",
    "SDPOConfig": "sdpo",
    "SDPOTrainer": "sdpo",
    "RLSDConfig": "rlsd",
    "RLSDTrainer": "rlsd",
    "RLPConfig": "rlp",
    "RLPTrainer": "rlp",
    "SIPConfig": "sip",
    "SIPTrainer": "sip",
    "STaRConfig": "star",
    "STaRTrainer": "star",
    "Signals": "hooks",
    "Where": "where",
}

__all__ = [
    "DPOConfig",
    "DPOTrainer",
    "GPGConfig",
    "GPGTrainer",
    "GRPOConfig",
    "GRPOTrainer",
    "IXTConfig",
    "IXTTrainer",
    "InTROConfig",
    "InTROTrainer",
    "LaTROConfig",
    "LaTROTrainer",
    "OPSDConfig",
    "OPSDTrainer",
    "PolicyGradientConfig",
    "PolicyGradientTrainer",
    "PretrainConfig",
    "PretrainTrainer",
    "RAFTConfig",
    "RAFTTrainer",
    "RLCSDConfig",
    "RLCSDTrainer",
    "RLOOConfig",
    "RLOOTrainer",
    "RLPConfig",
    "RLPTrainer",
    "RLSDConfig",
    "RLSDTrainer",
    "SDFTConfig",
    "SDFTTrainer",
    "SDPOConfig",
    "SDPOTrainer",
    "SIPConfig",
    "SIPTrainer",
    "STaRConfig",
    "STaRTrainer",
    "Signals",
    "Where",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"ixt_rl.trainers.{_HOME[name]}"), name)
