"""What a language model is asked to spoil a suffix; its answers are read as those of a rewriter."""

from __future__ import annotations

from importlib import resources

from ixt_rl.rewriting.prompt import REWRITE, RewritePrompt
from ixt_rl.yaml_io import parse_yaml

_FILE = "spoil.yaml"


class SpoilPrompt(RewritePrompt):
    """A rewrite prompt that does not offer to leave the suffix as it is."""

    def answer_format(self, as_json: bool = False) -> str:
        """How the model is told to answer."""
        if as_json:
            return f'Answer with one JSON object, {{"{REWRITE}": "<the worse continuation>"}}.'
        return f"Answer with the worse continuation between <{REWRITE}> and </{REWRITE}>."


def load_spoil_prompt() -> SpoilPrompt:
    """The prompt that comes with the library; give it to a `Rewriter`."""
    text = resources.files("ixt_rl.corpus.examples").joinpath(_FILE).read_text(encoding="utf-8")
    return SpoilPrompt.model_validate(parse_yaml(text, _FILE).value)
