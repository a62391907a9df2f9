"""ixt-rl: post-training that conditions models on side information, and trains with or against it."""

from __future__ import annotations

import os

from ixt_rl.threads import bound_spinning

__version__ = "0.1.0"

# In a checkout, trainers/ and rewards/ lie beside ixt_rl/ (a wheel has them inside): let
# `ixt_rl.trainers` and `ixt_rl.rewards` be found there too, with nothing installed.
_here = os.path.dirname(os.path.abspath(__file__))
_root = os.path.dirname(_here)
if not os.path.isdir(os.path.join(_here, "trainers")) and os.path.isfile(os.path.join(_root, "setup.cfg")):
    __path__.append(_root)

# OpenMP reads this once, when torch loads it: here is the one place that comes before every import of ours.
TORCH_CAME_FIRST = bound_spinning()
"""Whether torch was loaded before ixt_rl, and with it an OpenMP whose idle threads spin unbounded."""
