"""From a suite and a folder of files to rows of question and gold; what is left out is counted.

files of the suite --read--> rows --keep, skip--> question, choices, gold --> rows, notes
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ixt_rl.data.fields import MISSING, as_golds, as_text, find, is_missing, names_of, plain
from ixt_rl.data.readers import Cursor, read_hub
from ixt_rl.errors import DataError, did_you_mean
from ixt_rl.evaluation.suites.cases import FIELDS, kept
from ixt_rl.evaluation.suites.choices import Choices, choices_of, gold_label
from ixt_rl.evaluation.suites.files import suite_files
from ixt_rl.evaluation.suites.golds import letter_of, why_bad
from ixt_rl.evaluation.suites.instructions import instructions_of
from ixt_rl.evaluation.suites.questions import question_of
from ixt_rl.evaluation.suites.readers import rows_of
from ixt_rl.rewards import final_answer
from ixt_rl.suites import Suite
from ixt_rl.suites.suite import CHOICES, GoldField, SuiteShot

ELSEWHERE = "of another subject"
"""Why a row is left out that `keep` does not mean: a file may hold more than the suite."""

SHOWN_GOLDS = 5
"""How many golds that cannot be judged a note names."""


@dataclass(frozen=True)
class SuiteRows:
    """A suite's rows.

    Args:
        suite: whose they are.
        rows: each with `question` (text), `answer` (the gold: text, a list of accepted texts, a choice's label, or as
            JSON a program's tests or what is instructed), `id` (text, unique), `index` (row in the set, from 0),
            `cluster` (text or None), `choices` (label -> text, or None), `bad_gold` (why the gold cannot be judged, or
            None) and `fields` (the row as it was).
        files: which they were read from; empty for a hub dataset.
        total: rows of the set, of which `limit` may have taken the first ones.
        dropped: rows left out, by reason.
        shots: worked examples, as the suite or its file has them.
        notes: what a report says of all this.
    """

    suite: Suite
    rows: list[dict[str, Any]]
    files: list[Path]
    total: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    shots: Sequence[SuiteShot] = ()
    notes: Sequence[str] = ()


def find_rows(suite: Suite, data: Path | str | None = None, limit: int | None = None) -> SuiteRows:
    """A suite's rows, looked for under the folder `data`.

    Args:
        limit: take the first rows only.

    Raises:
        DataError: no file, one that cannot be read, or no row with a question and a gold answer.
    """
    folder = None if data is None else Path(data).expanduser()
    files = suite_files(suite, folder)
    dropped: Counter[str] = Counter()
    found: list[dict[str, Any]] = []
    seen: list[str] = []
    for source, number, row in _raw_rows(suite, files):
        seen = seen or names_of([row])
        reason = _left_out(row, suite)
        if reason == ELSEWHERE:
            continue
        try:
            made = reason or _row(row, suite, source, number)
        except DataError as error:  # this row cannot be used; how many cannot, a note says
            made = error.reason
        if isinstance(made, str):
            dropped[made] += 1
        else:
            found.append(made)
    if not found:
        raise _nothing(suite, files, seen, dropped)
    notes = _identify(found, suite)
    if suite.kind in ("math", "choice"):
        for row in found:
            if not row["choices"]:  # labels are checked already
                row["bad_gold"] = why_bad(row["answer"], suite.kind)
    if suite.rows is not None and len(found) != suite.rows:
        notes.append(f"{len(found)} rows, where {suite.rows} are expected")
    if dropped:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in dropped.items())
        notes.append(f"{sum(dropped.values())} rows left out ({reasons})")
    hidden = [name for name in CHOICES if suite.kind == "math" and not is_missing(found[0]["fields"].get(name))]
    if hidden and not any(hidden[0] in text for text in suite.question):
        notes.append(
            f"rows have choices in `{hidden[0]}`, which are not shown: --field choices={hidden[0]}, or rule: choice"
        )
    rows = found[:limit]
    bad = [row for row in rows if row["bad_gold"]]
    if bad:
        named = "; ".join(f"{row['id']}: {str(row['answer'])[:60]!r} ({row['bad_gold']})" for row in bad[:SHOWN_GOLDS])
        more = f"; and {len(bad) - SHOWN_GOLDS} more" if len(bad) > SHOWN_GOLDS else ""
        notes.append(f"{len(bad)} golds cannot be judged, which leaves their samples undecided: {named}{more}")
    return SuiteRows(suite, rows, files, len(found), dict(dropped), _shots(suite, folder), notes)


def _raw_rows(suite: Suite, files: Sequence[Path]) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    """(file or dataset, number in it, row)."""
    if not files:
        assert suite.path is not None
        for number, row in enumerate(read_hub(suite.path, suite.hub_name, suite.splits[0][0], Cursor())):
            yield suite.path, number, row
    for file in files:
        for number, row in enumerate(rows_of(file)):
            yield str(file), number, row


def _left_out(row: Mapping[str, Any], suite: Suite) -> str | None:
    """Why a row is no part of the suite; None where it is one."""
    for name, values in suite.keep.items():
        value = find(row, name)
        if value is not MISSING:
            if not is_missing(value) and as_text(value, name) in values:
                break
            return ELSEWHERE
    for skip in suite.skip:
        value = find(row, skip.field)
        if not is_missing(value) and re.search(skip.matches, value if isinstance(value, str) else str(plain(value))):
            return skip.why
    return None


def _row(row: Mapping[str, Any], suite: Suite, source: str, number: int) -> dict[str, Any] | str:
    """The row as it is asked and graded, or what it lacks."""
    place = f"{source} row {number}"
    choices = choices_of(row, suite, place)
    question = question_of(row, suite.question, choices, place)
    if question and suite.kind not in ("code", "cases"):  # of code, spaces and line ends belong to it
        question = question.strip()
    if not question:
        return "no question"
    gold: Any
    if suite.kind == "cases":
        gold, bad = kept(row, source, number), None
        row = {name: value for name, value in row.items() if name not in FIELDS}  # which may be gigabytes
    elif suite.kind in ("code", "instructions"):
        gold, bad = _tests(row, suite, place) if suite.kind == "code" else instructions_of(row), None
    else:
        gold, bad = _gold(row, suite, choices, place)
    if gold is None:
        return "no gold answer"
    return {
        "question": question,
        "answer": gold,
        "choices": dict(choices.texts) if choices else None,
        "bad_gold": bad,
        "fields": plain(dict(row)),
    }


def _tests(row: Mapping[str, Any], suite: Suite, place: str) -> str | None:
    """What a program is judged by, as JSON: all that a record needs to be graded anew."""
    parts = {"prompt": f"{{{suite.code.prompt}}}", "entry": f"{{{suite.code.entry}}}", "tests": suite.code.tests}
    found = {name: question_of(row, [text], None, place) for name, text in parts.items()}
    return json.dumps(found, ensure_ascii=False) if all(found.values()) else None


def _gold(row: Mapping[str, Any], suite: Suite, choices: Choices | None, place: str) -> tuple[Any, str | None]:
    """(gold, why it cannot be judged); the gold is None where no field holds one."""
    for one in suite.gold:
        value = find(row, one.field)
        if is_missing(value):
            continue
        if one.form == "first" and isinstance(value, list):
            value = value[0]
        if suite.kind == "choice":
            return _choice_gold(value, one, choices, f"{place}: {one.field}")
        golds = as_golds(str(value) if isinstance(value, bool) else value, f"{place}: {one.field}")
        texts = [_answer(text, one) for text in ([golds] if isinstance(golds, str) else golds)]
        if any(text is None for text in texts):
            continue  # the answer may stand in the next field
        return (texts[0] if len(texts) == 1 else texts), None
    return None, None


def _choice_gold(value: Any, gold: GoldField, choices: Choices | None, place: str) -> tuple[str, str | None]:
    text = as_text(str(value) if isinstance(value, bool) else value, place)
    if choices is None:
        return letter_of(text) or text, None
    try:
        return gold_label(value, gold.form, choices), None
    except DataError as error:  # what cannot be told must not read like a label
        return f"{text} (ambiguous)" if text in choices.texts else text, error.reason


def _answer(text: str, gold: GoldField) -> str | None:
    """The gold answer in its field's text; None where it is not there in that form."""
    for pattern in gold.remove:
        text = re.sub(pattern, "", text)
    if gold.form == "hashes" or (gold.form == "auto" and "####" in text):
        return final_answer(text, "hashes")
    if gold.form == "last-box" or (gold.form == "auto" and "\\boxed" in text):
        return final_answer(text, "last_box")
    text = text.strip()
    announced = final_answer(text) if gold.form == "auto" and "\n" in text else None  # a solution that ends `A: 18`
    return announced or text or None


def _identify(rows: Sequence[dict[str, Any]], suite: Suite) -> list[str]:
    """Gives rows their `index`, `id` and `cluster`; notes where ids are not unique."""
    notes: list[str] = []
    ids: list[str] = []
    for name in suite.id:
        values = [find(row["fields"], name) for row in rows]
        if not any(map(is_missing, values)):
            ids = [str(value) for value in values]
            if len(set(ids)) == len(ids):
                break
            notes.append(f"{name} is not unique, so rows go by their number")
            ids = []
    for number, row in enumerate(rows):
        row |= {"index": number, "id": ids[number] if ids else str(number)}
        row["cluster"] = None
        for name in suite.cluster:
            value = find(row["fields"], name)
            if not is_missing(value):
                text = str(value)
                row["cluster"] = text if len(text) <= 40 else hashlib.sha256(text.encode()).hexdigest()[:12]
                break
    return notes


def _shots(suite: Suite, data: Path | None) -> list[SuiteShot]:
    """Worked examples: the suite's own, or of a file, or of another split of the set; none where there is no such."""
    if suite.shots is None or isinstance(suite.shots, list):
        return suite.shots or []
    if Path(suite.shots).is_file():
        files = [Path(suite.shots)]
    else:
        try:
            files = suite_files(suite.model_copy(update={"splits": [[suite.shots]]}), data, whole=False)
        except DataError:
            return []  # `setting_notes` says how many are shown of how many
    found = []
    for source, number, row in _raw_rows(suite, files):
        place = f"{source} row {number}"
        choices = choices_of(row, suite, place)
        question = question_of(row, ["{question}"] if choices is None else suite.question, choices, place)
        question = question or question_of(row, suite.question, choices, place)
        answers = (find(row, name) for name in ("solution", *(one.field for one in suite.gold)))
        answer = next((value for value in answers if isinstance(value, str) and value), None)
        if question and answer:
            found.append(SuiteShot(question=question.strip(), answer=answer))
    return found


def _nothing(suite: Suite, files: Sequence[Path], seen: Sequence[str], dropped: Counter[str]) -> DataError:
    where = ", ".join(map(str, files)) or suite.path
    if not seen:
        return DataError(f"suite {suite.name}: no rows in {where}", reason="it is empty", remedy="write it again")
    asked = [one.field for one in suite.gold] if dropped.get("no gold answer") else suite.question
    return DataError(
        f"suite {suite.name}: no row of {where} can be used",
        reason=(", ".join(f"{reason}: {count}" for reason, count in dropped.items()) or "all are of other subjects")
        + f"; its fields are {', '.join(seen)}",
        remedy=did_you_mean(asked[0].strip("{}"), [*seen])
        + "name the fields: --field question=COLUMN --field answer=COLUMN, or in a suite file of yours",
    )
