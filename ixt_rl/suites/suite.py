"""What a suite is: which rows, which of their fields are question and gold, and how an answer is graded."""

from __future__ import annotations

from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from ixt_rl.blocks.sampling import StopStrings
from ixt_rl.blocks.strict import BatchSize, Name, PositiveInt, Strict, Tokens
from ixt_rl.errors import ConfigError

Form = Literal["auto", "plain", "hashes", "last-box", "first", "letter", "index", "index-from-1", "text"]
SOURCES = ("question", "problem", "Question", "Problem", "input", "prompt", "query")
"""Fields of a question, where a suite names none."""

DEFAULT_QUESTIONS = tuple(f"{{{name}}}" for name in SOURCES)
CHOICES_SHOWN = "\nAnswer Choices: {lettered}"
"""How choices stand behind a question, as in Qwen2.5-Math's harness."""

GOLDS = (
    "answer",
    "Answer",
    "final_answer",
    "ground_truth",
    "gold",
    "target",
    "reward_model.ground_truth",
    "label",
    "solution",
    "Solution",
)
"""Fields of a gold answer, where a suite names none."""

CHOICES = ("choices", "options", "Options")
"""Fields of the choices, where a suite of that kind names none."""


class GoldField(Strict):
    """A field that may hold the gold answer, and how it lies in it."""

    field: str
    form: Form = Field(
        "auto",
        description="plain: as it stands, a list has several accepted ones; first: the first of a list; hashes: "
        "after ####; last-box: in the last \\boxed{}; letter, index (from 0), index-from-1, text: which choice; "
        "auto: what it looks like",
    )
    remove: list[str] = Field([], description="regular expressions whose matches are taken out of it")


class Skip(Strict):
    """Rows that are no part of the suite, by the text of a field; they are counted."""

    field: str
    matches: str = Field(description="a regular expression, found anywhere in the field's text")
    why: str


class Grading(Strict):
    """When an answer is right."""

    rule: Literal["math", "choice", "code", "cases", "instructions"] = Field(
        "math",
        description="math: as the math reward judges; choice: one letter; code: run with its tests; cases: run on "
        "inputs, outputs compared (LiveCodeBench's fields); instructions: those of IFEval, all followed",
    )
    tolerance: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = Field(
        0.0, description="largest relative difference of a number from the gold"
    )


class ProgramTests(Strict):
    """Of a suite of rule code: where the parts of a program lie in a row. Of rule cases `seconds` alone counts."""

    prompt: str = Field("prompt", description="field of the code that a completion goes on from, or defines anew")
    entry: str = Field("entry_point", description="field of the name of the function that is tested")
    tests: str = Field(
        "{test}\ncheck({entry_point})", description="text with {field}: the program's end, which tests it"
    )
    seconds: Annotated[int, Field(gt=0, le=600)] = Field(
        10, description="processor time of one program, or of one of its cases"
    )


class SuiteShot(Strict):
    """A worked example that is shown before the question."""

    question: str
    answer: str


class SuiteSetting(Strict):
    """What a suite has of its own under one preset; null: as the preset has it."""

    prompt: str | None = None
    shot: str | None = None
    shots: Annotated[int, Field(ge=0, le=1000)] | None = Field(None, description="worked examples before the question")
    samples: BatchSize | None = None
    max_new_tokens: Tokens | None = None
    stop: StopStrings | None = None
    note: str = Field("", description="what differs from the harness or the paper, for the report")


class Suite(Strict):
    """A benchmark.

    Where its rows lie is said by `path`, or by `names`, `splits` and `configs`: under the folder of all sets, a folder
    or a file of one of the names holds the files of a split.
    """

    name: Name
    title: str = ""
    about: str = Field("", description="a sentence: what the rows are, where they are from, the licence if known")
    path: str | None = Field(None, description="a file, a pattern or a hub dataset, in place of names under a folder")
    names: list[str] = Field(
        [], description="what folders and files of this set are called; case, - and _ do not count"
    )
    splits: list[Annotated[list[str], Field(min_length=1)]] = Field(
        [["test"]],
        description="alternatives in order: the names of the files that are the set, without endings; algebra/test: "
        "in a folder of the set's",
    )
    configs: list[str] = Field(
        ["main", "default", "data", "all"], description="folders in the set's folder that may hold its files"
    )
    hub_name: str | None = Field(None, description="configuration of a hub dataset at `path`")
    rows: PositiveInt | None = Field(None, description="expected rows; another number is noted")
    keep: dict[str, list[str]] = Field(
        {}, description="keep rows whose field has one of these values; of the fields, the first that the rows have"
    )
    skip: list[Skip] = []
    question: list[str] = Field(
        [*DEFAULT_QUESTIONS],
        min_length=1,
        description="alternatives, the first whose fields a row has: text with {field}, {field:sentence} (ends in a "
        "full stop), {lettered} (the choices), and [[text with {field}]] that is left out where the field is empty",
    )
    gold: list[GoldField] = Field([GoldField(field=name) for name in GOLDS], min_length=1)
    choices: list[str | list[str]] = Field(
        [*CHOICES, ["A", "B", "C", "D", "E"], ["A", "B", "C", "D"]],
        description="of a suite of rule choice, alternatives: a field with all of them, or a field for each",
    )
    shuffle: bool = Field(
        False,
        description="choices of a column each are put in an order drawn from their texts: the first one is right",
    )
    id: list[str] = ["unique_id", "id", "ID", "idx", "qid", "question_id", "pid", "problem_idx"]
    cluster: list[str] = Field([], description="questions with an equal value of this field share a source")
    grading: Grading = Grading()
    code: ProgramTests = ProgramTests()
    shots: str | list[SuiteShot] | None = Field(
        None, description="worked examples: here, or a file of rows with this suite's fields or question and answer"
    )
    settings: dict[str, SuiteSetting] = Field({}, description="by preset: what this suite has of its own under it")

    @property
    def called(self) -> str:
        """How reports call it."""
        return self.title or self.name

    @property
    def kind(self) -> str:
        """What its golds are: `math`, `choice`, `code`, `cases` or `instructions`."""
        return self.grading.rule

    @model_validator(mode="before")
    @classmethod
    def _shown_choices(cls, value: Any) -> Any:
        """Where nothing is said of the question, choices are shown behind it, for suites that have any."""
        grading = value.get("grading") if isinstance(value, dict) else None
        rule = grading.get("rule") if isinstance(grading, dict) else getattr(grading, "rule", None)
        if rule != "choice" or "question" in value:
            return value
        return {**value, "question": [*(f"{{{name}:strip}}{CHOICES_SHOWN}" for name in SOURCES), *DEFAULT_QUESTIONS]}

    @field_validator("question")
    @classmethod
    def _formats(cls, value: list[str]) -> list[str]:
        for text in value:
            check_format(text.replace("[[", "").replace("]]", ""), "question")
        return value

    @model_validator(mode="after")
    def _source(self) -> Suite:
        if self.path is None and not self.names:
            raise ConfigError(
                f"suite {self.name}: no source",
                reason="neither `names` nor `path` says where its rows lie",
                remedy="write names: [what its folder or file is called], or path: FILE.jsonl",
            )
        return self


def fields_of(text: str) -> list[str]:
    """Names of the fields that a format text shows."""
    return [part[1] for part in Formatter().parse(text) if part[1] is not None]


def check_format(text: str, key: str) -> None:
    """Raises ConfigError unless `text` is a format text whose fields have names."""
    try:
        names = fields_of(text)
    except ValueError as error:
        raise ConfigError(
            f"{key}: {text!r:.120}",
            reason=f"it is no format text: {error}",
            remedy="a brace of the text itself is written twice: {{ and }}",
        ) from None
    if any(not name or name.isdigit() for name in names):
        raise ConfigError(
            f"{key}: {text!r:.120}", reason="a field in it has no name", remedy="write {field}, and {{ for a brace"
        )
