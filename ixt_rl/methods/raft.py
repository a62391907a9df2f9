"""RAFT and RAFT++ (arXiv 2504.11343)."""

from __future__ import annotations

from ixt_rl.blocks.keeping import KeepFields
from ixt_rl.blocks.strict import PositiveFloat


class RaftSection(KeepFields):
    """RAFT: NLL on kept rationales; with `importance_ratio`, RAFT++ (arXiv 2504.11343)."""

    importance_ratio: bool = False
    epsilon: PositiveFloat = 0.2
