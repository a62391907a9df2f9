"""Problems from JSONL, JSON or Parquet files, or from the hub, as rows of `question` and `answer`."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ixt_rl.data.fields import (
    MISSING,
    Written,
    as_golds,
    as_question,
    columns_for,
    find,
    is_missing,
    is_null,
    names_of,
    plain,
)
from ixt_rl.data.readers import FIRST_ROWS, READERS, Cursor, check_file, columns_of, kind_of, no_dataset
from ixt_rl.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from ixt_rl.blocks.data import FileDataBlock

_SPLIT_SEED = 0
_MAPPING = "fields are named by data.question, answer, where, columns and group, and by difficulty.field"


@dataclass(frozen=True)
class Problems:
    """Rows with `question` (text, or messages), `answer` (text, or a list of texts) and the further columns.

    Args:
        train, held_out: the rows to train on, and those set aside.
        dropped: rows left out, by what was missing in them (`answer: null`).
    """

    train: list[dict[str, Any]]
    held_out: list[dict[str, Any]]
    dropped: Mapping[str, int] = field(default_factory=dict)

    @property
    def notes(self) -> list[str]:
        """What was dropped, in words; nothing if no row was."""
        reasons = ", ".join(f"{reason}: {count}" for reason, count in self.dropped.items())
        return [f"{sum(self.dropped.values())} rows of the data dropped ({reasons})"] if self.dropped else []


def load_rows(spec: FileDataBlock) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(training rows, evaluation rows) of `load_problems`."""
    problems = load_problems(spec)
    return problems.train, problems.held_out


def load_problems(spec: FileDataBlock, *, measured_only: bool = False) -> Problems:
    """The rows of `spec`; `spec.eval_rows` of them are set aside by a fixed shuffle.

    With `measured_only` nothing is trained on them: none need be left to train on, and `eval_rows: 0` sets all aside.
    With `spec.group` they are whole groups, as few as have that many rows. What the fields may hold is said in
    `data.fields`; further columns are passed on as they are.

    Raises:
        DataError: a file cannot be read, a field is missing or of a type that cannot be used, a row has no extractable
            answer, or nothing is left.
    """
    found: list[tuple[Any, dict[str, Any]]] = []
    dropped: Counter[str] = Counter()
    required = [spec.question, spec.answer, *spec.columns, *([spec.group] if spec.group else [])]
    unseen = dict.fromkeys([*required, *spec.where])
    kept = {name: [*map(_key, values)] for name, values in spec.where.items()}
    fields: list[str] = []
    row: Mapping[str, Any] = {}
    for place, row, fields in _rows(spec, [*unseen]):
        for name in [name for name in unseen if find(row, name) is not MISSING]:
            del unseen[name]
        if not all(_key(find(row, name)) in values for name, values in kept.items()):
            continue
        lacking = _lacking(row, required, spec)
        if lacking and spec.on_missing == "refuse":
            raise _missing(place, lacking, names_of([{**dict.fromkeys(fields), **row}]))
        if lacking:
            dropped[": ".join(lacking)] += 1
            continue
        group = _key(find(row, spec.group)) if spec.group else len(found)
        found.append((group, _problem(row, place, spec)))
        _check_alike(found[0][1], found[-1][1], place, spec)
        if len(found) == spec.max_rows:
            break
    for name in () if found else unseen:
        raise _missing(spec.called, (name, "no such field"), names_of([{**dict.fromkeys(fields), **row}]))
    wanted = spec.eval_rows or (len(found) if measured_only else 0)
    rows, aside = _shuffled(found, wanted)
    if len(rows) < wanted or not rows[0 if measured_only else aside :]:
        raise _too_few(spec, len(rows), measured_only, dropped)
    return Problems(rows[aside:], rows[:aside], dict(dropped))


def check_enough_rows(spec: FileDataBlock, *, measured_only: bool = False) -> None:
    """Reads no more rows than `spec.eval_rows` needs.

    Raises:
        DataError: there are fewer, or none is left to train on (see `load_problems`); a row that cannot be read.
    """
    if not spec.eval_rows:
        return
    kept = {name: [*map(_key, values)] for name, values in spec.where.items()}
    wanted = spec.eval_rows + (not measured_only)
    read = _rows(spec, [*dict.fromkeys([spec.question, *kept])])
    rows = (row for _, row, _ in read if all(_key(find(row, name)) in kept[name] for name in kept))
    found = sum(1 for _ in islice(rows, min(wanted, spec.max_rows or wanted)))
    if found < wanted:
        raise _too_few(spec, found, measured_only, {})


def _too_few(spec: FileDataBlock, found: int, measured_only: bool, dropped: Mapping[str, int]) -> DataError:
    return DataError(
        f"{spec.called}: {found} rows with eval_rows={spec.eval_rows}",
        reason=("it has no more rows" if measured_only else "no row is left to train on")
        if found
        else f"every row lacks something: {dict(dropped)}"
        if dropped
        else "no row matches data.where",
        remedy="lower eval_rows, or change data.where",
    )


def check_first_row(spec: FileDataBlock, further: Iterable[str] = ()) -> None:
    """Looks for the fields that `spec` names in the first row that `spec.where` keeps, of the first 1,000.

    Rows further on are looked at by `load_problems`; so are all of them where `spec.on_missing` drops rows.

    Args:
        further: fields that are read beside those which `spec` names.

    Raises:
        DataError: the row lacks a field or its value, or what stands before it cannot be read.
    """
    if spec.on_missing == "drop":
        return
    required = [spec.question, spec.answer, *spec.columns, *([spec.group] if spec.group else []), *further]
    kept = {name: [*map(_key, values)] for name, values in spec.where.items()}
    for place, row, fields in islice(_rows(spec, [*dict.fromkeys([*required, *kept])]), FIRST_ROWS):
        if all(_key(find(row, name)) in values for name, values in kept.items()):
            lacking = _lacking(row, required, spec)
            if lacking:
                raise _missing(place, lacking, names_of([{**dict.fromkeys(fields), **row}]))
            return


def _problem(row: Mapping[str, Any], place: str, spec: FileDataBlock) -> dict[str, Any]:
    golds = as_golds(find(row, spec.answer), f"{place}: {spec.answer}")
    extracted = [
        extract_answer(gold, spec.answer_extract, place) for gold in ([golds] if isinstance(golds, str) else golds)
    ]
    return {
        "question": as_question(find(row, spec.question), f"{place}: {spec.question}"),
        "answer": extracted[0] if isinstance(golds, str) else extracted,
        **{name: plain(find(row, name)) for name in spec.columns},
    }


def _key(value: Any) -> Any:
    """A value as it is compared and grouped by: dates, lists and objects by their text, true apart from 1."""
    value = None if is_null(value) else plain(value)
    if isinstance(value, bool):
        return str(value).lower()
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _lacking(row: Mapping[str, Any], required: list[str], spec: FileDataBlock) -> tuple[str, str] | None:
    """(field, what it is) of the first required field without a value; a blank text is one in further columns."""
    for name in required:
        value = find(row, name)
        if value is MISSING or value is None:
            return name, "no such field" if value is MISSING else "null"
        if is_null(value) or (name in (spec.question, spec.answer) and is_missing(value)):
            return name, "empty"
    return None


def _missing(place: str, lacking: tuple[str, str], fields: list[str]) -> DataError:
    name, what = lacking
    if what == "no such field":
        reason = f"its fields are {', '.join(fields)}"
        return DataError(f"{place}: no field {name!r}", reason=reason, remedy=did_you_mean(name, fields) + _MAPPING)
    return DataError(
        f"{place}: field {name!r} is {what}",
        reason="a problem needs it",
        remedy="correct the row, name another field, or set data.on_missing: drop",
    )


def _check_alike(first: dict[str, Any], row: dict[str, Any], place: str, spec: FileDataBlock) -> None:
    if isinstance(first["question"], str) != isinstance(row["question"], str):
        raise DataError(
            f"{place}: {spec.question} is {'text' if isinstance(row['question'], str) else 'a list of messages'}",
            reason="the first row's is the other of the two",
            remedy="write all questions as text, or all as messages",
        )


def _rows(spec: FileDataBlock, names: list[str]) -> Iterator[tuple[str, Mapping[str, Any], list[str]]]:
    """(file and row, row, names of its fields) of every file, or of the hub's dataset.

    Of a Parquet file only the columns that `names` need are read, and all are named; of other files none is named.
    """
    files = spec.files
    if len(files) == 1 and not Path(files[0]).exists() and kind_of(files[0]) not in READERS:
        yield from ((f"{spec.called} row {index}", row, []) for index, row in enumerate(_hub_rows(spec)))
        return
    if not files:
        raise DataError(
            f"{spec.called}: no data", reason=f"no file in it ends in {', '.join(READERS)}", remedy="check the path"
        )
    columns = columns_for(names)
    for file in files:
        check_file(file)
        cursor = Cursor()
        fields = columns_of(file) or []
        empty = True
        for row in READERS[kind_of(file)](file, cursor, columns, Written):
            empty = False
            yield f"{file} row {cursor.row}", row, fields
        if empty:
            raise DataError(f"{file}: empty", reason="it has no row", remedy="leave it out, or write it again")


def _hub_rows(spec: FileDataBlock):
    from datasets import load_dataset

    try:
        return load_dataset(spec.called, spec.name, split=spec.split)
    except Exception as error:  # `datasets` and the hub's client raise many kinds
        raise no_dataset(spec.called, spec.name, spec.split, error) from None


def _shuffled(found: list[tuple[Any, dict[str, Any]]], wanted: int) -> tuple[list[dict[str, Any]], int]:
    """(rows, those of a group together and groups in a fixed random order; rows of the first groups, >= `wanted`)."""
    groups: dict[Any, list[dict[str, Any]]] = {}
    for group, row in found:
        groups.setdefault(group, []).append(row)
    order = list(groups)
    random.Random(_SPLIT_SEED).shuffle(order)
    ends = [0, *accumulate(len(groups[group]) for group in order)]
    return [row for group in order for row in groups[group]], next((end for end in ends if end >= wanted), len(found))


def extract_answer(text: str, how: Literal["none", "last_box", "hashes"], place: str) -> str:
    """The gold answer in its field's text, by `FileDataBlock.answer_extract`.

    Raises:
        DataError: the text has no answer of that form.
    """
    from ixt_rl.rewards import final_answer

    found = text.strip() if how == "none" else final_answer(text, how)
    if not found:
        raise DataError(
            f"{place}: no answer by answer_extract={how} in {text[-80:]!r}",
            reason="every row needs a gold answer",
            remedy="choose another answer_extract (none, last_box, hashes) or field",
        )
    return found


def exact_dataset(rows: list[dict[str, Any]], order: np.ndarray | None = None) -> Any:
    """A `datasets.Dataset` that gives the very rows, or those of `order`, which may name some more than once.

    Arrow's columns have one type: they hold no text beside a list of answers, and change integers beside floats.
    """
    from datasets import Dataset

    return Dataset.from_dict({"row": range(len(rows)) if order is None else order}).with_transform(_Rows(rows))


class _Rows:
    """Row numbers -> the rows, column by column."""

    def __init__(self, rows: list[dict[str, Any]]):
        self.rows = rows

    def __call__(self, numbers: dict[str, list[int]]) -> dict[str, list[Any]]:
        wanted = [self.rows[number] for number in numbers["row"]]
        return {name: [row[name] for row in wanted] for name in wanted[0]} if wanted else {}


@dataclass(frozen=True)
class LengthAudit:
    """Prompt lengths in tokens, and what the policy did with those beyond the limit."""

    lengths: list[int]
    limit: int
    dropped: int
    truncated: int = 0

    def summary(self) -> dict[str, Any]:
        """Count, median, p95, max, dropped, and a histogram as [left edge, count] pairs."""
        lengths = np.array(self.lengths)
        counts, edges = np.histogram(lengths, bins=min(20, max(1, int(np.ptp(lengths)))))
        return {
            "count": len(lengths),
            "median": float(np.median(lengths)),
            "p95": float(np.percentile(lengths, 95)),
            "max": int(lengths.max()),
            "limit": self.limit,
            "dropped": self.dropped,
            "truncated": self.truncated,
            "histogram": [[float(e), int(c)] for e, c in zip(edges[:-1], counts, strict=True)],
        }


def audit_lengths(
    rows: list[dict[str, Any]], lengths: list[int], limit: int, on_long: str
) -> tuple[list[dict[str, Any]], LengthAudit]:
    """Rows whose prompt fits (or will be truncated), and the audit of all.

    Raises:
        DataError: a prompt is too long and `on_long` is `fail`, or every prompt is; or there is none.
    """
    if not rows:
        raise DataError(
            "no problem is left",
            reason="those set aside were dropped, as gold answers that cannot be judged are",
            remedy="correct their answers, or raise data.eval_rows",
        )
    fits = [length <= limit for length in lengths]
    if on_long == "truncate":
        return rows, LengthAudit(lengths, limit, dropped=0, truncated=len(rows) - sum(fits))
    kept = [row for row, ok in zip(rows, fits, strict=True) if ok]
    if not kept or (len(kept) < len(rows) and on_long == "fail"):
        raise DataError(
            f"{len(rows) - len(kept)} of {len(rows)} prompts are longer than max_prompt_tokens={limit} "
            f"(the longest has {max(lengths)})",
            reason="they do not fit",
            remedy="raise sampling.max_prompt_tokens (the model's positions less max_new_tokens is the most), or set "
            "sampling.on_long: drop or truncate",
        )
    return kept, LengthAudit(lengths, limit, len(rows) - len(kept))
