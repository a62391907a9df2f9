"""What a SIP stage measures: continuations of held-out prefixes, and the loss of the suffixes that stand there."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ixt_rl.blocks.judges import WORLD
from ixt_rl.blocks.passages import WorldPassagesBlock
from ixt_rl.conditioning import prompt_completion
from ixt_rl.data.holdout import Holdout
from ixt_rl.errors import DataError
from ixt_rl.evaluation.continuations import Continued, Examiner, JudgeExaminer, WorldExaminer, evaluate_continuations
from ixt_rl.evaluation.evaluate import SAMPLING_SEED, Mode
from ixt_rl.evaluation.likelihood import LIKELIHOOD, LikelihoodExaminer, Read
from ixt_rl.evaluation.posterior_pass import SequenceScorer
from ixt_rl.files import read_rows, write_rows
from ixt_rl.judging import CandidateJudge
from ixt_rl.judging.fingerprints import hash_model
from ixt_rl.methods.sip import INIT, SipStage
from ixt_rl.models import load_model, load_tokenizer
from ixt_rl.place import follows
from ixt_rl.run.answered import keep_answered
from ixt_rl.run.folder import CONTINUATIONS
from ixt_rl.run.stages.context import StageRun
from ixt_rl.run.stages.judges import QUALITY, stage_judge
from ixt_rl.run.stages.suffix_passages import HeldOutPassage, held_out
from ixt_rl.run.stages.wishes import mode_name
from ixt_rl.trainers import SIPTrainer
from ixt_rl.trainers.dropout import evaluation_mode
from ixt_rl.types import SamplingParams
from ixt_rl.worlds import WORLDS
from ixt_rl.worlds.passages import Passage

Evaluate = Callable[[SIPTrainer], tuple[dict[str, float], list[dict[str, Any]]]]


@dataclass
class Opponent:
    """The final continuations of the stage to compare with, of the same seed.

    Args:
        texts: by mode; None: there is no such stage, ours are compared with the originals.
        passages: prefix and original of each text of a mode.
        likelihood: of its texts as far as the same frozen model has read them.
    """

    texts: dict[str, list[str]] | None = None
    passages: list[tuple[str, str]] = field(default_factory=list)
    likelihood: dict[Read, float] = field(default_factory=dict)


@contextmanager
def suffix_evaluator(stage: SipStage, tokenizer: Any, at: StageRun, held: Holdout | None = None) -> Iterator[Evaluate]:
    """Measures a trainer's policy; `held`: the documents that the stage's evaluation sets aside.

    A judge or a frozen model is open until the context ends.
    """
    section = stage.evaluation
    assert section is not None
    reader = "" if section.likelihood is None or follows() else _reader(section.likelihood, at)
    opponent = _opponent(stage, at, reader)
    with ExitStack() as stack:
        likelihood = _likelihood(section.likelihood, at, opponent) if reader else None
        examiner: Examiner
        if section.judge is None and section.likelihood is not None:
            examiner = likelihood or JudgeExaminer(None, None)  # rank 0 measures
        elif section.judge is None or section.judge.model == WORLD:
            assert isinstance(stage.data, WorldPassagesBlock)
            examiner = WorldExaminer(WORLDS[stage.data.world]())
        else:
            judge = stack.enter_context(stage_judge(stage, section.judge, at))
            points = {axis: weight for axis, weight in section.judge.axes.items() if axis != QUALITY}
            examiner = JudgeExaminer(
                CandidateJudge(judge, points) if points else None,
                CandidateJudge(judge, {QUALITY: 1.0}) if QUALITY in section.judge.axes else None,
            )
        found = held_out(stage, section, tokenizer, held)
        _check_alike(opponent, found, section.against)
        yield _Evaluation(stage, found, examiner, likelihood, reader, opponent, at.folder.path)


@dataclass
class _Evaluation:
    """Called with the trainer: metrics and samples. At the end of the stage its continuations are kept."""

    stage: SipStage
    passages: Sequence[HeldOutPassage]
    examiner: Examiner
    likelihood: LikelihoodExaminer | None
    reader: str
    opponent: Opponent
    folder: Path

    def __call__(self, trainer: SIPTrainer) -> tuple[dict[str, float], list[dict[str, Any]]]:
        stage, section = self.stage, self.stage.evaluation
        assert section is not None
        whole = stage.keep_best is not None  # values of one metric are compared: always of the same prefixes
        last = whole or trainer.state.global_step >= trainer.state.max_steps
        chosen = self.passages if last else self.passages[: section.curve_prefixes]
        nats = None if section.holdout is None else suffix_nats(trainer, chosen)
        ids, found = [list(one.prefix_ids) for one in chosen], [one.passage for one in chosen]
        sampled = partial(
            SamplingParams, stage.sampling.max_new_tokens, seed=SAMPLING_SEED, stop=tuple(stage.sampling.stop)
        )
        modes = [Mode(mode_name(t), ids, sampled(temperature=t), keep=10) for t in section.temperatures]
        beside = {LIKELIHOOD: self.likelihood} if self.likelihood and self.likelihood is not self.examiner else {}
        continued = trainer.rollouts.evaluated(
            trainer,
            lambda engine: evaluate_continuations(
                engine, trainer.processing_class, found, modes, self.examiner, self.opponent.texts, beside
            ),
        )
        if last:
            self._keep(chosen, continued, nats)
        return {**continued.metrics, **({} if nats is None else _loss(nats, chosen))}, continued.samples

    def _keep(self, chosen: Sequence[HeldOutPassage], continued: Continued, nats: list[float] | None) -> None:
        passages = [one.passage for one in chosen]
        rows = [
            {"mode": mode, "prefix": one.prefix, "original": one.suffix, "text": text} | self._read(one, text)
            for mode, texts in continued.texts.items()
            for one, text in zip(passages, texts, strict=True)
        ]
        write_rows(self.folder / CONTINUATIONS, rows)
        if self.stage.keep_best is not None:  # the last evaluation is not the one that counts
            return
        decided = {name: values for name, values in continued.values.items() if {*values} != {None}}
        documents = [one.document for one in passages]
        several = any(documents) and len({*documents}) < len(documents)
        asked = [[one.prefix, one.suffix] for one in passages]
        own = None if nats is None else {"heldout": nats}
        tokens = None if nats is None else [len(one.suffix_ids) for one in chosen]
        keep_answered(self.folder, asked, decided, documents if several else None, own, tokens)

    def _read(self, one: Passage, text: str) -> dict[str, Any]:
        value = None if self.likelihood is None else self.likelihood.known.get((one.prefix, one.suffix, text))
        return {} if value is None else {LIKELIHOOD: value, "read_by": self.reader}


def suffix_nats(trainer: SIPTrainer, passages: Sequence[HeldOutPassage]) -> list[float]:
    """The negative log-likelihood of each passage's own suffix, in nats. All ranks call it."""
    rows = [prompt_completion(one.prefix_ids, one.suffix_ids) for one in passages]
    size = trainer.args.per_device_train_batch_size
    nats: list[float] = []
    with torch.no_grad(), evaluation_mode(trainer.model):
        for start in range(0, len(rows), size):
            batch = trainer.collate(rows[start : start + size])
            logps = trainer.logprobs(trainer.model_wrapped, batch).double()
            nats += (
                torch.zeros(len(batch.input_ids)).double().index_add(0, batch.target_rows.cpu(), -logps.cpu()).tolist()
            )
    return nats


def _loss(nats: Sequence[float], passages: Sequence[HeldOutPassage]) -> dict[str, float]:
    """`heldout/loss`, nats a token of the passages' own suffixes, and its `heldout/perplexity`."""
    loss = sum(nats) / sum(len(one.suffix_ids) for one in passages)
    return {"heldout/loss": loss, "heldout/perplexity": math.exp(loss) if loss < 700 else math.inf}


def _reader(named: str, at: StageRun) -> str:
    """Which model reads, by the files that it is in; a hub id stands for itself."""
    path = at.origin if named == INIT else named
    folder = Path(path).expanduser()
    return f"{hash_model(folder) if folder.is_dir() else path} {at.model.dtype}"


def _likelihood(named: str | None, at: StageRun, opponent: Opponent) -> LikelihoodExaminer:
    assert named is not None
    path = at.origin if named == INIT else named
    tokenizer = load_tokenizer(path, at.model)
    model = load_model(path, at.model, train=False).eval()
    if torch.accelerator.is_available():
        model.to(torch.accelerator.current_accelerator())
    return LikelihoodExaminer(SequenceScorer(model, 1.0, tokenizer.pad_token_id), tokenizer, opponent.likelihood)


def _opponent(stage: SipStage, at: StageRun, reader: str) -> Opponent:
    assert stage.evaluation is not None
    if stage.evaluation.against is None or follows():  # rank 0 measures
        return Opponent()
    place = at.folder.path.parent.parent / stage.evaluation.against / at.folder.path.name / CONTINUATIONS
    texts: dict[str, list[str]] = {}
    asked: dict[str, list[tuple[str, str]]] = {}
    read: dict[Read, float] = {}
    for row in read_rows(place):
        texts.setdefault(row["mode"], []).append(row["text"])
        asked.setdefault(row["mode"], []).append((row["prefix"], row["original"]))
        if reader and row.get("read_by") == reader:
            read[row["prefix"], row["original"], row["text"]] = row[LIKELIHOOD]
    return Opponent(texts, next(iter(asked.values()), []), read)


def _check_alike(opponent: Opponent, ours: Sequence[HeldOutPassage], against: str | None) -> None:
    """Raises DataError where the stage to compare with continued other prefixes, as far as there are some of both."""
    both = zip(opponent.passages, ((one.passage.prefix, one.passage.suffix) for one in ours), strict=False)
    place = next((place for place, (theirs, own) in enumerate(both, 1) if theirs != own), None)
    if place is not None:
        raise DataError(
            f"evaluation.against: {against!r} continued another prefix {place} of {len(opponent.passages)}",
            reason="texts are compared that continue the same one",
            remedy="give both stages the same data, evaluation.data or evaluation.holdout, and cut",
        )
