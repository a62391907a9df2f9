"""From documents to a judge and a rewriter in training: the shipped run files, and a judge that learns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ixt_rl.blocks.model import NewModelBlock
from ixt_rl.config.load import load_run
from ixt_rl.config.problems import InvalidConfig
from ixt_rl.corpus.examples.examples import make_examples
from ixt_rl.corpus.examples.excerpts import ExamplesJob
from ixt_rl.errors import ConfigError
from ixt_rl.models import byte_tokenizer, new_model
from ixt_rl.run import run_config
from ixt_rl.worlds.shared import word_tokenizer
from tests.integration.run_helpers import rows, weights

ROOT = Path(__file__).resolve().parents[2]
STORY = "The {n} boats left at dawn. Their nets were new and dry. By noon number {n} was full of fish, and turned home."
TINY = [
    "model={new: {tokenizer: bytes, hidden_size: 32, heads: 2, intermediate_size: 64, max_positions: 4096}}",
    "stages.train.data.eval_rows=2", "stages.train.template.chat=false", "stages.train.steps=2",
    "stages.train.rollouts_per_step=8", "stages.train.group_size=4", "stages.train.micro_batch_size=8",
    "stages.train.sampling.max_new_tokens=8", "stages.train.evaluation.problems=2", "stages.train.optim.lr=1e-3",
]  # fmt: skip


def documents(path: Path, texts: list[str]) -> str:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return str(path)


def examples(tmp_path: Path, kind, asks: str) -> Path:
    corpus, out = documents(tmp_path / "corpus.jsonl", [STORY.format(n=n) for n in range(8)]), tmp_path / "rows.jsonl"
    make_examples(ExamplesJob(kind, corpus, byte_tokenizer(), asks, suffix_tokens=60), out)
    return out


def shipped(kind: str, tmp_path: Path, *overrides: str):
    output = [f"output_dir={tmp_path / 'runs'}", f"stages.train.data.path={tmp_path / 'rows.jsonl'}"]
    return load_run(ROOT / "configs" / "sip" / f"{kind}.yaml", [*output, *overrides])


def metrics(folder: Path, phase: str) -> list[dict]:
    return [row for row in rows(folder) if row["phase"] == phase]


def test_two_updates_of_a_judge(tmp_path):
    examples(tmp_path, "judge", "pairwise-quality")
    # an untrained model writes no verdict; letters give its groups something to differ in
    mixed = "stages.train.rewards=[{type: verdict, unreadable: -0.5}, {type: format, pattern: '.*[a-z].*'}]"
    folder = run_config(shipped("judge", tmp_path, *TINY, mixed))
    trained, evaluated = metrics(folder, "train"), metrics(folder, "eval")
    assert [row["step"] for row in trained][-1] == 2
    assert {row["verdict/unreadable"] for row in trained} == {1.0}
    assert all(row["rollout/undecided"] == 0 for row in trained)
    assert evaluated[-1]["greedy/checked"] == -0.5 and evaluated[-1]["greedy/undecided"] == 0
    start = {name: value.clone() for name, value in weights_of(folder / "initial").items()}
    after = weights(folder)
    assert any(not torch.equal(start[name], after[name]) for name in start)


def test_two_updates_of_a_rewriter(tmp_path):
    examples(tmp_path, "rewriter", "quality")
    judge = tmp_path / "judge.py"
    judge.write_text(
        "def judge(fields):\n"
        "    if 'a' in fields:\n"
        "        a, b = (sum(map(ord, fields[name])) % 97 for name in 'ab')\n"
        "        return 'A' if a > b else 'B' if b > a else 'tie'\n"
        "    return len(fields['continuation']) % 2 == 0\n"
    )
    brief(tmp_path / "brief")
    reward = f'stages.train.rewards=[{{type: rewrite, judge: "python:{judge}:judge"}}]'
    model = f"model={{path: {tmp_path / 'brief'}}}"
    more = ["stages.train.rollouts_per_step=16", "stages.train.sampling.temperature=1.0"]
    folder = run_config(shipped("rewriter", tmp_path, *TINY[1:], *more, model, reward))
    trained = metrics(folder, "train")
    assert [row["step"] for row in trained][-1] == 2
    assert all(row["rollout/undecided"] == 0 and row.get("rewrite/undecided", 0) == 0 for row in trained)
    seen = [row["reward"] for row in trained]
    assert any(value > 0 for value in seen) and all(0 <= value <= 1 for value in seen)
    assert min(row["rewrite/unreadable"] for row in trained) < 1
    assert json.loads((folder / "summary.json").read_text())["stages"][0]["reward_errors"] == 0


def brief(folder: Path) -> None:
    """A tiny model of bytes whose answers are a few letters: an untrained one hardly ever ends."""
    tokenizer = byte_tokenizer()
    spec = NewModelBlock(hidden_size=32, heads=2, intermediate_size=64, max_positions=4096)
    model = new_model(spec, tokenizer)
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(30):
        ids = torch.randint(64, 90, (16, 24))
        ids[:, 5::6] = tokenizer.eos_token_id
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["stages.train.rewards=[{type: verdict, rubric: pairwise}]"], "did you mean `pairwise-quality`"),
        (["stages.train.rewards=[{type: verdict, unreadable: none}]"], "unreadable"),
        (["stages.train.rewards=[{type: rewrite}]"], "judge"),
        (["stages.train.rewards=[{type: rewrite, judge: world}]"], "no world that could judge"),
        (["stages.train.rewards=[{type: rewrite, judge: qwen}]"], "python:FILE.py:FUNCTION"),
        (["stages.train.rewards=[{type: verdicts}]"], "verdict"),
        (["stages.train.data.columns=[prefix, answer]"], "a row has a `answer` of its own"),
    ],
)
def test_wrong_files_say_what_is_wrong(tmp_path, overrides, said):
    documents(tmp_path / "rows.jsonl", ["one"])
    with pytest.raises(InvalidConfig) as error:
        shipped("judge", tmp_path, *overrides)
    assert said in str(error.value)


def test_rewards_without_their_rows_are_refused_before_a_model_loads(tmp_path):
    examples(tmp_path, "rewriter", "quality")
    for overrides, said in (
        (["stages.train.data.columns=[prefix]"], r"set data.columns: \[prefix, suffix, original, good\]"),
        (["stages.train.data={world: addition}"], "rows that `ixt-rl examples rewriter` wrote"),
    ):
        with pytest.raises(ConfigError, match=said):
            run_config(shipped("rewriter", tmp_path, *TINY[1:], *overrides, "model={path: not/there}"))


# ------------------------------------------------------------------------------------------ learning

TOY_RUBRIC = """
name: toy
fields: [prefix, a, b]
pair: [a, b]
comment: nothing
prompt: "{prefix} first {a} second {b} {answer_format}"
axes: {verdict: {labels: {A: 1, B: 0, tie: 0.5}}}
"""
ANSWERS = ("Verdict:A", "Verdict:B")


def toy(tmp_path: Path) -> None:
    """Rows, and a model of their words that answers A or B as a coin falls."""
    topics = [["sun", "sand", "palm", "well"], ["snow", "fir", "ice", "wolf"], ["net", "tide", "gull", "salt"]]
    texts = []
    for n in range(200):
        topic, digits = topics[n % 3], [n % 4, n // 4 % 4, n // 16 % 4, n // 64 % 4]
        texts.append(" ".join(topic[d] for d in [*digits, *reversed(digits), *digits]))
    (tmp_path / "toy.yaml").write_text(TOY_RUBRIC)
    corpus = documents(tmp_path / "corpus.jsonl", texts)
    words = sorted({word for topic in topics for word in topic})
    cutter = word_tokenizer({word: i for i, word in enumerate([*words, "<bos>", "<eos>", "<pad>"])})
    job = ExamplesJob("judge", corpus, cutter, str(tmp_path / "toy.yaml"), suffix_tokens=7, spoilers=("junk",))
    make_examples(job, tmp_path / "rows.jsonl")
    prompts = [json.loads(line)["prompt"] for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    known = sorted({*" ".join(prompts).split(), *ANSWERS, "<bos>", "<eos>", "<pad>"})
    tokenizer = word_tokenizer({word: i for i, word in enumerate(known)})
    model = new_model(NewModelBlock(hidden_size=48, layers=2, heads=2, intermediate_size=96, init_std=0.1), tokenizer)
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(40):
        coins = torch.randint(2, (32,)).tolist()
        batch = [f"{prompts[(step * 32 + i) % len(prompts)]} {ANSWERS[coin]} <eos>" for i, coin in enumerate(coins)]
        encoded = tokenizer(batch, return_tensors="pt", padding=True)
        labels = encoded["input_ids"].clone()
        labels[:, :-2] = -100  # padded on the left: the answer and EOS come last
        loss = model(**encoded, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(tmp_path / "coin")
    tokenizer.save_pretrained(tmp_path / "coin")


@pytest.mark.long("tests/integration/test_judge_training.py::test_two_updates_of_a_judge")
def test_a_judge_learns_the_right_verdict(tmp_path):
    toy(tmp_path)
    folder = run_config(
        shipped(
            "judge", tmp_path, f"model={{path: {tmp_path / 'coin'}}}", "threads=1", "stages.train.template.chat=false",
            "stages.train.data.eval_rows=100", f"stages.train.rewards.0.rubric={tmp_path / 'toy.yaml'}",
            "stages.train.steps=60", "stages.train.rollouts_per_step=64", "stages.train.group_size=2",
            "stages.train.micro_batch_size=64", "stages.train.sampling={max_new_tokens: 3, max_prompt_tokens: 128}",
            "stages.train.optim.lr=1.5e-3", "stages.train.evaluation={every: 60, problems: 100}",
            "stages.train.gradient_checkpointing=false", "stages.train.checkpoint_every=null",
        )
    )  # fmt: skip
    evaluated = metrics(folder, "eval")
    assert evaluated[0]["sampled/checked"] < 0.65  # documents that it was not trained on, in both orders
    assert evaluated[-1]["sampled/checked"] > 0.8
