"""Run files with one mistake each, and what their error must say. Shared by the unit and the CLI tests."""

from __future__ import annotations

from typing import NamedTuple

GOOD = """\
name: trial
model:
  new: {layers: 2, hidden_size: 64, heads: 4}
stages:
  - name: base
    type: pretrain
    data: {world: addition}
    steps: 10
    optim: {lr: 1e-3}
  - name: rl
    type: intro
    data: {world: addition, view: parity}
    steps: 3
    rollouts_per_step: 8
    group_size: 4
    sampling: {max_new_tokens: 8}
    optim: {lr: 5e-7}
    rewards: [{type: world}]
    intro: {candidates: 5}
"""


class Broken(NamedTuple):
    """A mistake: `old` of GOOD becomes `new`; the error must name `path`, `value`, and hold `says`."""

    name: str
    old: str
    new: str
    path: str
    value: str
    says: tuple[str, ...]


BROKEN = [
    Broken("unknown key", "steps: 3", "stepz: 3", "stages.rl.stepz", "3", ("did you mean `steps`", "line 13")),
    Broken("unknown top key", "name: trial", "name: trial\nseedz: [1]", "seedz", "[1]", ("`seeds`",)),
    Broken("nested unknown key", "lr: 5e-7", "lr: 5e-7, beta: 3", "stages.rl.optim.beta", "3", ("`betas`",)),
    Broken("key before, run", "name: trial", "name: trial\nrollout: {}", "rollout", "{}", ("`engine` now",)),
    Broken(
        "key before, engine", "name: trial", "name: trial\nengine: {engine: 1}", "engine.engine", "1", ("`type` now",)
    ),
    Broken("key before, stage", "sampling: {max", "rollout: {max", "stages.rl.rollout", "{max", ("`sampling` now",)),
    Broken(
        "metric of before",
        "name: trial",
        "name: trial\nexpect: [{metric: kept_share, stage: rl, at_least: 0.1}]",
        "the whole file",
        "kept_share",
        ("write rollout/kept",),
    ),
    Broken("TRL's name", "lr: 5e-7", "learning_rate: 1", "stages.rl.optim.learning_rate", "1", ("`lr`",)),
    Broken("key one level up", "group_size: 4", "lr: 4", "stages.rl.lr", "4", ("did you mean `optim.lr`",)),
    Broken(
        "key of another stage type",
        "    steps: 10",
        "    steps: 10\n    group_size: 4",
        "stages.base.group_size",
        "4",
        ("belongs to stages of type intro, grpo, raft, sip, python, not pretrain",),
    ),
    Broken(
        "abbreviated key",
        "rollouts_per_step",
        "rollouts_per",
        "stages.rl.rollouts_per",
        "8",
        ("`rollouts_per_step`",),
    ),
    Broken("wrong case", "group_size", "Group_Size", "stages.rl.Group_Size", "4", ("`group_size`",)),
    Broken(
        "missing key",
        "    steps: 3\n",
        "",
        "stages.rl.steps",
        "missing",
        ("add `steps:` with a whole number",),
    ),
    Broken("missing block", "    optim: {lr: 5e-7}\n", "", "stages.rl.optim", "missing", ("a block with lr",)),
    Broken(
        "missing model",
        "model:\n  new: {layers: 2, hidden_size: 64, heads: 4}\n",
        "",
        "model",
        "missing",
        ("add `model:`",),
    ),
    Broken(
        "missing type", "    type: intro\n", "", "stages.rl.type", "missing", ("pretrain, ixt, sft, evaluate, intro",)
    ),
    Broken(
        "unknown stage type",
        "type: intro",
        "type: introo",
        "stages.rl.type",
        "'introo'",
        ("did you mean `intro`",),
    ),
    Broken(
        "unknown enum",
        "view: parity",
        "view: party",
        "stages.rl.data.view",
        "'party'",
        ("did you mean `parity`",),
    ),
    Broken("enum, wrong case", "view: parity", "view: Parity", "stages.rl.data.view", "'Parity'", ("`parity`",)),
    Broken("unknown reward", "{type: world}", "{type: maths}", "stages.rl.rewards.0.type", "'maths'", ("`math`",)),
    Broken("float for int", "steps: 3", "steps: 2.5", "stages.rl.steps", "2.5", ("expected a whole number",)),
    Broken("whole float for int", "steps: 3", "steps: 3.0", "stages.rl.steps", "3.0", ("whole number such as 3",)),
    Broken("scientific for int", "steps: 3", "steps: 1e3", "stages.rl.steps", "1000.0", ("such as 1000",)),
    Broken("text for int", "steps: 3", "steps: '3'", "stages.rl.steps", "'3'", ("without quotes",)),
    Broken("underscores", "steps: 3", "steps: 1_000", "stages.rl.steps", "'1_000'", ("between digits",)),
    Broken("bool for int", "steps: 3", "steps: true", "stages.rl.steps", "true", ("expected a whole number",)),
    Broken(
        "int for bool",
        "layers: 2",
        "layers: 2, tie_embeddings: 1",
        "model.new.tie_embeddings",
        "1",
        ("true or false",),
    ),
    Broken(
        "yes for bool",
        "layers: 2",
        "layers: 2, tie_embeddings: yes",
        "model.new.tie_embeddings",
        "'yes'",
        ("true or false",),
    ),
    Broken("text for float", "lr: 5e-7", "lr: tiny", "stages.rl.optim.lr", "'tiny'", ("such as 0.1 or 1e-5",)),
    Broken("comma for point", "lr: 5e-7", 'lr: "0,1"', "stages.rl.optim.lr", "'0,1'", ("expected a number",)),
    Broken("null for a number", "lr: 5e-7", "lr: null", "stages.rl.optim.lr", "null", ("expected a number",)),
    Broken("empty value", "steps: 3", "steps:", "stages.rl.steps", "null", ("expected a whole number",)),
    Broken("number for text", "name: trial", "name: 7", "name", "7", ("in quotes",)),
    Broken("list for block", "{max_new_tokens: 8}", "[8]", "stages.rl.sampling", "[8]", ("with max_new_tokens",)),
    Broken("block for list", "[{type: world}]", "{type: world}", "stages.rl.rewards", "{type: ...}", ("a list",)),
    Broken("scalar for list", "name: trial", "name: trial\nseeds: 3", "seeds", "3", ("[a, b]",)),
    Broken(
        "neither int nor word",
        "candidates: 5",
        "candidates: exakt",
        "stages.rl.intro.candidates",
        "'exakt'",
        ("did you mean `exact`",),
    ),
    Broken("zero", "candidates: 5", "candidates: 0", "stages.rl.intro.candidates", "0", ("above 0",)),
    Broken("negative", "lr: 5e-7", "lr: -1e-5", "stages.rl.optim.lr", "-1e-05", ("above 0",)),
    Broken("not finite", "lr: 5e-7", "lr: .nan", "stages.rl.optim.lr", "nan", ("remedy",)),
    Broken(
        "too short a list",
        "lr: 5e-7",
        "lr: 5e-7, betas: [0.9]",
        "stages.rl.optim.betas",
        "[0.9]",
        ("at least 2 items",),
    ),
    Broken("empty list", "[{type: world}]", "[]", "stages.rl.rewards", "[]", ("at least 1 item",)),
    Broken("bad name", "name: trial", "name: my trial", "name", "'my trial'", ("rename",)),
    Broken(
        "key written twice",
        "steps: 3",
        "steps: 3\n    steps: 4",
        "stages.rl.steps",
        "written twice",
        ("line 14",),
    ),
    Broken("key is a number", "steps: 3", "steps: 3\n    7: x", "stages.rl.7", "no text", ("quotes",)),
    Broken(
        "stage is no block",
        "stages:",
        "stages:\n  - rl2",
        "stages.0",
        "'rl2'",
        ("a block with name, type",),
    ),
    Broken(
        "batch not divisible",
        "rollouts_per_step: 8",
        "rollouts_per_step: 9",
        "stages.rl",
        "rollouts_per_step=9",
        ("multiple of 4",),
    ),
    Broken(
        "micro batch",
        "group_size: 4",
        "micro_batch_size: 3",
        "stages.rl",
        "micro_batch_size=3",
        ("multiple of 3",),
    ),
    Broken(
        "truncated ratio",
        "{max_new_tokens: 8}",
        "{max_new_tokens: 8, top_p: 0.9}",
        "stages.rl",
        "top_p=0.9",
        ("biased", "type: raft"),
    ),
    Broken(
        "truncated top-k",
        "{max_new_tokens: 8}",
        "{max_new_tokens: 8, top_k: 5}",
        "stages.rl",
        "top_k=5",
        ("biased",),
    ),
    Broken(
        "truncated min-p",
        "{max_new_tokens: 8}",
        "{max_new_tokens: 8, min_p: 0.1}",
        "stages.rl",
        "min_p=0.1",
        ("biased",),
    ),
    Broken(
        "ema without decay",
        "candidates: 5",
        "posterior: {source: ema}",
        "stages.rl.intro.posterior",
        "decay=None",
        ("0.99",),
    ),
    Broken("heads do not divide", "heads: 4", "heads: 3", "model.new", "heads=3", ("multiple of 3",)),
    Broken("two models", "  new:", "  path: gpt2\n  new:", "model", "path='gpt2'", ("exactly one",)),
    Broken("same stage twice", "name: rl", "name: base", "the whole file", "'base'", ("rename",)),
    Broken("unknown init", "name: rl", "name: rl\n    init: bass", "the whole file", "'bass'", ("base",)),
    Broken("seed twice", "name: trial", "name: trial\nseeds: [1, 1]", "the whole file", "[1, 1]", ("once",)),
    Broken(
        "missing data file",
        "{world: addition, view: parity}",
        "{path: ./nowhere/train.jsonl}",
        "stages.rl.data.path",
        "'./nowhere/train.jsonl'",
        ("no such file",),
    ),
    Broken(
        "data of unknown kind",
        "{world: addition, view: parity}",
        "{path: /etc/hosts}",
        "stages.rl.data.path",
        "'/etc/hosts'",
        (".jsonl",),
    ),
    Broken(
        "missing model folder",
        "new: {layers: 2, hidden_size: 64, heads: 4}",
        "path: ./no/model",
        "model.path",
        "'./no/model'",
        ("no such file or folder",),
    ),
    Broken(
        "model is a file",
        "new: {layers: 2, hidden_size: 64, heads: 4}",
        "path: /etc/hosts",
        "model.path",
        "'/etc/hosts'",
        ("folder",),
    ),
    Broken(
        "missing reward file",
        "{type: world}",
        "{type: python, path: no.py:f}",
        "stages.rl.rewards.0.path",
        "'no.py'",
        ("no such file",),
    ),
    Broken(
        "reward without function",
        "{type: world}",
        "{type: python, path: no.py}",
        "stages.rl.rewards.0.path",
        "'no.py'",
        ("FILE.py:FUNCTION",),
    ),
    Broken(
        "unknown template",
        "group_size: 4",
        "template: maths",
        "stages.rl.template",
        "'maths'",
        ("did you mean `math`",),
    ),
    Broken(
        "template hides the answer",
        "group_size: 4",
        "template: {prompt: '{question}', told: '{question}'}",
        "stages.rl.template",
        "told=",
        ("put {answer} in `told`",),
    ),
    Broken(
        "template shows the answer",
        "group_size: 4",
        "template: {prompt: '{question}{answer}', told: '{question}{answer}'}",
        "stages.rl.template",
        "prompt=",
        ("`told` only",),
    ),
    Broken(
        "a system message without a chat",
        "group_size: 4",
        "template: {prompt: '{question}', told: '{question}{answer}', system: Be brief.}",
        "stages.rl.template",
        "system in a template without chat",
        ("set chat: true",),
    ),
    Broken(
        "thinking switched without a chat",
        "group_size: 4",
        "template: {prompt: '{question}', told: '{question}{answer}', chat_template_kwargs: {enable_thinking: false}}",
        "stages.rl.template",
        "chat_template_kwargs in a template without chat",
        ("set chat: true",),
    ),
    Broken(
        "conversations that nobody replies in",
        "data: {world: addition}",
        "data: {sources: [{path: x/y, messages: talk}]}",
        "stages.base",
        "messages with type: pretrain",
        ("set type: sft",),
    ),
    Broken(
        "a conversation and a prompt",
        "data: {world: addition}",
        "data: {sources: [{path: x/y, messages: talk, prompt: q}]}",
        "stages.base.data.sources.0",
        "messages='talk' with prompt='q'",
        ("leave prompt out",),
    ),
    Broken(
        "a prompt template where there are no prompts",
        "data: {world: addition}",
        "data: {sources: [{path: x/y}]}\n    template: math",
        "stages.base",
        "template with type: pretrain",
        ("set type: sft",),
    ),
    Broken(
        "a plain template on conversations",
        "type: pretrain\n    data: {world: addition}",
        "type: sft\n    template: math\n    data: {sources: [{path: x/y, messages: talk}]}",
        "stages.base",
        "template without chat on conversations",
        ("set chat: true",),
    ),
    Broken(
        "what to do with missing fields",
        "data: {world: addition, view: parity}",
        "data: {path: x/y, on_missing: skip}",
        "stages.rl.data.on_missing",
        "'skip'",
        ("drop",),
    ),
    Broken(
        "template field",
        "group_size: 4",
        "template: {prompt: '{questoin}', told: '{question}{answer}'}",
        "stages.rl.template",
        "'{questoin}'",
        ("did you mean `question`",),
    ),
    Broken(
        "template braces",
        "group_size: 4",
        "template: {prompt: '{question', told: '{question}{answer}'}",
        "stages.rl.template",
        "'{question'",
        ("doubled",),
    ),
    Broken(
        "template column of a world",
        "group_size: 4",
        "template: {prompt: '{question}', told: '{question}{hint}'}",
        "stages.rl",
        "{hint}",
        ("further columns come from files",),
    ),
    Broken(
        "template tells nothing",
        "group_size: 4",
        "template: {prompt: '{question}?', told: '{question}!'}",
        "stages.rl.template",
        "shows no more",
        ("put {answer}",),
    ),
    Broken(
        "template formats a field",
        "group_size: 4",
        "template: {prompt: '{question!r}', told: '{question}{answer}'}",
        "stages.rl.template",
        "{question!r}",
        ("stands alone",),
    ),
    Broken(
        "template looks into a field",
        "group_size: 4",
        "template: {prompt: '{question.upper}', told: '{question}{answer}'}",
        "stages.rl.template",
        "{question.upper}",
        ("stands alone",),
    ),
    Broken(
        "few-shot turns without a column",
        "group_size: 4",
        "template: {prompt: '{question} {hint}', told: '{question} {hint} {answer}', chat: true, "
        "examples: [{question: a, answer: b}]}",
        "stages.rl.template",
        "with examples",
        ("no further columns",),
    ),
    Broken(
        "regular expression",
        "{type: world}",
        "{type: format, pattern: '(a'}",
        "stages.rl.rewards.0.pattern",
        "'(a'",
        ("not a regular expression",),
    ),
    Broken(
        "flash attention in 32 bits",
        "model:",
        "model:\n  attention: flash_attention_2",
        "model",
        "float32",
        ("bfloat16",),
    ),
    Broken(
        "world words on a file",
        "{world: addition, view: parity}",
        "{path: gsm8k}",
        "stages.rl",
        "`world` reward",
        ("{type: math}",),
    ),
    Broken(
        "keep names nothing",
        "intro: {candidates: 5}",
        "intro: {keep: [wrold]}",
        "stages.rl",
        "'wrold'",
        ("did you mean `world`",),
    ),
    Broken("keep is empty", "intro: {candidates: 5}", "intro: {keep: []}", "stages.rl", "keep: []", ("leave keep",)),
    Broken(
        "keep out of reach",
        "intro: {candidates: 5}",
        "intro: {keep_reward: 1.5}",
        "stages.rl",
        "`world` reward",
        ("nothing would ever be kept", "at most 1"),
    ),
    Broken(
        "keep that a penalty can never reach",
        "rewards: [{type: world}]\n    intro: {candidates: 5}",
        "rewards: [{type: world}, {type: length, soft: 2, hard: 4}]\n    intro: {keep: [world, length]}",
        "stages.rl",
        "`length` reward",
        ("at most 0",),
    ),
    Broken(
        "two rewards of one name",
        "[{type: world}]",
        "[{type: world, name: a}, {type: format, pattern: x, name: a}]",
        "stages.rl",
        "'a'",
        ("rename one",),
    ),
    Broken(
        "expectation of no stage",
        "name: trial",
        "name: trial\nexpect: [{metric: greedy/strict, stage: rll, at_least: 0.5}]",
        "the whole file",
        "'rll'",
        ("did you mean `rl`",),
    ),
    Broken(
        "expectation without a bound",
        "name: trial",
        "name: trial\nexpect: [{metric: greedy/strict, stage: rl}]",
        "expect.0",
        "without a bound",
        ("at_least",),
    ),
    Broken(
        "a seed too large for numpy",
        "name: trial",
        "name: trial\nseeds: [4294967296]",
        "seeds.0",
        "4294967296",
        ("at most 4294967295",),
    ),
    Broken("a name no file system takes", "name: trial", "name: " + "x" * 300, "name", "xxx", ("longer than 100",)),
    Broken(
        "a stage's name as long",
        "name: rl",
        "name: " + "r" * 101,
        "stages." + "r" * 101 + ".name",
        "rrr",
        ("longer than 100",),
    ),
    Broken(
        "steps of no run",
        "steps: 3",
        "steps: 1000000000000000000",
        "stages.rl.steps",
        "1000000000000000000",
        ("at most 100000000",),
    ),
    Broken(
        "threads of no machine",
        "name: trial",
        "name: trial\nthreads: 1000000000",
        "threads",
        "1000000000",
        ("at most 1024",),
    ),
    Broken(
        "a batch of no machine",
        "rollouts_per_step: 8",
        "rollouts_per_step: 4000000000",
        "stages.rl.rollouts_per_step",
        "4000000000",
        ("at most 1000000",),
    ),
    Broken(
        "tokens of no model",
        "max_new_tokens: 8",
        "max_new_tokens: 100000000",
        "stages.rl.sampling.max_new_tokens",
        "100000000",
        ("at most 10000000",),
    ),
    Broken(
        "more rows than memory holds",
        "steps: 10\n",
        "steps: 100000000\n",
        "stages.base",
        "steps=100000000",
        ("split it into stages",),
    ),
    Broken(
        "a new model larger than memory",
        "layers: 2, hidden_size: 64",
        "layers: 1000, hidden_size: 65536",
        "model.new",
        "hidden_size=65536",
        ("make the model smaller",),
    ),
    Broken("a new model of no size", "layers: 2", "layers: 1000000", "model.new.layers", "1000000", ("at most 1000",)),
    Broken(
        "a deadline of no clock",
        "{type: world}",
        "{type: world}, {type: math, deadline_s: 1e300}",
        "stages.rl.rewards.1.deadline_s",
        "1e+300",
        ("at most 1e+07",),
    ),
    Broken(
        "rollouts used again without weights",
        "group_size: 4",
        "group_size: 4\n    steps_per_generation: 3",
        "stages.rl",
        "steps_per_generation=3",
        ("intro.importance_ratio: true",),
    ),
    Broken(
        "rollouts used again and sampled ahead",
        "intro: {candidates: 5}",
        "intro: {importance_ratio: true}\n    num_iterations: 2\nengine: {type: ray-vllm, staleness: 1}",
        "the whole file",
        "staleness=1",
        ("set staleness: 0",),
    ),
    Broken(
        "a misspelt option of a judge",
        "{type: world}",
        "{type: world}, {type: judge, judge: 'openai:m', options: {concurency: 3}}",
        "stages.rl.rewards.1",
        "concurency",
        ("did you mean `concurrency`",),
    ),
    Broken(
        "an option of no judge",
        "{type: world}",
        "{type: world}, {type: rewrite, judge: 'openai:m', options: {foo: 1}}",
        "stages.rl.rewards.1",
        "foo",
        ("its options: base_url, concurrency",),
    ),
    Broken(
        "an option of another type",
        "{type: world}",
        "{type: world}, {type: judge, judge: 'openai:m', options: {deadline: soon}}",
        "stages.rl.rewards.1",
        "deadline='soon'",
        ("it is str, not float",),
    ),
    Broken(
        "an option out of its range",
        "{type: world}",
        "{type: world}, {type: judge, judge: 'openai:m', options: {concurrency: 0}}",
        "stages.rl.rewards.1",
        "concurrency=0",
        ("it is 1 or more",),
    ),
    Broken(
        "a completion longer than the model's positions",
        "max_new_tokens: 8",
        "max_new_tokens: 4000",
        "stages",
        "stage 'rl' has sampling.max_new_tokens=4000",
        ("the model has 2048 positions", "lower it below 2048"),
    ),
    Broken(
        "prompts longer than the model's positions",
        "max_new_tokens: 8",
        "max_new_tokens: 8, max_prompt_tokens: 2047",
        "stages",
        "sampling.max_prompt_tokens=2047",
        ("lower sampling.max_prompt_tokens to 2040",),
    ),
    Broken(
        "groups that are compared by nothing",
        GOOD[GOOD.index("type: intro") :],
        GOOD[GOOD.index("type: intro") :].replace("intro", "grpo", 1).replace("world}]", "world, weight: 0.0}]"),
        "stages.rl",
        "weights of 0 alone",
        ("nothing would ever be trained",),
    ),
    Broken(
        "all rows measured of a file that is trained on",
        GOOD[GOOD.index("  new:") :],
        """\
  new: {tokenizer: bytes}
stages:
  - name: pre
    type: pretrain
    data: {sources: [{path: some/rows}]}
    steps: 2
    optim: {lr: 1e-3}
  - name: measured
    type: evaluate
    data: {path: some/rows}
    sampling: {max_new_tokens: 8}
""",
        "the whole file",
        "stage 'measured' measures all rows of some/rows (data.eval_rows=0)",
        ("stage 'pre' trains on rows of that file",),
    ),
    Broken(
        "an optimizer that divides by zero",
        "optim: {lr: 5e-7}",
        "optim: {lr: 5e-7, betas: [0.9, 1.0]}",
        "stages.rl.optim.betas.1",
        "1",
        ("it must be below 1",),
    ),
    Broken(
        "a key in the place of its variable",
        "{type: world}",
        "{type: world}, {type: judge, judge: 'openai:m', options: {api_key_env: sk-in-place-of-a-name}}",
        "stages.rl.rewards.1",
        "api_key_env",
        ("no name of an environment variable",),
    ),
    Broken(
        "a key where none belongs",
        "{type: world}",
        "{type: world}, {type: judge, judge: 'openai:m', api_key: sk-not-shown}",
        "stages.rl.rewards.1.api_key",
        "[hidden]",
        ("unknown key `api_key`",),
    ),
    Broken(
        "a key in an address",
        "{type: world}",
        "{type: world}, {type: judge, judge: 'openai:m', options: {base_url: 'http://host/v1?api_key=abc'}}",
        "stages.rl.rewards.1",
        "base_url='http://host/v1'",
        ("more than an address", "as a bearer token"),
    ),
]


def broken_text(case: Broken) -> str:
    """The run file with the mistake in it."""
    assert GOOD.count(case.old) == 1, f"{case.old!r} must be in GOOD once"
    return GOOD.replace(case.old, case.new)
