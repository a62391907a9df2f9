"""Problems and prefixes: of worlds, of files."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ixt_rl.blocks import checks
from ixt_rl.blocks.rows import TakesRowsBlock, source_name
from ixt_rl.blocks.strict import NonNegativeInt, PositiveFloat, PositiveInt, Rows, Strict, Tokens
from ixt_rl.errors import ConfigError

AdditionName = Literal[
    "addition",
    "addition-told-1x",
    "addition-told-2x",
    "addition-told-5x",
    "addition-shortcut",
    "addition-slips",
    "addition-wrong-keys",
    "addition-no-carry",
]
ADDITIONS: tuple[str, ...] = get_args(AdditionName)
"""Worlds of prompts and rationales as pairs; the others have documents."""

VIEWS = {
    **dict.fromkeys(ADDITIONS, ("sum", "parity", "mod5")),
    "chain": ("full",),
    "facts": ("uncovered", "covered"),
    "almanac": ("full",),
    "thoughts": ("problems", "prefixes"),
    "thoughts-annotated": ("problems", "prefixes"),
    "word-problems": ("full",),
}
"""Views of each world, the default first."""

WORLDS_OF_TEXT: tuple[str, ...] = ("word-problems",)
"""Worlds without a vocabulary: their prompts and replies are for any model's tokenizer."""

_OWN_COLUMNS = ("question", "answer", "prompt", "told_prompt", "completion") + tuple(
    f"told_{kind}_prompt" for kind in ("wrong", "random", "form")
)
"""Names that a row of problems has for itself."""


class WorldDataBlock(Strict):
    """Problems made by code, with a verifier that knows every step."""

    world: Literal[AdditionName, "chain", "facts", "almanac", "thoughts", "thoughts-annotated", "word-problems"]
    view: Literal["sum", "parity", "mod5", "full", "uncovered", "covered", "problems", "prefixes"] = Field(
        "sum",
        description="addition worlds: what the reward checks, the whole sum or only its digit sum mod 2 / mod 5; "
        "chain, almanac, word-problems: full; facts: whether good documents cover the facts asked for; "
        "thoughts: problems, or prefixes of documents",
    )

    @model_validator(mode="before")
    @classmethod
    def _default_view(cls, value: Any) -> Any:
        views = VIEWS.get(value.get("world", ""), ()) if isinstance(value, dict) else ()
        return {"view": views[0], **value} if views else value

    @model_validator(mode="after")
    def _view_of_world(self) -> WorldDataBlock:
        if self.view not in VIEWS[self.world]:
            raise ConfigError(
                f"view={self.view} with world={self.world}",
                reason="the world has no such view",
                remedy=f"write one of {', '.join(VIEWS[self.world])}",
            )
        return self


class PathDataBlock(TakesRowsBlock):
    """Rows of files, of one hub dataset, or of an earlier stage."""

    path: str | None = Field(
        None,
        description="a .jsonl, .json (either may be .gz) or .parquet file, a folder or a pattern of them, or one hub "
        "dataset id",
    )

    @field_validator("path")
    @classmethod
    def _there(cls, value: str | None, info: ValidationInfo) -> str | None:
        return None if value is None else checks.check_data_source(value, info)

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        self.require_one(self.path, "data")
        return self

    @property
    def files(self) -> list[str]:
        """What is read; rows of a stage have to be there."""
        assert self.path is not None, "the run says where the rows of its stages lie"
        return checks.data_files(self.path)

    @property
    def called(self) -> str:
        """What messages call it: its path, or the stage that makes its rows."""
        return self.path or f"stage {self.from_}"


class FileDataBlock(PathDataBlock):
    """Problems from a file, a hub dataset or the rows of an earlier stage, with the names of its fields."""

    name: str | None = Field(None, description="configuration of a hub dataset")
    split: str = "train"
    question: str = Field(
        "question",
        description="field that holds the problem, as text or as a list of messages; here and in all other names of "
        "fields `a.b` is the entry b of field a",
    )
    answer: str = Field(
        "answer",
        description="field that holds the gold answer: text, a number, or a list of answers each of which is right",
    )
    on_missing: Literal["refuse", "drop"] = Field(
        "refuse", description="rows in which a named field is missing, null or empty; dropped ones are counted"
    )
    answer_extract: Literal["none", "last_box", "hashes"] = Field(
        "none", description="how the gold answer lies in its field: alone, in the last \\boxed{}, after ####"
    )
    where: dict[str, list[bool | int | float | str]] = Field(
        {}, description="keep rows whose field has one of these values: text, numbers, true or false, dates as text"
    )
    max_rows: PositiveInt | None = None
    eval_rows: NonNegativeInt = Field(
        0,
        description="rows set aside for evaluation, by a fixed shuffle; 0 where a stage only measures (an evaluate "
        "stage, evaluation.data): all rows are measured",
    )
    group: str | None = Field(
        None, description="rows with equal values of this field are set aside together, such as both orders of a pair"
    )
    columns: list[str] = Field([], description="further fields, which rewards and templates get under their own names")

    @model_validator(mode="after")
    def _free_names(self) -> FileDataBlock:
        taken = [name for name in self.columns if name in _OWN_COLUMNS]
        if taken:
            raise ConfigError(
                f"columns={self.columns}",
                reason=f"a row has a `{taken[0]}` of its own",
                remedy="leave it out; data.question and data.answer map fields to those names",
            )
        return self


class ProblemSourceBlock(FileDataBlock):
    """One of several sources of problems."""

    weight: PositiveFloat = Field(1.0, description="share of the prompts of a batch, relative to the other sources")
    name: str | None = Field(
        None, description="what metrics and rewards call the source; of a hub dataset, its configuration"
    )

    @property
    def source_name(self) -> str:
        if self.name is not None and (self.path is None or checks.on_this_machine(self.path)):
            return source_name(self.name)
        return super().source_name

    @model_validator(mode="after")
    def _free_source(self) -> Self:
        if "source" in self.columns:
            raise ConfigError(
                f"columns={self.columns}",
                reason="a row of several sources has a `source` of its own: the name of the one that it comes from",
                remedy="leave it out, or give the field another name",
            )
        return self


class ProblemMixtureBlock(Strict):
    """Problems of several sources, in proportion to their weights; each with its own fields and rows set aside."""

    sources: Annotated[list[ProblemSourceBlock], Field(min_length=1)]


def problem_files(data: Any) -> list[FileDataBlock]:
    """The blocks of problems in files: those of a mixture, or the one; empty for a world and for prefixes."""
    if isinstance(data, ProblemMixtureBlock):
        return [*data.sources]
    return [data] if isinstance(data, FileDataBlock) else []


def problems_of_world(value: Any, count: int) -> Any:
    """A block with `problems: count` where it does not say how many and has no file: a world has no end."""
    if not isinstance(value, dict) or value.get("problems") is not None:
        return value
    data = value.get("data")
    of_file = isinstance(data, FileDataBlock | ProblemMixtureBlock | PrefixDataBlock) or (
        isinstance(data, dict) and "world" not in data
    )
    return value if of_file else {**value, "problems": count}


class PrefixDataBlock(PathDataBlock):
    """Prefixes of documents in files; the answer is the suffix (thinking mid-training). Needs a `judge` or
    `continuation` reward."""

    text: str = Field("text", description="field of the document")
    suffix_tokens: Tokens = Field(description="tokens at the end of a document that are to be predicted")
    min_prefix_tokens: Tokens = 1
    max_prefix_tokens: Tokens = Field(960, description="longer prefixes lose their beginning")
    max_rows: Rows = Field(10_000, description="documents that are read, those for evaluation included")
    eval_rows: NonNegativeInt = Field(100, description="documents set aside for evaluation")


def _data_tag(value: Any) -> str:
    keys = value if isinstance(value, dict) else getattr(value, "model_fields_set", {})
    if "suffix_tokens" in keys:
        return "prefixes"
    if "sources" in keys:
        return "mixture"
    return "world" if "world" in keys or isinstance(value, WorldDataBlock) else "file"


Data = Annotated[
    Annotated[WorldDataBlock, Tag("world")]
    | Annotated[FileDataBlock, Tag("file")]
    | Annotated[ProblemMixtureBlock, Tag("mixture")]
    | Annotated[PrefixDataBlock, Tag("prefixes")],
    Discriminator(_data_tag),
]
