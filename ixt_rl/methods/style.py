"""What a report shows of the style of a factor, whichever method has one."""

from __future__ import annotations

from ixt_rl.methods.spec import Panel

STYLE = Panel(
    "share on tokens without digits",
    (("factor/style_share", "-", "of the factor"), ("factor/style_tokens", "--", "of tokens")),
)
STYLE_WORDS = {
    "factor/style_share": "share of the factor's departures from 1 that falls on tokens without a digit: far above "
    "`factor/style_tokens` the factor weighs how rationales are written, not their numbers",
    "factor/style_tokens": "share of the trained tokens that carry no digit",
}
