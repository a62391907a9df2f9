"""ixt-rl: post-training that conditions models on side information, and trains with or against it."""

from __future__ import annotations

import os

__version__ = "0.1.0"

# In a checkout, trainers/ and rewards/ lie beside ixt_rl/ (a wheel has them inside): let
# `ixt_rl.trainers` and `ixt_rl.rewards` be found there too, with nothing installed.
_here = os.path.dirname(os.path.abspath(__file__))
_root = os.path.dirname(_here)
if not os.path.isdir(os.path.join(_here, "trainers")) and os.path.isfile(os.path.join(_root, "setup.cfg")):
    __path__.append(_root)
