"""The blocks of stages that train on documents: where they come from, what stands beside them, what is measured."""

from __future__ import annotations

import operator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, ValidationInfo, model_validator

from ixt_rl.blocks import checks
from ixt_rl.blocks.data import WORLDS_OF_TEXT, Data, problems_of_world
from ixt_rl.blocks.duration import PassesBlock
from ixt_rl.blocks.preferences import PairCorpusBlock, PairsBlock
from ixt_rl.blocks.python_name import check_python_name
from ixt_rl.blocks.rows import TakesRowsBlock
from ixt_rl.blocks.sampling import StopStrings
from ixt_rl.blocks.strict import (
    BatchSize,
    Name,
    NonNegativeFloat,
    Parameters,
    PositiveFloat,
    PositiveInt,
    Rows,
    Share,
    Strict,
    Tokens,
)
from ixt_rl.blocks.suites import SuitesBlock
from ixt_rl.blocks.template import PromptBlock, ShippedTemplateName, TemplateName
from ixt_rl.errors import ConfigError, did_you_mean

Level = Annotated[int, Field(ge=1, le=5)]


class WorldCorpusBlock(Strict):
    """Documents of mixed quality, written by code, with a verifier as their judge."""

    world: Literal["chain", "facts", "almanac", "thoughts", "thoughts-annotated", "word-problems"]
    documents: Rows = Field(20_000, description="size of the corpus; it is read again when it ends")
    judge: Literal["verifier", "matched"] = Field(
        "verifier", description="who wrote the feedback: one that knows all (late-stage), or a weaker one (matched)"
    )
    keep_levels: list[Level] = Field([], description="train on documents of these levels only; empty: on all")


class SourceBlock(TakesRowsBlock):
    """Files (or one hub dataset, or the rows of an earlier stage) with a text in each row."""

    path: str | Annotated[list[str], Field(min_length=1)] | None = Field(
        None,
        description=".jsonl, .json (either may be .gz) or .parquet files, a folder or a pattern of them, or one hub "
        "dataset id",
    )
    text: str = Field(
        "text",
        description="field of the document, or of the reply to `prompt`; `a.b` is the entry b of field a",
    )
    prompt: str | None = Field(
        None, description="field of what the text replies to, as text or as messages; sft needs it, or messages"
    )
    messages: str | None = Field(
        None,
        description="field of a conversation, in place of text and prompt (sft): messages of system, user, assistant",
    )
    feedback: str | None = Field(
        "feedback", description="prefix of the feedback columns that `ixt-rl annotate` wrote; null: read none"
    )
    tag: str | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="feedback.template: tag: field that says where a document comes from, such as `url`; default: all "
        "have the source's name",
    )
    weight: PositiveFloat = Field(1.0, description="share in the mixture, relative to the other sources")
    name: str | None = Field(None, description="configuration of a hub dataset")
    split: str = "train"
    control_tokens: bool = Field(
        False,
        description="control tokens spelled out in the text (`<|im_end|>`) are such, for a corpus that is written in a "
        "chat template already; else they are ordinary text",
    )

    @property
    def paths(self) -> list[str]:
        """As a list; empty where the rows are those of a stage that is yet to make them."""
        return [] if self.path is None else [self.path] if isinstance(self.path, str) else self.path

    @model_validator(mode="after")
    def _somewhere(self) -> SourceBlock:
        self.require_one(self.path, "a source")
        return self

    @model_validator(mode="after")
    def _one_kind(self) -> SourceBlock:
        if self.messages is not None and (self.prompt is not None or self.control_tokens):
            other = "prompt" if self.prompt is not None else "control_tokens"
            raise ConfigError(
                f"messages={self.messages!r} with {other}={getattr(self, other)!r}",
                reason="a conversation holds prompts and replies, and the chat template writes what is between them",
                remedy=f"leave {other} out, or messages",
            )
        return self


class FileCorpusBlock(Strict):
    """A weighted mixture of files, streamed: it may be larger than memory."""

    sources: Annotated[list[SourceBlock], Field(min_length=1)]
    keep_levels: list[Level] = Field([], description="train on documents of these levels only; empty: on all")

    @model_validator(mode="after")
    def _files(self, info: ValidationInfo) -> FileCorpusBlock:
        for source in self.sources:
            for path in source.paths:
                checks.check_data_source(path, info)
        return self


def _corpus_tag(value: Any) -> str:
    keys = value if isinstance(value, dict) else getattr(value, "model_fields_set", {})
    return "world" if "world" in keys else "pairs" if "pairs" in keys else "files"


Corpus = Annotated[
    Annotated[WorldCorpusBlock, Tag("world")]
    | Annotated[FileCorpusBlock, Tag("files")]
    | Annotated[PairCorpusBlock, Tag("pairs")],
    Discriminator(_corpus_tag),
]


class FeedbackFormatBlock(Strict):
    """How feedback becomes text; see `ixt_rl.conditioning.FeedbackTemplate`."""

    levels: Annotated[list[str], Field(min_length=5, max_length=5)] = Field(description="worst first")
    scores: bool = False
    critique: bool = False
    separator: str = "\n\n"


def _check_feedback_template(name: str, info: ValidationInfo) -> str:
    """What `python:` names is there, and so is a template of any other name."""
    kind, colon, named = name.partition(":")
    if colon and kind == "python":
        return f"python:{check_python_name(named, info, 'NAME')}"
    known = [*checks.feedback_template_names(), TAG]
    if name not in known:
        raise ConfigError(
            repr(name),
            reason="no template of feedback has that name",
            remedy=f"{did_you_mean(name, known)}known: {', '.join(known)}; or python:FILE.py:NAME, or write one here: "
            "{levels: [five texts, worst first], ...}",
        )
    return name


FeedbackTemplateName = Annotated[str, AfterValidator(_check_feedback_template)]


TAG = "tag"
"""The template that shows where documents come from: no judge reads them."""


class FeedbackBlock(Strict):
    """What stands beside a document in training (IXT, arXiv 2605.20285)."""

    template: FeedbackTemplateName | FeedbackFormatBlock | None = Field(
        None,
        description="levels, critique, tokens, fields of your own, or python:FILE.py:NAME, an object with render and "
        "parse; tag: where a document comes from, without a judge; null: plain next-token prediction",
    )
    position: Literal["before", "after"] = "before"
    dropout: Share = Field(0.0, description="share of annotated documents shown without their feedback, drawn anew")
    fraction: Share = Field(1.0, description="share of documents that count as annotated, chosen by content hash")
    cooldown: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0,
        exclude_if=operator.not_,
        description="last share of the updates, which show no feedback (MeCo: 0.1), so that inference needs none",
    )
    train: bool | None = Field(None, description="feedback tokens in the loss; default: yes, and no for sft")
    shuffle: bool = Field(False, description="control: every document gets another's feedback (worlds and pairs)")


class GuidanceBlock(Strict):
    """The first wish against another one, as in classifier-free guidance; at the end of the stage."""

    against: Name = Field(description="name of the wish to move away from")
    scale: PositiveFloat = Field(1.5, description="log p = (1 - scale) log p_against + scale log p_first")


WORLD_PROBLEMS = 600
"""Problems of a world, where nobody says how many."""


class DocumentEvaluationBlock(Strict):
    """Measured on held-out problems, with the feedback that is wished for before each."""

    every: PositiveInt = 200
    at_start: bool = Field(
        True, exclude_if=lambda value: value, description="held-out documents and pairs: also before the first update"
    )
    problems: Rows | None = Field(
        None, description="at the end of the stage; default: 600 of a world, of a file all that are held out"
    )
    curve_problems: PositiveInt = Field(200, description="at evaluations on the way, the first of `problems`")
    wishes: dict[Name, int | str | None] = Field(
        {"best": 5},
        description="name: level 1 to 5 or words (`math, best`; a tag), null: no feedback. The first is the arm's own; "
        "metrics of the others are called greedy@<name>/..., and are taken at the end",
    )
    temperatures: list[NonNegativeFloat] = Field([0.0, 1.0], description="0 is greedy; at the end of the stage")
    samples: BatchSize = Field(1, description="completions a problem at each temperature above 0")
    guidance: GuidanceBlock | None = Field(None, description="also measure guided sampling: metrics greedy@guided/...")
    holdout: PositiveInt | Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="files only: documents of each source (a whole number: its first ones; below 1: a share, by their "
        "content) that are never trained; their loss and perplexity are measured, from step 0 on",
    )
    max_new_tokens: Tokens = 64
    stop: StopStrings = Field([], exclude_if=operator.not_, description="texts that end a completion")
    data: Data | None = Field(None, description="problems; default: those of the stage's world")
    template: Annotated[TemplateName | PromptBlock | None, Field(description="prompt; default: the world's")] = None
    suites: SuitesBlock | None = Field(
        None, exclude_if=lambda value: value is None, description="suites of benchmarks, measured beside the rest"
    )
    pairs: PairsBlock | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="preference pairs: by how much the better reply is likelier than the worse, under each wish",
    )

    @property
    def beside(self) -> str | None:
        """What is measured that needs no problems; None: nothing."""
        return next((name for name in ("holdout", "suites", "pairs") if getattr(self, name) is not None), None)

    @model_validator(mode="before")
    @classmethod
    def _problems(cls, value: Any) -> Any:
        beside = isinstance(value, dict) and any(value.get(name) is not None for name in ("holdout", "suites", "pairs"))
        alone = beside and value.get("data") is None
        return value if alone else problems_of_world(value, WORLD_PROBLEMS)

    @model_validator(mode="after")
    def _wishes(self) -> DocumentEvaluationBlock:
        if not self.wishes or not self.temperatures:
            raise ConfigError(
                f"wishes={self.wishes}, temperatures={self.temperatures}",
                reason="nothing would be measured",
                remedy="give at least one of each, or set evaluation: null",
            )
        if self.guidance is not None and self.guidance.against not in list(self.wishes)[1:]:
            raise ConfigError(
                f"guidance.against={self.guidance.against!r}",
                reason="it is no wish beside the first",
                remedy=f"name one of: {', '.join(list(self.wishes)[1:]) or '(add a second wish)'}",
            )
        for name, wish in self.wishes.items():
            if isinstance(wish, int) and not 1 <= wish <= 5:
                raise ConfigError(
                    f"wishes.{name}={wish}", reason="levels go from 1 (worst) to 5 (best)", remedy="write 1 to 5"
                )
        return self


PROBLEM_KEYS = (
    "problems", "curve_problems", "wishes", "temperatures", "samples", "guidance", "max_new_tokens", "stop",
    "template",
)  # fmt: skip
"""Of `DocumentEvaluation`: what says nothing about documents that are held out."""


class PackingBlock(Strict):
    """How token sequences become rows."""

    capacity: Tokens = Field(2048, description="tokens of a row; longer documents are cut")
    packed: bool = Field(True, description="several documents a row, kept apart by masks; false: one a row")


class DocumentBlock(PassesBlock):
    """What stages on documents have beside name, type and init."""

    data: Corpus
    feedback: FeedbackBlock = FeedbackBlock()
    template: ShippedTemplateName | PromptBlock | None = Field(
        None,
        description="sft: how prompts are shown, as the RL stages show them (its `prompt`); without `chat` no chat "
        "template is needed. Default: the prompt is the user's message; of a world, the world's own",
    )
    train_turns: Literal["all", "last"] = Field(
        "all", description="sft on conversations: which of the assistant's replies are trained"
    )
    chat_template_kwargs: dict[str, Any] = Field(
        {}, description="sft: variables of the tokenizer's chat template, such as {enable_thinking: false}"
    )
    packing: PackingBlock = PackingBlock()
    batch_size: BatchSize = Field(8, description="rows of each update")
    micro_batch_size: BatchSize | None = Field(None, description="rows in one forward pass; default: all")
    ema: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="decay of a moving average of the weights, which is evaluated and saved in their place"
    )
    evaluation: DocumentEvaluationBlock | None = None
    judge_parameters: Parameters | None = Field(
        None, description="parameters of the judge, for the FLOPs of annotation; default: those of the model"
    )
    gradient_checkpointing: bool = False
    checkpoint_every: PositiveInt | None = None

    @model_validator(mode="after")
    def _judged_world(self) -> DocumentBlock:
        world = getattr(self.data, "world", "")
        judged = not (world.startswith("thoughts") or world in WORLDS_OF_TEXT)
        if not judged and (self.feedback.template is not None or self.data.keep_levels):
            raise ConfigError(
                f"feedback or keep_levels with world: {world}",
                reason="no judge reads that world's documents",
                remedy="leave both out, or take world: chain or facts",
            )
        return self
