"""What a batch job is: rows in, the same rows with more columns out, and one backend that is asked.

BatchJob: settings, and what an Asker is made of;   Asker: rows --> questions --> answers --> columns
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import pyarrow as pa

from ixt_rl.corpus.row_group import Piece
from ixt_rl.corpus.rows import CorpusRows
from ixt_rl.errors import ConfigError, DataError, did_you_mean
from ixt_rl.judging.answer import Tally
from ixt_rl.judging.backend import JudgeBackend
from ixt_rl.judging.cache import JudgeCache
from ixt_rl.judging.opening import JudgeSpec, OpenJudge
from ixt_rl.types import SamplingParams

Format = Literal["parquet", "jsonl"]


@dataclass(frozen=True)
class Answered:
    """The new columns of a row, by name; `undecided`: it was asked about, and there is no usable answer."""

    columns: Mapping[str, Any]
    undecided: bool = False


class Asker(ABC):
    """Makes questions of rows and columns of answers, with a backend that is up."""

    @property
    @abstractmethod
    def tally(self) -> Tally:
        """Work since it was made."""

    @abstractmethod
    def questions(self, piece: Piece) -> list[Any]:
        """The question of each row, or an `Answered` for a row that is not asked about."""

    @abstractmethod
    def stream(self, questions: Iterable[Any]) -> Iterator[tuple[int, Answered]]:
        """(index of the question, columns of its row) as answers come; draws questions as there is room for them.

        Raises:
            BackendFailed: the backend answers nothing any more; what it answered is in the cache.
        """

    def replies(self, question: Any) -> int:
        """How many replies a question takes, repairs aside."""
        return 1

    def again(self, source: CorpusRows, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Asks about rows once more, where a job can be checked that way; JSON."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class BatchJob(ABC):
    """What every job has. It can be pickled.

    Args:
        format: of the files written.
        shard_rows: rows of each file but the last.
        prices: per million prompt and per million completion tokens.
        cache: file of the backend's replies; None keeps it in the folder of the output.

    Raises:
        ConfigError: a value that cannot work.
    """

    report: ClassVar[str]  # name of the report's files
    asks: ClassVar[str]  # whom: `judge`
    phase: ClassVar[str]  # while it is asked: `judging`
    doing: ClassVar[str]  # the whole: `annotating`
    renaming: ClassVar[str]  # what to do where rows have a column of a new one's name

    format: Format = "parquet"
    shard_rows: int = 10_000
    prices: tuple[float, float] = (0.0, 0.0)
    cache: Path | None = None

    def __post_init__(self) -> None:
        require_values(("shard_rows", self.shard_rows, self.shard_rows >= 1, "at least one row a file"))

    @property
    @abstractmethod
    def backend(self) -> JudgeSpec:
        """Who is asked."""

    @property
    @abstractmethod
    def longest_reply(self) -> int:
        """Most tokens of a reply."""

    @property
    @abstractmethod
    def reason(self) -> str:
        """Name of the added column that says why a row has no answer."""

    @property
    @abstractmethod
    def by(self) -> str:
        """Name of the added column that says who was asked."""

    @property
    @abstractmethod
    def required(self) -> tuple[str, ...]:
        """Fields that some rows must have."""

    @property
    @abstractmethod
    def wanted(self) -> dict[str, str]:
        """Field -> column, of all that are looked for in the rows."""

    @property
    @abstractmethod
    def mapped(self) -> Mapping[str, str]:
        """Field -> column, of all that the rows have, after `with_columns`."""

    @property
    @abstractmethod
    def types(self) -> dict[str, pa.DataType]:
        """Arrow types of the columns that are added, by name."""

    @abstractmethod
    def check(self) -> None:
        """Refuses, without loading a model, what cannot be started.

        Raises:
            ConfigError, DataError, BackendMissing: see `JudgeSpec.check`.
        """

    @abstractmethod
    def with_columns(self, columns: tuple[str, ...]) -> Self:
        """This job with a column for each of its fields, of rows that have `columns`.

        Raises:
            DataError: see `map_fields`.
        """

    @abstractmethod
    def check_rows(self, source: CorpusRows) -> None:
        """Refuses rows that nothing could be done with, before the backend is started.

        Raises:
            DataError: says what was tried.
        """

    @abstractmethod
    def settings(self, source: Mapping[str, Any]) -> dict[str, Any]:
        """What the rows depend on, as JSON; `source` is the identity of the rows read, as `input`.

        How fast, where and at which price is not in it: a job may go on with other engines.
        """

    @abstractmethod
    def start(self) -> OpenJudge:
        """Starts the backend."""

    @abstractmethod
    def asker(self, backend: JudgeBackend, cache: JudgeCache) -> Asker:
        """What a worker works with."""


def require_values(*values: tuple[str, Any, bool, str]) -> None:
    """Refuses the first (name, value, whether it can work, what would) that cannot work.

    Raises:
        ConfigError: names it.
    """
    for name, value, right, remedy in values:
        if not right:
            raise ConfigError(f"{name}={value!r}", reason="this cannot work", remedy=remedy)


def require_sampling(sampling: SamplingParams) -> None:
    """Refuses lengths and temperatures of answers that cannot work; see `require_values`."""
    most, temperature = sampling.max_new_tokens, sampling.temperature
    require_values(
        ("max_new_tokens", most, most >= 1, "at least one token"),
        ("temperature", temperature, 0 <= temperature <= 2, "from 0 (greedy) to 2"),
    )


def map_fields(
    whose: str, required: Collection[str], optional: Collection[str], given: Mapping[str, str], columns: tuple[str, ...]
) -> dict[str, str]:
    """Field -> column: what was given, else the column of the field's own name.

    Args:
        whose: fields these are, for messages: `rubric web-text`.
        required: fields that need a column.
        optional: fields that may have one.
        given: field -> column.
        columns: of the rows.

    Raises:
        DataError: a field that there is not, or that needs a column and has none; or a column that is not there.
    """
    known = [*required, *optional]
    for name in given:
        if name not in known:
            raise DataError(
                f"--field {name}=...",
                reason=f"{whose} has no field {name!r}",
                remedy=f"{did_you_mean(name, known)}its fields: {', '.join(known)}",
            )
    mapped = {}
    for name in known:
        column = given.get(name, name)
        if column.partition(".")[0] in columns or column in columns:
            mapped[name] = column
        elif name in given or name in required:
            raise DataError(
                f"no column {column!r} for the field `{name}` of {whose}",
                reason=f"the columns are {', '.join(columns)}",
                remedy=f"{did_you_mean(column, list(columns))}name it with --field {name}=COLUMN",
            )
    return mapped
