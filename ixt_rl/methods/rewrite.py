"""Rewriting as a stage: suffixes of documents improved, or thoughts put into documents (`ixt-rl rewrite`)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, model_validator

from ixt_rl.blocks import checks
from ixt_rl.blocks.judges import JobRewriterBlock
from ixt_rl.blocks.strict import Parameters, Tokens
from ixt_rl.errors import ConfigError
from ixt_rl.methods.corpus import CorpusStage, shown
from ixt_rl.methods.spec import MethodSpec

THOUGHTS = "thoughts"
"""The prompt that leaves documents whole."""

_OF_SUFFIXES = ("tokenizer", "suffix_tokens", "max_prefix_tokens", "min_prefix_tokens")


class RewriteStage(CorpusStage):
    """A rewriter improves how documents go on, for SIP; or puts thoughts between their sentences."""

    type: Literal["rewrite"]
    rewriter: JobRewriterBlock
    prompt: str = Field(
        description="quality, safety, reasoning; table, faq, tutorial, math, which write another form; or a YAML file, "
        "of suffixes; or thoughts"
    )
    tokenizer: str | None = Field(
        None,
        description="suffixes: folder with the tokenizer of the model that SIP will train; default: the run's model",
    )
    suffix_tokens: Tokens | None = Field(
        None, description="suffixes: tokens of one, EOS included, and most of a rewrite"
    )
    max_prefix_tokens: Tokens = Field(1920, description="suffixes: longest prefix; it loses its beginning")
    min_prefix_tokens: Tokens = Field(1, description="suffixes: shorter documents are skipped")
    rewriter_parameters: Parameters | None = Field(
        None, description="parameters of the rewriter, for FLOPs; default: read from its folder, of others uncounted"
    )

    @property
    def of_suffixes(self) -> bool:
        return self.prompt != THOUGHTS

    @property
    def reads_model(self) -> bool:
        """Whether the tokenizer is that of the run's model."""
        return self.of_suffixes and self.tokenizer is None

    def needed_fields(self, info: ValidationInfo) -> list[str]:
        return ["text"]

    @model_validator(mode="after")
    def _rewritten(self, info: ValidationInfo) -> RewriteStage:
        checks.check_question_file(self.prompt, "prompts", info)
        self.check_fields(["text", "prompt"] if self.of_suffixes else ["text"], "a rewriting")
        given = [name for name in _OF_SUFFIXES if getattr(self, name) != type(self).model_fields[name].default]
        if not self.of_suffixes and given:
            raise ConfigError(
                f"{given[0]} with prompt: {THOUGHTS}",
                reason="thoughts are put into whole documents: nothing is cut, and no ids are stored",
                remedy="leave it out",
            )
        if self.of_suffixes and self.suffix_tokens is None:
            raise ConfigError(
                f"prompt: {self.prompt} without suffix_tokens",
                reason="the length decides what is cut",
                remedy="give the number that SIP will train with",
            )
        return self


SPEC = MethodSpec(
    type="rewrite",
    stage=RewriteStage,
    runner="ixt_rl.run.stages.corpus:rewrite",
    seeded=False,
    makes_model=False,
    makes_rows=True,
    report=shown(
        **{
            "rows/changed": "rows whose text the rewriter changed",
            "rows/copied": "rows that the rewriter left as they are",
            "rows/refused_share": "of the rows asked about, those that the rewriter declined",
            "rows/length_ratio": "tokens of the rewrites, over those of the suffixes in whose place they stand",
            "rows/vocabulary_ratio": "different tokens in the rewrites, over those in these suffixes",
            "rows/new_token_share": "of the rewrites' tokens, those that stand neither in prefix nor in suffix",
        }
    ),
)
