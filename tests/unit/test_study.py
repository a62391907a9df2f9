"""The study: run files that can run, one rule for rates, paired tests by closed form, and a page of what is there."""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks" / "study"))

import plan  # noqa: E402
import rates  # noqa: E402
from measured import read_measured, write_measured  # noqa: E402
from page import question_1, question_2, values, write_page  # noqa: E402
from stats import corrected, difference, mean_error  # noqa: E402
from store import Store  # noqa: E402
from study import at_least_1, opened  # noqa: E402

from ixt_rl.config.load import load_run  # noqa: E402
from ixt_rl.ledger import Ledger  # noqa: E402
from ixt_rl.methods.registry import types  # noqa: E402
from ixt_rl.rollout.transformers_engine import TransformersEngine  # noqa: E402
from ixt_rl.rollout.trl_adapter import EngineRollouts  # noqa: E402
from ixt_rl.types import Rollout, SamplingParams  # noqa: E402
from ixt_rl.worlds.addition.problem import ID  # noqa: E402
from tests.unit.trainers.helpers import make_trainer  # noqa: E402

BASE = plan.Base("addition", "parity", 1)


def finished(store: Store, what, rows: list[dict]) -> None:
    """What a run of `what` leaves, as far as the study reads it."""
    store.write(what)
    folder = store.stage(what)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "done.json").write_text(json.dumps({"ingredients": {"code": "abc"}}))


def evaluation(step: int, strict: float, checked: float = 0.8) -> dict:
    row = {"phase": "eval", "step": step, "rollouts": 32 * step, "flops": 1e9 * step, "seconds": 0.1 * step}
    row |= {"greedy/strict": strict, "sampled/reasoned": 1.0, "told/reasoned": 1.0, "told/checked": 0.9}
    row |= {"sampled/length": 20.0, "told/length": 12.0, "told/strict": 0.9}
    return row | {"sampled/strict": strict, "sampled/checked": checked}


# ----------------------------------------------------------------------------------------------- run files


def test_every_cell_and_base_is_a_run_file_that_check_passes(tmp_path):
    store = Store(tmp_path)
    for world in plan.WORLDS.values():
        load_run(store.write(plan.Base(world.documents, world.view, 1)))
    folder = tmp_path / "bases" / BASE.name / "model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    checked = [arm for arm, block in plan.ARMS.items() if block.keys.get("like", block.keys["type"]) in types()]
    assert set(plan.MAIN_ARMS) <= set(checked)
    for arm in checked:
        config = load_run(store.write(plan.Cell("clean", arm, 2e-4, 1, 3)))
        assert config.seeds == [3]
        assert (config.stages[0].steps, config.stages[0].rollouts_per_step) == (100, 32)
        assert config.stages[0].optim.lr == 2e-4


def test_cells_come_seed_by_seed_and_share_bases_where_documents_are_the_same():
    cells = plan.ordered(["clean", "wrong-keys"], ["grpo"], (1, 2), (1, 2), lambda world, arm: 1e-4)
    assert [(cell.seed, cell.base, cell.world) for cell in cells[:4]] == [
        (1, 1, "clean"), (1, 1, "wrong-keys"), (1, 2, "clean"), (1, 2, "wrong-keys"),
    ]  # fmt: skip
    assert len(cells) == len({cell.name for cell in cells}) == 8
    assert len({cell.of for cell in cells}) == 2
    assert plan.ordered(["clean"], ["grpo"], (1,), (1,), lambda world, arm: None) == []


def test_a_cell_is_done_by_the_run_file_of_now_and_no_other(tmp_path):
    store, cell = Store(tmp_path), plan.Cell("clean", "grpo", 1e-4, 1, 1)
    assert not store.is_done(cell)
    store.write(cell)
    assert not store.is_done(cell)  # it was started
    finished(store, cell, [evaluation(20, 0.5), evaluation(100, 0.7)])
    assert store.is_done(cell)
    assert store.missing([cell, cell, BASE]) == [BASE]
    found = store.measured(cell)
    assert (found["sampled/strict"], found["sampled/strict@20"], found["rollouts"]) == (0.7, 0.5, 3200)
    assert found["code"] == "abc"
    assert not Store(tmp_path, steps=50).is_done(cell)


def test_a_cell_of_another_checkout_is_done(tmp_path):
    store, cell = Store(tmp_path), plan.Cell("shortcut", "intro-steps", 1e-4, 1, 1)
    finished(store, cell, [evaluation(100, 0.7)])
    file = store.file_of(cell)
    assert str(plan.HERE) in file.read_text()  # its trainer is one of the study's
    file.write_text(file.read_text().replace(str(plan.HERE), "/elsewhere/benchmarks/study"))
    assert store.is_done(cell)
    file.write_text(file.read_text().replace("intro_arms.py", "other_arms.py"))
    assert not store.is_done(cell)


# ----------------------------------------------------------------------------------------------- rates


def asked(tried: dict[float, float]) -> list[float]:
    return [cell.rate for cell in rates.trials("clean", "grpo", tried)]


def test_the_rule_for_rates_tries_three_and_one_beyond_an_end():
    assert asked({}) == [1e-4, 2e-4, 4e-4]
    assert asked({2e-4: 0.5}) == [1e-4, 4e-4]
    assert asked({1e-4: 0.4, 2e-4: 0.6, 4e-4: 0.5}) == []
    assert asked({1e-4: 0.4, 2e-4: 0.5, 4e-4: 0.6}) == [8e-4]
    assert asked({1e-4: 0.6, 2e-4: 0.5, 4e-4: 0.4}) == [5e-5]
    assert asked({1e-4: 0.4, 2e-4: 0.5, 4e-4: 0.6, 8e-4: 0.7}) == []
    assert rates.best({1e-4: 0.6, 2e-4: 0.6, 4e-4: 0.5}) == 1e-4


def test_rates_are_chosen_on_the_tuning_base_and_kept(tmp_path):
    store = Store(tmp_path)
    table = rates.Rates(store, given=False)
    assert len(table.untuned([("clean", "gpg")])) == 3
    assert table.of("clean", "gpg") is None
    for rate, strict in ((1e-4, 0.3), (2e-4, 0.7), (4e-4, 0.5)):
        cell = plan.Cell("clean", "gpg", rate, plan.TUNING, plan.TUNING)
        finished(store, cell, [evaluation(100, strict)])
    finished(store, plan.Cell("clean", "gpg", 4e-4, 1, 1), [evaluation(100, 0.99)])  # reported: it chooses nothing
    assert table.untuned([("clean", "gpg")]) == []
    assert table.of("clean", "gpg") == rates.Rates(store, given=False).of("clean", "gpg") == 2e-4


def test_given_rates_say_where_they_come_from():
    for world, arms in json.loads(rates.GIVEN.read_text()).items():
        assert world in plan.WORLDS
        for arm, one in arms.items():
            assert arm in plan.ARMS
            assert one["rate"] > 0
            assert one["from"]


def test_the_candidate_has_the_best_worst_margin():
    shares = {"clean": {"a": 0.8, "b": 0.7, "r": 0.75}, "shortcut": {"a": 0.2, "b": 0.5, "r": 0.5}}
    table = {
        world: {
            arm: {"rate": 1e-4, "strict": {"0.0001": share, "0.0002": 0.1}, "from": "the rule"}
            for arm, share in arms.items()
        }
        for world, arms in shares.items()
    }
    chosen, margins = rates.candidate(table, ["a", "b"], ["r"])
    assert chosen == "b"  # at worst -.05, where a is at worst -.3
    assert margins["a"] == {"clean": pytest.approx(0.05), "shortcut": pytest.approx(-0.3)}
    table["shortcut"]["b"]["from"] = "a guess"
    assert rates.candidate(table, ["a", "b"], ["r"]) is None


# ----------------------------------------------------------------------------------------------- tests


def test_paired_differences_by_hand():
    a = {(1, 1): 0.5, (1, 2): 0.6, (2, 1): 0.7, (3, 9): 0.9}
    b = {(1, 1): 0.4, (1, 2): 0.4, (2, 1): 0.4}
    found = difference(a, b)  # .1 .2 .3: t = .2 / (.1 / sqrt 3) = 3.4641, two degrees of freedom
    assert found.pairs == 3
    assert found.mean == pytest.approx(0.2)
    assert found.error == pytest.approx(0.1 / math.sqrt(3))
    assert found.p == pytest.approx(0.0742, abs=5e-5)
    assert found.low == pytest.approx(0.2 - 4.30265 * 0.1 / math.sqrt(3), abs=1e-5)
    assert found.bases == {1: pytest.approx(0.15), 2: pytest.approx(0.3)}


def test_bases_as_clusters_are_a_t_interval_of_their_means_where_they_are_of_one_size():
    d = {(1, 1): 0.1, (1, 2): 0.3, (2, 1): 0.2, (2, 2): 0.4, (3, 1): 0.0, (3, 2): 0.2}
    found = difference(d, dict.fromkeys(d, 0.0))  # means .2 .3 .1: error .1 / sqrt 3, two degrees of freedom
    half = 4.30265 * 0.1 / math.sqrt(3)
    assert found.clustered == (pytest.approx(0.2 - half, abs=1e-5), pytest.approx(0.2 + half, abs=1e-5))


def test_little_is_said_of_little():
    assert difference({}, {}).mean is None
    one = difference({(1, 1): 0.5}, {(1, 1): 0.2})
    assert one.mean == pytest.approx(0.3)
    assert (one.p, one.low, one.clustered) == (None, None, None)
    assert mean_error([0.4]) == (0.4, None)
    alike = difference({(1, 1): 0.5, (1, 2): 0.5}, {(1, 1): 0.25, (1, 2): 0.25})
    assert alike.p is None  # nothing shows how much they vary
    two = difference({(1, 1): 0.5, (1, 2): 0.6}, {(1, 1): 0.4, (1, 2): 0.4})
    tested = corrected([one, two, two])
    assert [test.adjusted for test in tested] == [
        None,
        pytest.approx(min(1, 2 * two.p)),
        pytest.approx(min(1, 2 * two.p)),
    ]


# ----------------------------------------------------------------------------------------------- the page


def grid(worlds, shares: dict[str, float]) -> dict[plan.Cell, dict]:
    """Cells of three bases and two seeds, with noise that is the same for all arms but for a part of each."""
    found = {}
    for world in worlds:
        for number, (arm, strict) in enumerate(shares.items()):
            for base in plan.BASES:
                for seed in (1, 2):
                    noise = 0.02 * base + 0.001 * ((seed * (number + 2) + base) % 3)
                    row = evaluation(100, strict + noise, strict + 0.1 + noise)
                    found[plan.Cell(world, arm, 1e-4, base, seed)] = row
    return found


def test_question_1_holds_the_candidate_against_the_best_rival_of_each_world():
    shares = {"told-nll": 0.8, "grpo": 0.7, "raft": 0.5, "told-tail": 0.79}
    rows = question_1(grid(plan.MAIN_WORLDS, shares), "told-tail")
    assert len(rows) == 8
    assert {row["rival"] for row in rows} == {"told-nll"}
    assert not any(row["passes"] for row in rows)
    ahead = question_1(grid(["clean"], {**shares, "told-tail": 0.85}), "told-tail")
    assert all(row["passes"] for row in ahead)
    assert question_1(grid(["clean"], {"told-tail": 0.8, "grpo": 0.1}), "told-tail") == []  # a rival is missing


def test_question_2_corrects_all_its_tests_together():
    shares = {"told-nll": 0.6, "rlsd": 0.6, "grpo": 0.7, "raft": 0.5, "intro": 0.8}
    rows = question_2(grid(plan.CHOSEN, shares), "sampled/checked")
    assert len(rows) == 8  # two worlds, the one setting that there is, four opponents
    smallest = min(rows, key=lambda row: row["p"])
    assert smallest["adjusted"] == pytest.approx(min(1.0, 8 * smallest["p"]))
    assert all(row["mean"] > 0 for row in rows)


def test_the_page_says_that_a_pilot_is_one(tmp_path):
    measured = grid(["clean"], {"told-nll": 0.8, "grpo": 0.7, "raft": 0.5})
    bases = {BASE: evaluation(0, 0.5)}
    write_page(tmp_path, measured, bases, {}, None, plan.ARMS, {"cpu": "one"})
    text = (tmp_path / "study.md").read_text()
    assert "**A pilot**: at most 6 of 15 cells an arm" in text
    assert "| told-nll |" in text
    assert "0.841 ± 0.007" in text
    found = json.loads((tmp_path / "study.json").read_text())
    assert len(found["cells"]) == 18
    assert (tmp_path / "clean.png").stat().st_size > 1000
    assert values(measured, "clean", "grpo", "sampled/strict").keys() == {(b, s) for b in (1, 2, 3) for s in (1, 2)}


def test_what_was_measured_elsewhere_counts_as_done_and_makes_the_same_page(tmp_path):
    cells = grid(["clean"], {"told-nll": 0.8, "grpo": 0.7, "raft": 0.5})
    cells = {cell: {**row, "phase": None, "code": "abc"} for cell, row in cells.items()}
    write_measured(tmp_path / "measured.csv", {cell.name: row for cell, row in cells.items()})
    known = read_measured(tmp_path / "measured.csv")
    store = Store(tmp_path / "out", known=known)
    other = plan.Cell("clean", "grpo", 2e-4, 1, 1)  # another rate is another cell
    assert store.missing([*cells, other, BASE]) == [other, BASE]
    found = store.done_cells(cells)
    assert found.keys() == cells.keys()
    for cell, row in cells.items():
        assert found[cell]["code"] == "abc"
        for name in ("sampled/strict", "greedy/strict", "flops"):
            assert found[cell][name] == pytest.approx(row[name], rel=1e-5)
    finished(store, other, [evaluation(100, 0.25)])
    assert store.missing([other]) == []


def test_a_measure_that_a_cell_lacks_is_empty_in_the_table_and_not_0(tmp_path):
    file = tmp_path / "measured.csv"
    write_measured(file, {"a": {"code": None, "x": 0.5, "y": 0.0}, "b": {"code": "c", "y": 2e12}})
    assert read_measured(file) == {"a": {"code": None, "x": 0.5, "y": 0.0}, "b": {"code": "c", "y": 2e12}}
    file.write_text(file.read_text() + "d,c,half,1\n")
    with pytest.raises(ValueError, match=r"the row of d .*half"):
        read_measured(file)


def test_every_row_of_the_table_that_comes_with_the_study_is_on_its_page(tmp_path):
    known = read_measured(ROOT / "benchmarks" / "study" / "measured.csv")
    of = rates.Rates(Store(tmp_path)).of
    cells = plan.ordered(plan.WORLDS, plan.ARMS, plan.BASES, plan.SEEDS, of)
    assert known.keys() <= {cell.name for cell in cells} | {cell.of.name for cell in cells}


def test_what_was_run_to_try_things_out_says_so(tmp_path):
    cell, sizes = plan.Cell("clean", "grpo", 1e-4, 1, 1), {"steps": 2, "base_steps": 20}
    measured = {cell: evaluation(2, 0.5)}
    write_page(tmp_path, measured, {BASE: evaluation(0, 0.5)}, {}, None, plan.ARMS, {"cpu": "one"}, sizes)
    text = (tmp_path / "study.md").read_text()
    assert "Cells have 2 updates, not the design's 100. Bases have 20 updates, not the design's 1900." in text


def asked_of(out: Path, known: Path | None = None, steps: int = plan.STEPS, base_steps: int = plan.BASE_STEPS):
    given = {"out": out, "known": known, "steps": steps, "base_steps": base_steps}
    rest = {"worlds": ["clean"], "arms": ["grpo"], "short": False, "tune": False, "minutes": None}
    return opened(argparse.ArgumentParser(), argparse.Namespace(**given, **rest)).store


def test_other_sizes_do_not_run_over_what_a_folder_has(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("study.machine", dict)
    store = asked_of(tmp_path)
    for what in (BASE, plan.Cell("clean", "grpo", 1e-4, 1, 1)):
        finished(store, what, [evaluation(100, 0.7)])
    asked_of(tmp_path)
    for steps, base_steps, said in ((2, 1900, "cells of 100 updates, and --steps is 2"), (100, 20, "bases of 1900")):
        with pytest.raises(SystemExit):
            asked_of(tmp_path, steps=steps, base_steps=base_steps)
        assert said in (error := capsys.readouterr().err)
        assert "or another --out" in error


def test_a_table_that_is_none_ends_the_command_in_words(tmp_path, capsys):
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    for file, said in ((other, "no columns `name` and `code`"), (tmp_path / "none.csv", "No such file")):
        with pytest.raises(SystemExit):
            asked_of(tmp_path / "out", known=file)
        assert said in capsys.readouterr().err
    with pytest.raises(argparse.ArgumentTypeError, match="at least 1"):
        at_least_1("0")


@pytest.mark.slow
def test_a_stop_while_the_server_still_imports_leaves_nothing_that_starts_later(tmp_path):
    (tmp_path / "slow_to_import.py").write_text("import time\ntime.sleep(4)\n")
    code = f"""
import math, sys
from pathlib import Path
sys.path[:0] = [{str(plan.HERE)!r}, {str(tmp_path)!r}]
import jobs
from ixt_rl.signals import stoppable
jobs._PRELOAD = ["slow_to_import"]
with stoppable():
    print("begun", flush=True)
    list(jobs.run_files([Path("none.yaml")], 1, math.inf))
"""
    asked = [sys.executable, "-c", code]
    with subprocess.Popen(asked, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as study:
        assert study.stdout.readline() == "begun\n"
        time.sleep(1.5)
        study.terminate()
        assert study.wait(30) != 0
    time.sleep(6)
    assert not (tmp_path / "none.log").exists()  # what a run that has started writes first


# ----------------------------------------------------------------------------------------------- arms


def where(positions, taken, **columns):
    return SimpleNamespace(
        rows=torch.zeros(len(positions), dtype=torch.long),
        positions=torch.tensor(positions),
        taken_ids=torch.tensor(taken),
        signals=SimpleNamespace(columns=columns),
    )


def made(trainer):
    one = object.__new__(trainer)
    one.args = SimpleNamespace(spec=SimpleNamespace(limit=200.0))
    return one


def test_the_tail_keeps_the_factor_from_the_token_that_chooses_the_style():
    from intro_arms import StepsInTRO, TailInTRO

    logp, logq = torch.tensor([[0.5], [0.5], [0.1]]).log(), torch.tensor([[0.1], [0.1], [0.9]]).log()
    for trainer, first in ((TailInTRO, 1.0), (StepsInTRO, 0.0)):
        found = made(trainer).factor(logp, logq, where([0, 1, 2], [15, 3, 4]))
        assert found.flatten().tolist() == pytest.approx([first, 0.2, 9.0])


def test_the_verifiers_posterior_is_the_policy_among_right_tokens():
    from intro_arms import ENDS_COLUMNS, VerifierInTRO

    right = torch.tensor([[1.0, 1.0, 1.0, 0.0, 1.0]])
    logp = torch.tensor([[0.4], [0.5], [0.25], [0.5], [0.5]]).log()
    taken = [15, 3, ENDS_COLUMNS[1], 4, 5]
    found = made(VerifierInTRO).factor(logp, logp, where([0, 1, 2, 3, 4], taken, token_right=right))
    assert found.flatten().tolist() == pytest.approx([0.0, 2.0, 1.0, 0.0, 0.0])  # and nothing after a wrong token
    rare = made(VerifierInTRO).factor(torch.tensor([[1e-9]]).log(), logp[:1], where([1], [3], token_right=right))
    assert rare.item() == 200.0


def test_the_told_tail_goes_on_from_the_policys_first_token():
    from told_arms import ToldTail

    asked = []

    class Engine:
        def __init__(self, completions):
            self.completions = completions

        def generate(self, prompts, sampling):
            asked.append((prompts, sampling.max_new_tokens))
            return [
                [Rollout(tuple(p), tuple(c), tuple(-float(i) for i in c), "eos" if c[-1] == 1 else "length", 7)]
                for p, c in zip(prompts, self.completions, strict=True)
            ]

    class Rollouts:
        def _sampling(self, trainer, part):
            return SamplingParams(34, seed=part)

        @contextmanager
        def _sampled_model(self, trainer):
            yield "frozen"

        @contextmanager
        def in_process_engine(self, trainer, model=None):
            yield Engine([[15], [1]] if model is None else [[3, 4, 1], [9, 9]])

    trainer = object.__new__(ToldTail)
    trainer.model, trainer.rollouts = SimpleNamespace(training=True), Rollouts()
    trainer._known, trainer._part, trainer._prompt_ids = None, 0, [[10], [11]]
    trainer._asked_ids, trainer.ledger = [[10, 14], [11, 14]], Ledger(1)  # told
    found = trainer._sampled([], trainer)
    assert asked == [([[10], [11]], 1), ([[10, 14, 15], [11, 14, 1]], 33)]
    assert found["completion_ids"] == [[15, 3, 4, 1], [1]]  # the second had ended by itself
    assert found["logprobs"] == [[-15, -3, -4, -1], [-1]]
    assert found["finish_reason"] == ["eos", "eos"]
    assert found["prompt_ids"] == [[10], [11]]


def test_the_told_tail_of_a_real_trainer_is_sampled_told_and_trained_untold(tmp_path, monkeypatch):
    from told_arms import ToldTail

    asked, trained = [], []
    generate = TransformersEngine.generate

    def recorded(self, prompts, sampling, *args, **kwargs):
        asked.append(([list(prompt) for prompt in prompts], sampling.max_new_tokens))
        return generate(self, prompts, sampling, *args, **kwargs)

    monkeypatch.setattr(TransformersEngine, "generate", recorded)
    trainer = make_trainer("star", tmp_path, trainer_class=ToldTail, rollouts=EngineRollouts(), max_steps=1)
    batch_of = trainer.policy_batch
    monkeypatch.setattr(trainer, "policy_batch", lambda rows: trained.append(rows) or batch_of(rows))
    trainer.train()
    (plain, one), (told, rest) = asked[-2:]
    assert (one, rest) == (1, 33)
    for untold, begun in zip(plain, told, strict=True):
        assert ID["<told>"] not in untold
        place = begun.index(ID["<told>"])
        assert begun[:place] == untold[:-1]  # both end in `=`; the told one goes on with the first token
        assert begun[-2] == untold[-1] == ID["="]
    assert all(ID["<told>"] not in prompt for rows in trained for _, prompt, _ in rows)


def test_the_overlap_counts_what_only_the_told_model_finds_likely_by_its_share(tmp_path):
    from told_arms import ToldOverlap

    trainer = make_trainer("star", tmp_path, trainer_class=ToldOverlap)
    prompt, completion = [10, 1, 2, 13], [15, 3, 4, 11]
    batch = trainer.policy_batch([(0, prompt, completion)])
    ids = torch.tensor([prompt + completion])
    with torch.no_grad():
        logits = trainer.model(input_ids=ids).logits.float().log_softmax(-1)[0, len(prompt) - 1 : -1]
    plain = logits.gather(1, torch.tensor(completion)[:, None]).T
    more = torch.tensor([[0.0, 2.0, -1.0, 0.5]])  # of the told log-prob over the plain one
    columns = {"sampling_per_token_logps": plain + more, "completion_mask": torch.ones(1, 4)}
    found = trainer.token_weights(batch, SimpleNamespace(columns=columns, rows_per_update=torch.tensor(2.0)))
    assert found.tolist() == pytest.approx((torch.exp(-more.clamp(min=0)) / (4 * 2.0))[0].tolist(), rel=1e-4)


def test_told_steps_leaves_the_first_token_of_every_rationale_untrained():
    from told_arms import ToldSteps

    loss_mask = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 0, 0]]).bool()
    batch = SimpleNamespace(loss_mask=loss_mask, target_rows=torch.tensor([0, 0, 0, 1, 1]))
    found = made(ToldSteps).token_weights(batch, SimpleNamespace(rows_per_update=torch.tensor(2.0)))
    assert found.tolist() == pytest.approx([0, 1 / 6, 1 / 6, 0, 1 / 4])
