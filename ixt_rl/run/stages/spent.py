"""The ledger that a model carries from stage to stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ixt_rl.files import read_json
from ixt_rl.ledger import Ledger
from ixt_rl.place import follows
from ixt_rl.run.folder import LEDGER


def spent_before(origin: str) -> dict[str, Any] | None:
    """What the stages spent that led to the model at `origin`; None where nobody counted, and on ranks that follow: the
    first one's counts."""
    return None if follows() else read_json(Path(origin).parent / LEDGER)


def ledger_columns(ledger: Ledger) -> dict[str, float]:
    """What a metrics row says of compute beside `flops`."""
    tokens = ledger.totals()["tokens"]
    return {
        "tokens": tokens.get("train", 0),
        "tokens/annotate": tokens.get("annotate", 0),
        **ledger.columns(),
    }
