"""Good files load, with defaults filled in; overrides, anchors and numbers mean what people expect."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from ixt_rl.blocks.engine import CorrectionBlock, EngineBlock
from ixt_rl.blocks.keeping import deciding, reward_names
from ixt_rl.config.load import dump_yaml, load_run, notes, resolved
from ixt_rl.config.problems import InvalidConfig
from ixt_rl.errors import ConfigError
from ixt_rl.methods.online import OnlineStage
from ixt_rl.yaml_io import parse_yaml
from tests.unit.config.broken import GOOD

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = sorted((ROOT / "configs").rglob("*.y*ml"))


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(GOOD)
    return path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_shipped_file_loads(path: Path):
    """Models and data that a user must bring may be missing here; nothing else may be wrong."""
    try:
        load_run(path)
    except InvalidConfig as error:
        missing = ("no such file", "there is no folder")
        wrong = [p for p in error.problems if not p.reason.startswith(missing)]
        assert not wrong, str(error)


def test_there_are_shipped_files():
    assert SHIPPED


# ---------------------------------------------------------------------------------------- scalars


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("5e-7", 5e-7),
        ("1E3", 1000.0),
        ("1.5e+2", 150.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-1e-5", -1e-5),
        ("12", 12),
        ("010", 10),
        ("0o10", 8),
        ("0xff", 255),
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("No", "No"),
        ("true", True),
        ("~", None),
        ("", None),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        ("'1e-5'", "1e-5"),
    ],
)
def test_scalars_of_yaml_1_2(text: str, value: object):
    found = parse_yaml(text, "text").value
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", ["1e-5", "on", "yes", "010", "0o10", "1_0", "null", "", "12:30", "a: b", "é\n x"])
def test_text_that_looks_like_something_else_survives_dumping(text: str):
    dumped = dump_yaml({"key": text, "list": [text]})
    assert parse_yaml(dumped, "text").value == {"key": text, "list": [text]}
    assert yaml.safe_load(dumped) == {"key": text, "list": [text]}


@pytest.mark.parametrize("number", [1e-5, 5e-7, 1e20, 0.1, 1 / 3, 3.0, float("inf")])
def test_numbers_survive_dumping(number: float):
    found = parse_yaml(dump_yaml({"key": number}), "text").value["key"]
    assert found == number
    assert type(found) is float


# ------------------------------------------------------------------------------ anchors and merges


def test_merged_keys_may_be_overridden_and_are_no_duplicates():
    document = parse_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {<<: [*a, {z: 4}]}\nd: *a\n", "text")
    a = {"x": 1, "y": 2}
    assert document.value == {"a": a, "b": {"x": 1, "y": 3}, "c": {"x": 1, "y": 2, "z": 4}, "d": a}
    assert document.duplicates == []


def test_an_override_of_an_anchored_block_changes_one_place_only(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(GOOD.replace("optim: {lr: 1e-3}", "optim: &o {lr: 1e-3}").replace("{lr: 5e-7}", "*o"))
    config = load_run(file, ["stages.rl.optim.lr=2e-4"])
    assert [stage.optim.lr for stage in config.stages] == [1e-3, 2e-4]


def test_a_key_twice_is_named_with_its_line():
    document = parse_yaml("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n", "text")
    assert document.duplicates == [(("b", "c"), 5)]


# --------------------------------------------------------------------------------------- overrides


def test_overrides_by_index_by_name_and_of_whole_blocks(file):
    config = load_run(
        file,
        [
            "seeds=[1,2,3]",
            "model={new: {tokenizer: bytes}}",
            "stages.0.optim.lr=1e-4",
            "stages.rl.optim.lr=5e-7",
            "stages.rl.evaluation.every=5",
            "stages.rl.rewards.0.weight=2",
            "stages.rl.intro.candidates=exact",
            "output_dir=out=put",
        ],
    )
    assert config.seeds == [1, 2, 3]
    assert config.model.new is not None
    assert config.model.new.tokenizer == "bytes"
    assert config.model.new.layers == 2
    rl = config.stages[1]
    assert isinstance(rl, OnlineStage)
    assert (config.stages[0].optim.lr, rl.optim.lr) == (1e-4, 5e-7)
    assert rl.evaluation.every == 5
    assert rl.rewards[0].weight == 2
    assert rl.intro.candidates == "exact"
    assert config.output_dir == "out=put"


def test_stage_names_may_hold_dots_and_the_last_override_wins(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(GOOD.replace("name: rl", "name: rl.n-1"))
    config = load_run(file, ["stages.rl.n-1.steps=4", "stages.rl.n-1.steps=5"])
    assert config.stages[1].steps == 5


@pytest.mark.parametrize(
    ("override", "path", "says"),
    [
        ("steps", "override 'steps'", "key=value"),
        ("=3", "override '=3'", "key=value"),
        ("a..b=3", "override 'a..b=3'", "key=value"),
        ("seedz=[1]", "seedz", "did you mean `seeds`"),
        ("stages.rl.opt.lr=1", "stages.rl.opt", "did you mean `optim`"),
        ("stages.rl.optim.l=1", "stages.rl.optim.l", "unknown key"),
        ("stages.bas.steps=1", "stages.bas", "did you mean `base`"),
        ("stages.2.steps=1", "stages.2", "0 to 1"),
        ("stages.-1.steps=1", "stages.-1", "0 to 1"),
        ("name.first=x", "name", "set name as a whole"),
        ("stages.rl.steps=2.5", "stages.rl.steps", "override stages.rl.steps=2.5"),
        ("rollout.engine=vllm", "rollout", "(override rollout.engine=vllm)"),
        ("rollout={engine: vllm, pool: {engines: 2}}", "rollout", "called `engine` now, and its `engine` is `type`"),
        ("engine=vllm", "engine", "did you mean `{type: vllm}`? write a block"),
        (
            "stages.rl.dynamic_sampling=true",
            "stages.rl.dynamic_sampling",
            "or a `key: value` a line; its keys: max_rounds",
        ),
        ("stages.rl.optim=3", "stages.rl.optim", "write a block with lr: `{key: value}`"),
        ("stages.rl.rollout.top_p=1", "stages.rl.rollout", "(override stages.rl.rollout.top_p=1)"),
        ("stages.rl.steps='2'", "stages.rl.steps", "without quotes"),
        ("stages.rl.rollouts_per_step=", "stages.rl.rollouts_per_step", "got null"),
        ("model={new: {layers: 1, layers: 2}}", "model", "written twice"),
        ("seeds=[1", "seeds", "quote the value"),
        ("stages.rl.type=gro", "stages.rl.type", "did you mean `grpo`"),
        ("stages.rl.sampling.top_p=0.5", "stages.rl", "biased"),
    ],
)
def test_overrides_are_validated_like_the_file(override: str, path: str, says: str, file):
    with pytest.raises(InvalidConfig) as caught:
        load_run(file, [override])
    assert [problem.path for problem in caught.value.problems] == [path]
    assert says in str(caught.value)


# ------------------------------------------------------------------- defaults, unread blocks, paths


def test_resolved_fills_in_defaults_and_loads_back_to_the_same(file, tmp_path):
    config = load_run(file)
    plain = resolved(config)
    assert plain["stages"][1]["intro"]["clip"] == 200.0
    assert plain["stages"][1]["sampling"]["temperature"] == 1.0
    assert "grpo" not in plain["stages"][1]
    again = tmp_path / "again.yaml"
    again.write_text(dump_yaml(plain))
    assert load_run(again) == config
    assert notes(load_run(again)) == []


def test_type_alone_switches_the_method_and_the_unread_block_is_noted(file):
    assert notes(load_run(file)) == []
    switched = load_run(file, ["stages.rl.type=grpo"])
    assert notes(switched) == ["stages.rl.intro is not read by type: grpo"]
    plain = resolved(switched)["stages"][1]
    assert "intro" not in plain
    assert plain["grpo"]["loss_type"] == "grpo"


def test_what_says_how_rollouts_are_trained_is_unread_where_none_are(file):
    engine = EngineBlock().model_copy(update={"type": "vllm", "correction": CorrectionBlock(cap=3.0)})
    config = load_run(file).model_copy(update={"engine": engine})
    base, rl = config.stages
    assert rl.reads_of_engine == ("correction", "staleness")
    assert notes(config) == []
    assert resolved(config)["engine"]["correction"]["cap"] == 3.0
    config = config.model_copy(update={"stages": [base, rl.model_copy(update={"backend": "openrlhf"})]})
    why = "a run of which no stage weighs here what an engine sampled"
    assert f"engine.correction is not read by {why}" in notes(config)
    assert not any("staleness" in note for note in notes(config)), "it is not set"
    for method in ("star", "opsd"):  # data of another prompt; a divergence that no taken token is in
        stage = load_run(file, [f"stages.rl.type={method}"]).stages[1]
        assert stage.reads_of_engine == ("staleness",)
    assert not {"correction", "staleness"} & {*resolved(config)["engine"]}


REWARDS = "[{type: world}, {type: length, soft: 2, hard: 4}, {type: python, path: 'r.py:style', weight: 2.0}]"


@pytest.mark.parametrize("method", ["intro", "raft"])
@pytest.mark.parametrize(
    ("keep", "decide", "says"),
    [
        ("null", ["world_reward"], ["length, style of the rewards cannot make a rationale kept"]),
        ("world", ["world_reward"], ["length, style of"]),
        ("[world, style]", ["world_reward", "python_reward"], ["length of"]),
        (
            "[python]",
            ["python_reward"],
            ["style decides, so rationales are kept that world finds wrong", "world, length"],
        ),
    ],
)
def test_check_says_which_rewards_cannot_decide(file, tmp_path, monkeypatch, method, keep, decide, says):
    monkeypatch.chdir(tmp_path)
    Path("r.py").write_text("def style(**kwargs): ...\n")
    config = load_run(
        file, [f"stages.rl.type={method}", f"stages.rl.rewards={REWARDS}", f"stages.rl.{method}.keep={keep}"]
    )
    stage = config.stages[1]
    assert isinstance(stage, OnlineStage)
    names = reward_names(stage.rewards)
    assert [names[i] for i in deciding(stage.rewards, getattr(stage, method).keep)] == decide
    found = [note for note in notes(config) if "not read" not in note]
    assert len(found) == len(says)
    for note, words in zip(found, says, strict=True):
        assert words in note


@pytest.mark.parametrize(
    ("types", "decide"),
    [
        (["format", "length"], ["format"]),
        (["length", "python", "format"], ["python"]),
        (["python", "judge"], ["judge"]),
        (["judge", "math", "python"], ["math"]),
        (["length"], ["length"]),
        (["format", "format"], ["format", "format_2"]),
    ],
)
def test_by_default_the_rewards_that_know_best_decide(file, tmp_path, monkeypatch, types, decide):
    monkeypatch.chdir(tmp_path)
    Path("r.py").write_text("def f(*texts, **kwargs): ...\n")
    keys = {
        "format": "pattern: a",
        "length": "soft: 2, hard: 4",
        "python": "path: 'r.py:f'",
        "judge": "judge: 'python:r.py:f'",
        "math": "workers: 1",
    }
    listed = ", ".join(f"{{type: {name}, {keys[name]}}}" for name in types)
    stage = load_run(file, [f"stages.rl.rewards=[{listed}]", "stages.rl.intro.keep_reward=0.0"]).stages[1]
    assert isinstance(stage, OnlineStage)
    names = reward_names(stage.rewards)
    assert [names[i].replace("_reward", "") for i in deciding(stage.rewards, None)] == decide


def test_a_threshold_that_keeps_what_is_wrong_is_noted(file):
    (note,) = notes(load_run(file, ["stages.rl.intro.keep_reward=0.0"]))
    assert "what it finds wrong is kept too" in note


def test_that_one_process_shares_nothing_is_noted(file, monkeypatch):
    asked = ["launch.strategy=fsdp2", "launch.offload=true"]
    unread = "is not read where one process trains: it holds everything"
    said = [f"launch.{key} {unread}" for key in ("strategy", "offload")]
    assert notes(load_run(file, asked)) == said
    assert notes(load_run(file, [*asked, "launch.ranks=2"])) == []
    for name, value in {"WORLD_SIZE": "2", "RANK": "0"}.items():  # torchrun's number counts
        monkeypatch.setenv(name, value)
    assert notes(load_run(file, asked)) == []


def test_a_lora_dropout_that_no_ratio_can_bear_is_noted(file):
    (note,) = notes(load_run(file, ["stages.rl.lora={r: 4, dropout: 0.05}"]))
    assert "stages.rl.lora.dropout is not applied by type: intro" in note


TOLD_MORE = "{prompt: '{question} {context}', told: '{question} {context} {critique}'}"


@pytest.mark.parametrize(
    ("columns", "template", "wrong"),
    [
        ("[critique, context]", TOLD_MORE, None),
        ("[context]", TOLD_MORE, r"template.told shows \{critique\}[\s\S]*data.columns: \[context, critique\]"),
        ("[critik, context]", TOLD_MORE, "did you mean `critik`"),
        ("[gold]", "{prompt: '{question} {gold}', told: '{question} {gold} {answer}'}", "inference has no answer"),
        ("[gold]", "{prompt: '{question}', told: '{question} {gold}'}", None),
        ("[]", "{prompt: '{question}', told: '{question} {answer}'}", None),
    ],
)
@pytest.mark.parametrize("stage", ["rl", "gap"])
def test_templates_show_the_columns_that_are_mapped(file, tmp_path, stage, columns, template, wrong):
    data = tmp_path / "rows.jsonl"
    data.write_text('{"question": "q", "gold": "1", "critique": "c", "context": "x"}\n' * 2)
    gap = "- {name: gap, type: evaluate, sampling: {max_new_tokens: 8}, data: {world: addition}}\n"
    file.write_text(file.read_text().replace("  - name: rl", f"  {gap}  - name: rl"))
    changes = [f"stages.{stage}.data={{path: '{data}', eval_rows: 1, answer: gold, columns: {columns}}}"]
    changes += [f"stages.{stage}.template={template}", "model.new.tokenizer=bytes"]
    changes += ["stages.rl.rewards=[{type: math}]"] if stage == "rl" else []
    if wrong is None:
        load_run(file, changes)
    else:
        with pytest.raises(InvalidConfig, match=wrong):
            load_run(file, changes)


def test_raft_may_truncate_but_not_with_an_importance_ratio(file):
    raft = ["stages.rl.type=raft", "stages.rl.sampling.top_p=0.9"]
    load_run(file, raft)
    with pytest.raises(InvalidConfig, match="biased"):
        load_run(file, [*raft, "stages.rl.raft.importance_ratio=true"])


@pytest.mark.parametrize("path", ["gsm8k", "openai/gsm8k", "HuggingFaceH4/MATH-500"])
def test_hub_ids_need_no_file(path: str, file):
    data = f"stages.rl.data={{path: {path}}}"
    load_run(file, [data, "stages.rl.rewards=[{type: math}]", "model={new: {tokenizer: bytes}}"])


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("models/smolm2", ["did you mean `smollm2`"]),  # a folder here has its first part
        ("made/smolm2", ["did you mean `smollm2`", "hf download made/smolm2"]),
        ("other/smollm2", None),
        ("smolm2", ["did you mean `smollm2`"]),  # a folder here is called nearly so
        ("gpt2", None),
        ("models/gpt2", ["ixt-rl model smollm2 models/gpt2"]),
    ],
)
def test_a_model_that_is_missing_here_is_no_hub_id(path, says, file, tmp_path, monkeypatch):
    for name in ("smollm2", "models/smollm2", "made/smollm2"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    named = f"model={{path: {path}}}"
    stage = "stages=[{name: rl, type: raft, data: {path: openai/gsm8k}, steps: 1, rollouts_per_step: 4, sampling: "
    changes = [named, stage + "{max_new_tokens: 4}, optim: {lr: 1e-5}, rewards: [{type: math}]}]"]
    if says is None:
        load_run(file, changes)
        return
    with pytest.raises(InvalidConfig) as caught:
        load_run(file, changes)
    (problem,) = caught.value.problems
    assert problem.path == "model.path" and all(words in problem.remedy for words in says)
    (tmp_path / "cache" / "hub" / f"models--{path.replace('/', '--')}").mkdir(parents=True)
    load_run(file, changes)  # it was fetched: an id


def test_models_is_no_owner_of_the_hub_and_data_here_is_looked_for_here(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    with pytest.raises(InvalidConfig, match="ixt-rl model smollm2 models/smollm2"):
        load_run(file, ["model={path: models/smollm2}"])
    data = ["model={new: {tokenizer: bytes}}", "stages.rl.rewards=[{type: math}]", "stages.rl.data={path: data/gsm}"]
    load_run(file, data)
    (tmp_path / "data").mkdir()
    with pytest.raises(InvalidConfig, match="hf download data/gsm --repo-type dataset"):
        load_run(file, data)


def test_what_a_run_file_says_how_to_make_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = "python examples/spoiled_pairs.py data/wiki.jsonl runs"
    with pytest.raises(InvalidConfig) as caught:
        load_run("real/ixt-text")
    remedies = {problem.value: problem.remedy for problem in caught.value.problems}
    assert remedies["'runs/spoiled_unseen.jsonl'"].startswith(
        f"make it first, as the head of the file says: {made}; or "
    )
    assert "make it" not in remedies["'models/smollm2'"]
    head = "# Rows.\n#\n#   ixt-rl annotate a.jsonl made/rows \\\n#     --judge hf:m      it's slow\n\n"
    Path("mine.yaml").write_text(head + GOOD.replace("{world: addition}", "{sources: [{path: made/rows/all.jsonl}]}"))
    with pytest.raises(
        InvalidConfig, match=r"of the file says: ixt-rl annotate a\.jsonl made/rows --judge hf:m; or correct"
    ):
        load_run("mine.yaml")


def test_local_files_are_found_relative_to_the_current_folder(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"question": "q", "answer": "1"}\n')
    (tmp_path / "reward.py").write_text("import no_such_module\n\ndef short(completions, **kwargs):\n    return []\n")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    overrides = [
        "stages=[]",
        "model={path: ./model}",
        "stages=[{name: rl, type: raft, data: {path: rows.jsonl}, steps: 1, rollouts_per_step: 4, "
        "sampling: {max_new_tokens: 4}, optim: {lr: 1e-5}, "
        "rewards: [{type: python, path: 'reward.py:short'}]}]",
    ]
    config = load_run(file, overrides)
    assert config.model.path == "model"
    with pytest.raises(InvalidConfig, match="functions there: short"):
        load_run(file, [*overrides, "stages.rl.rewards.0.path=reward.py:shrot"])
    with pytest.raises(InvalidConfig, match=r"did you mean `rows\.jsonl`"):
        load_run(file, [*overrides, "stages.rl.data.path=row.jsonl"])
    (tmp_path / "model" / "config.json").unlink()
    with pytest.raises(InvalidConfig, match=r"no config\.json"):
        load_run(file, overrides)


def test_a_worlds_vocabulary_cannot_write_a_files_text(file):
    with pytest.raises(InvalidConfig, match="tokenizer: bytes"):
        load_run(file, ["stages.rl.data={path: gsm8k}", "stages.rl.rewards=[{type: math}]"])


# ----------------------------------------------------------------------------------------- limits


def test_values_at_their_bounds_are_taken(file):
    config = load_run(file, ["seeds=[4294967295]", f"name={'x' * 100}", "threads=1024", "stages.rl.steps=1000000"])
    assert config.seeds == [2**32 - 1]


def bomb(levels: int, item: str = "[{}]") -> str:
    """Nine aliases of a level in the one above: 9 ** levels values."""
    lines = ["a0: &a0 " + item.format("x, " * 9)]
    lines += [f"a{n}: &a{n} " + item.format(f"*a{n - 1}, " * 9) for n in range(1, levels)]
    return "\n".join(lines)


HOSTILE = {
    "aliases that multiply": (bomb(8), "copy this to more than"),
    "merges that multiply": (bomb(9, "{{<<: [{}]}}").replace("<<: [x, " + "x, " * 8 + "]", "x: 1", 1), "copy this"),
    "merges in one place": ("a: &a {x: 1, y: 2}\nb: {<<: [" + "*a, " * 15_000 + "]}", "copy this to more than"),
    "a chain of merges": (
        "a0: &a0 {k: 1}\n" + "".join(f"a{n}: &a{n} {{<<: *a{n - 1}, k{n}: 1}}\n" for n in range(1, 1500)),
        "copy this to more than",
    ),
    "aliases in a tagged list": (bomb(7) + "\no: !!omap [x: *a6]", ""),
    "nested lists": ("[" * 20_000, "levels inside one another"),
    "nested blocks": ("{a: " * 1_500, "levels inside one another"),
    "nested dashes": ("- " * 20_000, "levels inside one another"),
    "a NUL": ("name: a\0b", "U+0000"),
    "no int": ("name: !!int abc", "'abc' is no whole number"),
    "no float": ("name: !!float abc", "'abc' is no number"),
    "an empty float": ("name: !!float ''", "'' is no number"),
    "no bool": ("name: !!bool maybe", "'maybe' is no bool"),
    "no timestamp": ("name: !!timestamp abc", "is not read"),
    "a long int": ("name: " + "1" * 5_000, "no whole number of a sensible length"),
    "a long hexadecimal int": ("name: 0x" + "f" * 100_000, "no whole number of a sensible length"),
    "many values": ("name: [" + "x, " * 50_000 + "]", "more than 20000 values"),
    "a large file": ("name: " + "x" * 300_000, "more than 262144 bytes"),
}


@pytest.mark.parametrize(("text", "says"), HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("place", ["file", "override"])
def test_hostile_yaml_is_one_readable_error_at_once(place: str, text: str, says: str, file):
    overrides = [] if place == "file" else [f"model={text.removeprefix('name: ')}"]
    if place == "file":
        file.write_text(text)
    started = time.process_time()
    with pytest.raises(ConfigError) as caught:
        load_run(file, overrides)
    assert time.process_time() - started < 5.0  # without limits it takes minutes
    assert says in str(caught.value)
    assert "reason: " in str(caught.value)
    assert "remedy: " in str(caught.value)
    assert len(str(caught.value)) < 10_000


def test_aliases_within_bounds_are_copied_out():
    document = parse_yaml(bomb(3), "text")
    assert document.value["a2"] == [[["x"] * 9] * 9] * 9


def test_an_override_of_many_parts_is_one_readable_error(file):
    with pytest.raises(InvalidConfig, match="levels"):
        load_run(file, ["model." + "a." * 3_000 + "b=1"])


def test_chats_of_a_new_tokenizer_are_refused_before_anything_loads(file):
    with pytest.raises(InvalidConfig, match="a new tokenizer has no chat template"):
        load_run(file, ["stages.rl.template=math-chat"])
