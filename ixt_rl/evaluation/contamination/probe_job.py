"""The probe as a job: records as they come, in a folder that the same probe goes on from.

OUT/probe.json    what is asked, of which model, how; written first
OUT/probe.jsonl   a line a beginning, in the order of suites, questions and shares; grows by whole batches
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ixt_rl.differences import told
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.evaluation.contamination.probe import Grade, PartialPrompt, ProbeRecord, probe
from ixt_rl.evaluation.contamination.probe_counts import probe_record, probe_row
from ixt_rl.files import append_rows, mend_rows, read_json, read_rows, write_json
from ixt_rl.rollout.engine import RolloutEngine

SETTINGS, RECORDS = "probe.json", "probe.jsonl"


@dataclass(frozen=True)
class ProbedSuite:
    """A suite as it is probed.

    Args:
        rows: of the suite.
        prompts: the beginnings of its questions.
        short: questions that were too short for any.
        grade: of the answers; None: they are not asked for.
        stop: texts that end a completion.
    """

    name: str
    rows: Sequence[Mapping[str, Any]]
    prompts: Sequence[PartialPrompt]
    short: int
    grade: Grade | None
    stop: Sequence[str] = ()


def run_probe(
    suites: Sequence[ProbedSuite],
    engine: Callable[[], RolloutEngine],
    tokenizer: Any,
    answer_tokens: int,
    batch: int,
    out: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> list[ProbeRecord]:
    """All records, of which those that `out` holds already are not asked again.

    Args:
        engine: opens the engine; called once, if something is left to ask. The caller closes it.
        answer_tokens: most tokens after the rest of a question.
        batch: beginnings decoded and written at once.
        out: folder of the records; None: they are not kept.
        settings: all that decides the records, as JSON: compared with those of `out`.
        watch: told of (beginnings done, all of them) before each batch.

    Raises:
        ConfigError: `out` holds another probe; names what differs.
        DataError: its records are damaged, or not of these questions.
    """
    asked = [prompt for suite in suites for prompt in suite.prompts]
    records = [] if out is None else _begun(out, settings or {}, asked)
    left = len(records)
    opened: RolloutEngine | None = None
    for suite in suites:
        prompts = suite.prompts[min(left, len(suite.prompts)) :]
        left -= len(suite.prompts) - len(prompts)
        for first in range(0, len(prompts), batch):
            watch(len(records), len(asked))
            opened = opened or engine()
            some = prompts[first : first + batch]
            found = probe(opened, tokenizer, some, suite.rows, suite.grade, answer_tokens, suite.stop)
            if out is not None:
                append_rows(out / RECORDS, map(probe_row, found))
            records += found
    return records


def _begun(out: Path, settings: Mapping[str, Any], asked: Sequence[PartialPrompt]) -> list[ProbeRecord]:
    """The records that are there, after making sure that they are this probe's; keeps the settings of a new one."""
    out.mkdir(parents=True, exist_ok=True)
    before = read_json(out / SETTINGS)
    if before is None:
        if (out / RECORDS).exists():
            raise ConfigError(
                f"folder {out}", reason=f"it has {RECORDS} of an unknown probe", remedy="give another --out"
            )
        write_json(out / SETTINGS, settings, indent=1)
    elif difference := told(before, json.loads(json.dumps(settings))):
        raise ConfigError(
            f"folder {out} holds another probe",
            reason=difference,
            remedy="give another --out, or the settings of the one there to go on with it",
        )
    mend_rows(out / RECORDS)
    records = [probe_record(row) for row in read_rows(out / RECORDS, ("suite", "shown", "rest", "text", "verbatim"))]
    for number, record in enumerate(records, 1):
        if number > len(asked) or record.prompt != asked[number - 1]:
            raise DataError(
                f"{out / RECORDS}, line {number}: question {record.prompt.id} of {record.prompt.suite}",
                reason="another beginning is asked at this place: the suite's rows have changed since",
                remedy="give another --out",
            )
    return records
