"""The share of a factor's work that is done on tokens without digits."""

from __future__ import annotations

import math

import pytest
import torch

from ixt_rl.models import byte_tokenizer
from ixt_rl.trainers.style import style_shares, without_digits
from ixt_rl.worlds import AdditionWorld
from ixt_rl.worlds.addition.problem import ID
from tests.unit.trainers.helpers import ScriptedEngine, generation_batch, loss_and_gradient, make_trainer, split


def test_tokens_without_a_digit_are_style():
    style = without_digits(AdditionWorld().tokenizer(), 24)
    named = {word: bool(style[place]) for word, place in ID.items()}
    assert all(named[word] for word in ("C", "V", "#", "K", ":", "=", "<bos>", "<eos>", "<pad>", "<told>"))
    assert not any(named[word] for word in ("0", "7", "m2", "m5"))
    assert style[22:].all()  # ids that no token has
    tokenizer = byte_tokenizer()
    style = without_digits(tokenizer, len(tokenizer))
    assert {tokenizer.decode([place]) for place in (~style).nonzero()[:, 0].tolist()} == set("0123456789")


class Fallback:
    all_special_ids = (3,)

    def get_vocab(self):
        return {"<0x0A>": 0, "<0x31>": 1, "Ġ12": 2, "<|reserved_7|>": 3, "word": 4}


def test_bytes_count_by_what_they_stand_for_and_special_tokens_carry_nothing():
    assert without_digits(Fallback(), 5).tolist() == [True, False, False, True, True]


def test_shares_by_hand():
    factor = torch.tensor([2.0, 0.5, 1.0, 1.5, 0.0])
    style = torch.tensor([True, False, False, False, True])
    found = style_shares(factor, style)
    assert [float(x) for x in found["factor/style_share"]] == [1 + 1, 1 + 0.5 + 0 + 0.5 + 1]
    assert [float(x) for x in found["factor/style_tokens"]] == [2, 5]
    none = torch.tensor([2.0, math.nan, math.inf])  # of tokens without an advantage
    assert float(style_shares(none, torch.tensor([False, True, True]))["factor/style_share"][0]) == 0.0
    nothing = style_shares(torch.zeros(0), torch.zeros(0, dtype=torch.bool))
    assert all(float(x) == 0 for pair in nothing.values() for x in pair)


def logged(trainer, parts) -> dict[str, float]:
    """What an update logs of style; NaN where there is no share."""
    trainer._sums.clear()
    loss_and_gradient(trainer, parts)
    sums = {name: trainer._sums[f"factor/style_{name}"].tolist() for name in ("share", "tokens")}
    return {name: part / whole if whole else math.nan for name, (part, whole) in sums.items()}


def test_an_update_logs_both_shares(tmp_path):
    trainer = make_trainer("intro", tmp_path, engine=ScriptedEngine(), candidates=1)
    tracked = {}
    before = trainer.track
    trainer.track = lambda name, values: (tracked.setdefault(name, values), before(name, values))
    (part,) = split(generation_batch(trainer), 1)
    found = logged(trainer, [part])
    ids = torch.tensor([token for row, _, z in trainer.trained_rows(part) for token in z])
    style = ids > 9
    assert found["tokens"] == pytest.approx(float(style.float().mean()))
    moved = (tracked["factor/taken"] - 1).abs()
    assert found["share"] == pytest.approx(float(moved[style].sum() / moved.sum()), abs=1e-5)
    assert 0 < found["share"] < 1


@pytest.mark.parametrize("method", ["intro", "rlsd", "opsd"])
def test_shares_do_not_depend_on_how_an_update_is_split(tmp_path, method):
    """Micro-batches have unequal numbers of trained tokens, or none."""
    options = {"candidates": 1} if method == "intro" else {}
    trainer = make_trainer(method, tmp_path, engine=ScriptedEngine(), **options)
    batch = generation_batch(trainer)
    whole, halves = (logged(trainer, split(batch, parts)) for parts in (1, 4))
    assert halves == pytest.approx(whole, rel=1e-4)


def test_a_generation_without_a_number_is_not_counted(tmp_path):
    trainer = make_trainer("intro", tmp_path, engine=ScriptedEngine(), candidates=1)
    trainer.told._style.fill_(True)
    found = logged(trainer, split(generation_batch(trainer), 1))
    assert all(math.isnan(value) for value in found.values())
