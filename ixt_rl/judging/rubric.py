"""Rubrics: what a judge is asked and on which scales it answers; files, checked when they load.

The answer format is written from the axes, so that prompt, JSON schema and parser cannot drift apart.
"""

from __future__ import annotations

import os
import string
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ixt_rl.errors import ConfigError, DataError, did_you_mean
from ixt_rl.types import UNKNOWN_CHARACTER
from ixt_rl.yaml_io import parse_yaml

Message = dict[str, str]
RUBRICS = "judging/rubrics"
"""Where those lie that come with the library."""
OVERALL = "overall"
VERDICT = "verdict"


class Axis(BaseModel):
    """One thing a judge rates: a number from `low` to `high`, or one of `labels`.

    Args:
        asks: what is rated and what the ends of the scale mean, as the prompt tells it; "" for labels.
        low: worst score.
        high: best score.
        labels: label -> score from 0 to 1, in place of a range.
        aliases: other ways in which judges write a label -> the label.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    asks: str = ""
    low: float = 1.0
    high: float = 5.0
    labels: dict[str, float] = Field(default_factory=dict)
    aliases: dict[str, str] = Field(default_factory=dict)

    @property
    def wants(self) -> str:
        """The allowed values, in words."""
        if self.labels:
            *others, last = self.labels
            return f"{', '.join(others)} or {last}"
        return f"{self.low:g} to {self.high:g}"

    def unit(self, value: float) -> float:
        """`value` on 0..1, worst to best; a label's score already is."""
        return value if self.labels else (value - self.low) / (self.high - self.low)

    def value_schema(self) -> dict[str, Any]:
        """JSON schema of one value."""
        if self.labels:
            return {"type": "string", "enum": list(self.labels)}
        whole = self.low.is_integer() and self.high.is_integer() and self.high - self.low > 1
        low, high = (int(self.low), int(self.high)) if whole else (self.low, self.high)
        return {"type": "integer" if whole else "number", "minimum": low, "maximum": high}

    @model_validator(mode="after")
    def _check(self) -> Axis:
        if self.labels:
            if len(self.labels) < 2 or any(not 0 <= score <= 1 for score in self.labels.values()):
                raise ValueError("labels need at least two entries with scores from 0 to 1")
            if set(self.aliases.values()) - set(self.labels):
                raise ValueError("every alias must stand for one of the labels")
        elif not self.low < self.high:
            raise ValueError(f"the range {self.low:g} to {self.high:g} is empty")
        return self


class Rubric(BaseModel):
    """A question to a judge, with places for the texts that are judged.

    Two kinds: *scores*, with `axes` of which the last is `overall`, answered by a JSON object; and *label*, with one
    axis `verdict`, answered by a short reasoning and a final verdict line.

    Args:
        name: how it is called.
        prompt: `str.format` text over `fields`, `optional`, `answer_format` and, for scores, `axes`.
        fields: texts every question must bring.
        optional: texts a question may bring -> what stands there otherwise.
        comment: what the judge writes before its scores or its verdict.
        axes: by name, in the order in which they are answered.
        pair: the two fields that are compared; asked in both orders.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    called: ClassVar[str] = "rubric"  # in errors

    name: str
    prompt: str
    fields: tuple[str, ...]
    optional: dict[str, str] = Field(default_factory=dict)
    comment: str
    axes: dict[str, Axis]
    pair: tuple[str, str] | None = None

    @property
    def main(self) -> str:
        """The axis that is the overall verdict."""
        return next(reversed(self.axes))

    @property
    def by_label(self) -> bool:
        """Whether the answer is one label."""
        return self.main == VERDICT

    @property
    def comment_key(self) -> str:
        """The key under which the judge's words stand in a JSON answer."""
        return "reason" if self.by_label else "critique"

    def swapped(self, label: str) -> str:
        """What `label` means for a pair given in the other order: A <-> B, tie <-> tie."""
        labels = self.axes[VERDICT].labels
        return next(other for other, score in labels.items() if score == 1 - labels[label])

    def in_order(self, fields: Mapping[str, str], swapped: bool) -> dict[str, str]:
        """The fields, checked; those of `pair` exchanged if `swapped`.

        Raises:
            DataError: a field is missing, unknown, or no text.
        """
        self._check_fields(fields)
        texts = dict(fields)
        if swapped and self.pair:
            first, second = self.pair
            texts[first], texts[second] = texts[second], texts[first]
        return texts

    def messages(self, fields: Mapping[str, str], *, as_json: bool = False) -> list[Message]:
        """The prompt as one user message, because not every chat template takes a system message.

        Args:
            fields: texts as `in_order` gives them.
            as_json: whether the answer will be constrained to `answer_schema()`.
        """
        texts = {**self.optional, **fields}
        axes = "\n".join(f"- {name}: {axis.asks}" for name, axis in self.axes.items())
        content = self.prompt.format(**texts, axes=axes, answer_format=self.answer_format(as_json))
        return [{"role": "user", "content": well_formed(content).strip()}]

    def answer_format(self, as_json: bool = False) -> str:
        """How the judge is told to end its answer; read as an answer itself, it gives no score."""
        if self.by_label and not as_json:
            return (
                f"First write {self.comment}. Then end your answer with one line, and nothing after it:\n"
                f"Verdict: <{self.axes[VERDICT].wants}>"
            )
        entries = [f'"{self.comment_key}": "<{self.comment}>"']
        entries += [f'"{name}": <{axis.wants}>' for name, axis in self.axes.items()]
        return f"End your answer with one JSON object, and nothing after it:\n{{{', '.join(entries)}}}"

    def answer_schema(self) -> dict[str, Any]:
        """JSON schema of the answer, for constrained decoding; the words come first, so that scores follow reasons."""
        properties: dict[str, Any] = {self.comment_key: {"type": "string"}}
        properties |= {name: axis.value_schema() for name, axis in self.axes.items()}
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }

    def _check_fields(self, fields: Mapping[str, str]) -> None:
        known = [*self.fields, *self.optional]
        for name in self.fields:
            if name not in fields:
                raise DataError(
                    f"a question for rubric {self.name} with the fields {', '.join(fields) or '(none)'}",
                    reason=f"`{name}` is missing",
                    remedy=f"give {', '.join(self.fields)}, and if you like {', '.join(self.optional) or '(none)'}",
                )
        for name, text in fields.items():
            if name not in known or not isinstance(text, str):
                raise DataError(
                    f"field {name!r} of a question for rubric {self.name}",
                    reason=f"it holds {type(text).__name__}, not text"
                    if name in known
                    else "the rubric does not use it",
                    remedy="give text"
                    if name in known
                    else f"{did_you_mean(name, known)}its fields: {', '.join(known)}",
                )

    @model_validator(mode="after")
    def _check(self) -> Rubric:
        if not self.axes:
            raise ValueError("a rubric needs axes")
        if self.by_label and len(self.axes) > 1:
            raise ValueError("a rubric with the axis `verdict` has no other axis")
        if self.main not in (OVERALL, VERDICT):
            raise ValueError(f"the last axis is {self.main!r}; it must be `overall` or `verdict`")
        for name, axis in self.axes.items():
            if not axis.asks and not axis.labels:
                raise ValueError(f"axis {name!r}: `asks` is missing")
            if bool(axis.labels) != (name == VERDICT):
                raise ValueError(f"axis {name!r}: `verdict` has labels, every other axis has a range")
            if not name.isidentifier() or name != name.lower() or name in ("critique", "reason"):
                raise ValueError(f"axis {name!r}: use a lower-case identifier other than critique and reason")
        used = {name for _, name, _, _ in string.Formatter().parse(self.prompt) if name is not None}
        wanted = {*self.fields, *self.optional, "answer_format"} | (set() if self.by_label else {"axes"})
        if used != wanted:
            raise ValueError(f"the prompt uses {sorted(used)}, the rubric names {sorted(wanted)}")
        if self.pair:
            if not self.by_label or not set(self.pair) <= set(self.fields) or len(set(self.pair)) < 2:
                raise ValueError("`pair` names two different fields of a rubric with the axis `verdict`")
            scores = sorted(self.axes[VERDICT].labels.values())
            if scores != sorted(1 - score for score in scores) or len(set(scores)) < len(scores):
                raise ValueError("the labels of a pair must mirror each other: for each score s one label with 1 - s")
        return self


R = TypeVar("R", bound=Rubric)


def well_formed(text: str) -> str:
    """`text` without lone surrogates, which no file and no request takes."""
    return text.encode("utf-8", "replace").decode("utf-8")


def whole_characters(text: str) -> str:
    """A text cut in token space, without what is left of a character at its ends: bytes that decode to U+FFFD.

    Some characters are several tokens. A document's own suffix never ends within one; a rollout at its limit may, and
    a prefix that lost its beginning may begin so.
    """
    for _ in range(3):  # of a character's four bytes
        text = text.removeprefix(UNKNOWN_CHARACTER)
    return text.removesuffix(UNKNOWN_CHARACTER)


def shipped_rubrics() -> dict[str, Path]:
    """Name -> file of the rubrics that come with the library."""
    return shipped(RUBRICS)


def load_rubric(name: str | os.PathLike[str]) -> Rubric:
    """A shipped rubric by name, or one from a YAML file.

    Raises:
        DataError: no such rubric, or a file that is no rubric; names the key and what is wrong with it.
    """
    return load_file(name, RUBRICS, Rubric)


def shipped(folder: str) -> dict[str, Path]:
    """Name -> file of what comes with the library in one of its folders."""
    files = Path(str(resources.files("ixt_rl"))) / folder
    return {file.stem: file for file in sorted(files.glob("*.yaml"))}


def load_file(name: str | os.PathLike[str], folder: str, kind: type[R]) -> R:
    """A shipped question of `folder` by name, or one from a YAML file; see `load_rubric`."""
    known, what = shipped(folder), kind.called
    file = known.get(str(name), Path(name).expanduser())
    if not file.is_file():
        raise DataError(
            f"{what} {os.fspath(name)!r}",
            reason=f"it is neither a shipped {what} nor a file",
            remedy=f"{did_you_mean(str(name), list(known))}one of {', '.join(known)}, or the path of a YAML file",
        )
    try:
        document = parse_yaml(file.read_text(encoding="utf-8"), str(file))
    except (ConfigError, UnicodeDecodeError) as error:
        raise DataError(f"{what} file {file}", reason=str(error), remedy="write it as UTF-8 YAML") from None
    if document.duplicates:
        path, line = document.duplicates[0]
        raise DataError(f"{file}, line {line}: {path[-1]!r}", reason="the key is there twice", remedy="keep one")
    try:
        return kind.model_validate(document.value)
    except ValidationError as error:
        first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")  # a typing error says most
    where = ".".join(map(str, first["loc"])) or "the whole file"
    raise DataError(
        f"{file}: {where}",
        reason=first["msg"].removeprefix("Value error, "),
        remedy=did_you_mean(str(first["loc"][-1]), [*kind.model_fields, *Axis.model_fields])
        if first["type"] == "extra_forbidden"
        else f"see ixt_rl/{folder} for {what}s that load",
    )
