"""Streams that end: the updates are counted before, everything comes so many times, the last update is part-filled."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from ixt_rl.data.document_source import DocumentSource
from ixt_rl.data.holdout import Holdout
from ixt_rl.data.in_memory import LevelFilter, MemoryCorpus, Repeated
from ixt_rl.data.stream import DocumentStream
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.trainers.update_stream import SharedUpdates, UpdateStream
from tests.unit.data import files
from tests.unit.trainers import ixt_helpers, sip_helpers

SPLITS = [(8, 1), (2, 4)]
"""(rows in a forward pass, passes of an update)."""


def trainer(folder, data, rows: int = 8, parts: int = 1, **options):
    settings = {"max_steps": -1, "per_device_train_batch_size": rows, "gradient_accumulation_steps": parts}
    return ixt_helpers.make_trainer(folder, data, **{**settings, "max_length": 64, "buffer_rows": 8, **options})


def weights(one) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in one.model.parameters()])


def test_every_token_of_every_pass_is_trained_once(tmp_path):
    docs = ixt_helpers.documents(11)
    one = trainer(tmp_path, MemoryCorpus(docs, 0, passes=2), rows=2, parts=4)
    given = list(one.rows.source)
    one.rows.source.load_state_dict(one.rows.start)
    assert len(given) % 8, "the last update is part-filled"
    assert one.args.max_steps == -(-len(given) // 8)
    one.train()
    assert one.state.global_step == one.args.max_steps
    counted = one.rows.source.counts
    assert counted.documents == 22
    assert one.ledger.tokens["train"] == counted.tokens == sum(len(row["input_ids"]) for row in given)
    assert counted.judged_tokens == sum(document.judged_tokens for document in docs), "judged in the first pass only"
    logs = [row for row in one.state.log_history if "loss" in row]
    assert logs[-1]["num_tokens"] == counted.tokens
    assert all(row[name] == row[name] for row in logs for name in ("loss", "grad_norm", "entropy"))


def test_the_last_update_is_the_mean_over_its_own_tokens(tmp_path):
    """However many of its forward passes have no row; and it is that of rows alone, without any padding."""
    made = [
        trainer(tmp_path / str(rows), MemoryCorpus(ixt_helpers.documents(11), 0, 1), rows, parts)
        for rows, parts in SPLITS
    ]
    left = len(list(made[0].rows.source)) % 8
    made[0].rows.source.load_state_dict(made[0].rows.start)
    assert 0 < left <= 6, "the last of four passes has none"
    for one in made:
        one.train()
    torch.testing.assert_close(weights(made[0]), weights(made[1]), rtol=0, atol=2e-6)
    entropies = [[row for row in one.state.log_history if "entropy" in row][-1]["entropy"] for one in made]
    assert entropies[1] == pytest.approx(entropies[0], rel=0.02), "a pass without a token has no entropy"


def test_a_stopped_run_ends_where_the_straight_one_did(tmp_path):
    settings = {"rows": 4, "parts": 2, "save_strategy": "steps", "save_steps": 2, "feedback_dropout": 0.3}
    straight = trainer(tmp_path / "a", MemoryCorpus(ixt_helpers.documents(11), 0, 2), **settings)
    straight.train()
    assert straight.state.global_step > 2 and (tmp_path / "a" / "checkpoint-2").is_dir()
    resumed = trainer(tmp_path / "b", MemoryCorpus(ixt_helpers.documents(11), 0, 2), **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-2"))
    assert resumed.state.global_step == straight.state.global_step
    assert resumed.ledger.tokens == straight.ledger.tokens
    assert torch.equal(weights(resumed), weights(straight))


def test_of_files_what_is_held_out_or_of_another_level_is_in_no_pass(tmp_path):
    paths = [files.write(tmp_path / f"{name}.jsonl", files.documents(name, 12)) for name in "ab"]
    sources = [DocumentSource((path,), weight=weight) for path, weight in zip(paths, (1.0, 5.0), strict=True)]
    held = Holdout(sources, 2)
    stream = LevelFilter(DocumentStream(sources, 0, 3, held), [1, 2, 4])
    found = Counter(document.text for document in stream)
    levels = {row["text"]: row["feedback_level"] for name in "ab" for row in files.documents(name, 12)}
    aside = {document.text for documents in held.documents for document in documents}
    assert found == {text: 3 for text, level in levels.items() if level in (1, 2, 4) and text not in aside}
    again = LevelFilter(DocumentStream(sources, 0, 3, held), [1, 2, 4])
    updates = UpdateStream(again, 4)
    assert updates.length(-1) == -(-found.total() // 4)
    assert Counter(document.text for document in updates) == found, "counting leaves the stream at its beginning"


def test_what_has_no_end_needs_a_number_of_updates(tmp_path):
    with pytest.raises(ConfigError, match="max_steps=-1") as caught:
        trainer(tmp_path, ixt_helpers.documents(4))
    assert "epochs=1" in caught.value.remedy
    with pytest.raises(DataError, match="0 items in all passes"):
        trainer(tmp_path, LevelFilter(MemoryCorpus(ixt_helpers.documents(4), 0, 1), []))
    with pytest.raises(ConfigError, match="max_steps=-1"):
        sip_helpers.make_trainer(tmp_path, config={"max_steps": -1})


def test_the_cursor_of_a_part_filled_update_is_the_end():
    stream = UpdateStream(Repeated([*range(5)], 0, passes=2), 4, filler="-")
    assert stream.length(-1) == 3 and stream.length(7) == 7
    items = list(stream)
    assert Counter(items[:10]) == dict.fromkeys(range(5), 2) and items[10:] == ["-", "-"]
    assert [stream.cursors[update]["read"] for update in range(4)] == [0, 4, 8, 10]
    stream.start, stream.first_update = stream.cursors[2], 2
    assert list(stream) == items[8:]
    assert stream.cursors[3]["read"] == 10


def test_each_rank_has_neighbours_and_none_where_prompts_are_missing():
    """What a loader of 2 ranks and micro-batches of 3 gives each of them: its half of every update, in order."""
    updates = SharedUpdates(Repeated([*range(31)], 0, passes=1), 12, ranks=2, at_once=3)
    alone = [*UpdateStream(Repeated([*range(31)], 0, passes=1), 12)]
    dealt = [*updates]
    turns = [dealt[at : at + 3] for at in range(0, 36, 3)]
    first, second = ([item for turn in turns[rank::2] for item in turn] for rank in range(2))
    assert first == alone[:6] + alone[12:18] + alone[24:28] + [None] * 2  # the last update has 7
    assert second == alone[6:12] + alone[18:24] + alone[28:] + [None] * 3
    assert [updates.cursors[update]["read"] for update in range(4)] == [0, 12, 24, 31]
    assert [*SharedUpdates(Repeated([*range(31)], 0, passes=1), 12, ranks=1, at_once=3)] == alone + [None] * 5
    assert [*SharedUpdates(Repeated([7], 0, passes=1), 4, ranks=2, at_once=2)] == [7, None, None, None]


class Seen(sip_helpers.SIPTrainer):
    """Keeps the prompts of every update."""

    def judged(self, items):
        self.__dict__.setdefault("updates", []).append([item.key for item in items])
        return super().judged(items)


def test_sip_asks_for_every_prompt_once_a_pass(tmp_path):
    config = {
        "max_steps": -1, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 4,
        "save_strategy": "steps", "save_steps": 2,
    }  # fmt: skip
    prompts = [replace(prompt, key=str(number)) for number, prompt in enumerate(sip_helpers.prompts(5))]
    made = [
        sip_helpers.make_trainer(
            tmp_path / name, data=Repeated(prompts, 0, passes=2), config=config, trainer_class=Seen
        )
        for name in ("straight", "resumed")
    ]
    straight, resumed = made
    straight.train()
    assert [len(keys) for keys in straight.updates] == [4, 4, 2]
    asked = [key for keys in straight.updates for key in keys]
    for first, last in pairwise((0, 5, 10)):
        assert sorted(asked[first:last]) == [str(number) for number in range(5)]
    resumed.train(resume_from_checkpoint=str(tmp_path / "straight" / "checkpoint-2"))
    assert resumed.updates == straight.updates[2:]
    assert resumed.ledger.tokens == straight.ledger.tokens
    assert torch.equal(weights(resumed), weights(straight))
