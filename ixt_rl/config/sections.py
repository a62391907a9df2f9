"""The blocks of a run file that several stages have: model, data, rewards, optimizer, engine, sampling. No torch.

Every key is declared once, with its type, bounds and meaning; an undeclared key is an error. Rules that join several
keys are validators beside the keys they join. What a rule refuses is raised as `ConfigError` text naming value, reason
and remedy (see `ixt_rl.config.load`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    model_validator,
)

from ixt_rl.config import checks
from ixt_rl.config.problems import did_you_mean
from ixt_rl.errors import ConfigError

Name = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100, description="letters, digits, . _ -; a file name"),
]
PositiveInt = Annotated[int, Field(gt=0, le=2**31 - 1)]
NonNegativeInt = Annotated[int, Field(ge=0, le=2**31 - 1)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1, description="what numpy takes")]
Steps = Annotated[int, Field(gt=0, le=10**8)]
BatchSize = Annotated[int, Field(gt=0, le=10**6)]
Tokens = Annotated[int, Field(gt=0, le=10**7)]
Rows = Annotated[int, Field(gt=0, le=10**7, description="made or read as a whole")]
Workers = Annotated[int, Field(gt=0, le=1024, description="threads, processes, actors")]
Parameters = Annotated[int, Field(ge=0, le=10**15)]
Seconds = Annotated[float, Field(gt=0, le=10**7, allow_inf_nan=False)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


class Strict(BaseModel):
    """No unknown keys, no type coercion (2.5 is no int, "3" is no number), immutable once validated."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, validate_default=True)


# ------------------------------------------------------------------------------------------ model


class NewModel(Strict):
    """A small model made from scratch, for demos and tests."""

    architecture: Literal["llama", "qwen3"] = "llama"
    tokenizer: Literal["world", "bytes"] = Field(
        "world",
        description="`world`: the vocabulary of the stage's world; `bytes`: any text, one token a byte",
    )
    hidden_size: Annotated[int, Field(gt=0, le=2**16)] = 128
    layers: Annotated[int, Field(gt=0, le=1000)] = 2
    heads: Annotated[int, Field(gt=0, le=2**12)] = 4
    intermediate_size: Annotated[int, Field(gt=0, le=2**20)] = 384
    tie_embeddings: bool = True
    init_std: PositiveFloat = 0.05
    max_positions: Tokens = 2048
    seed: Seed = 0

    @model_validator(mode="after")
    def _heads_divide(self) -> NewModel:
        if self.hidden_size % self.heads:
            raise ConfigError(
                f"hidden_size={self.hidden_size} with heads={self.heads}",
                reason="the hidden size is split evenly over attention heads",
                remedy=f"make hidden_size a multiple of {self.heads}",
            )
        return self

    @model_validator(mode="after")
    def _fits_memory(self, info: ValidationInfo) -> NewModel:
        per_layer = 4 * self.hidden_size**2 + 3 * self.hidden_size * self.intermediate_size
        checks.needs_memory(
            4 * self.layers * per_layer,
            f"layers={self.layers}, hidden_size={self.hidden_size}, intermediate_size={self.intermediate_size}",
            info,
        )
        return self


class Model(Strict):
    """The model that the first stage starts from: a checkpoint (`path`) or a fresh one (`new`)."""

    path: Annotated[str, AfterValidator(checks.check_model_path)] | None = Field(
        None, description="a local Hugging Face folder or a hub id"
    )
    new: NewModel | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="what passes compute in; trained weights and optimizer states stay float32"
    )
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    trust_remote_code: bool = False

    @model_validator(mode="after")
    def _one_source(self) -> Model:
        if (self.path is None) == (self.new is None):
            raise ConfigError(
                f"path={self.path!r} and new={'given' if self.new else None}",
                reason="a run starts from exactly one model",
                remedy="give `path: <folder or hub id>` or `new: {...}`, and set the other to null",
            )
        return self

    @model_validator(mode="after")
    def _flash_attention(self, info: ValidationInfo) -> Model:
        if self.attention != "flash_attention_2":
            return self
        if self.dtype == "float32":
            raise ConfigError(
                "attention=flash_attention_2 with dtype=float32",
                reason="flash attention computes in 16 bits only",
                remedy="set dtype: bfloat16, or attention: sdpa",
            )
        checks.needs_backend("flash-attn", "attention: flash_attention_2", info)
        return self


class SelfChecks(Strict):
    """What is compared before the first update of every training stage; false leaves a check out."""

    head: bool = Field(True, description="log-probs of the fused head, with the model's own logits")
    packing: bool = Field(True, description="packed documents with the same ones alone: log-probs and gradient")
    engine: bool = Field(True, description="log-probs of the rollout engine, with the trainer's")
    ends: bool = Field(True, description="what ends a completion: tokenizer, generation config, chat template, padding")
    factor: bool = Field(True, description="InTRO's factor, told what the plain prompt says, with 1")


class Lora(Strict):
    """Train low-rank adapters in place of all weights (needs the `peft` extra)."""

    r: Annotated[int, Field(gt=0, le=2**16)] = 16
    alpha: PositiveInt = 32
    dropout: Share = 0.0
    target_modules: str | list[str] = "all-linear"

    @model_validator(mode="after")
    def _installed(self, info: ValidationInfo) -> Lora:
        checks.needs_backend("peft", "lora", info)
        return self


# ------------------------------------------------------------------------------------------- data


VIEWS = {
    "addition": ("sum", "parity", "mod5"),
    "chain": ("full",),
    "facts": ("uncovered", "covered"),
    "almanac": ("full",),
    "thoughts": ("problems", "prefixes"),
    "thoughts-annotated": ("problems", "prefixes"),
}
"""Views of each world, the default first."""


class WorldData(Strict):
    """Problems made by code, with a verifier that knows every step."""

    world: Literal["addition", "chain", "facts", "almanac", "thoughts", "thoughts-annotated"]
    view: Literal["sum", "parity", "mod5", "full", "uncovered", "covered", "problems", "prefixes"] = Field(
        "sum",
        description="addition: what the reward checks, the whole sum or only its digit sum mod 2 / mod 5; chain: full; "
        "almanac: full; facts: whether good documents cover the facts asked for; thoughts: problems, or prefixes of "
        "documents",
    )

    @model_validator(mode="before")
    @classmethod
    def _default_view(cls, value: Any) -> Any:
        views = VIEWS.get(value.get("world", ""), ()) if isinstance(value, dict) else ()
        return {"view": views[0], **value} if views else value

    @model_validator(mode="after")
    def _view_of_world(self) -> WorldData:
        if self.view not in VIEWS[self.world]:
            raise ConfigError(
                f"view={self.view} with world={self.world}",
                reason="the world has no such view",
                remedy=f"write one of {', '.join(VIEWS[self.world])}",
            )
        return self


class FileData(Strict):
    """Problems from a file or a hub dataset, with the names of its fields."""

    path: Annotated[str, AfterValidator(checks.check_data_source)] = Field(
        description="a .jsonl, .json (either may be .gz) or .parquet file, a folder or a pattern of them, or one hub "
        "dataset id"
    )
    name: str | None = Field(None, description="configuration of a hub dataset")
    split: str = "train"
    question: str = Field(
        "question",
        description="field that holds the problem, as text or as a list of messages; here and in all other names of "
        "fields `a.b` is the entry b of field a",
    )
    answer: str = Field(
        "answer",
        description="field that holds the gold answer: text, a number, or a list of answers each of which is right",
    )
    on_missing: Literal["refuse", "drop"] = Field(
        "refuse", description="rows in which a named field is missing, null or empty; dropped ones are counted"
    )
    answer_extract: Literal["none", "last_box", "hashes"] = Field(
        "none", description="how the gold answer lies in its field: alone, in the last \\boxed{}, after ####"
    )
    where: dict[str, list[bool | int | float | str]] = Field(
        {}, description="keep rows whose field has one of these values: text, numbers, true or false, dates as text"
    )
    max_rows: PositiveInt | None = None
    eval_rows: NonNegativeInt = Field(
        0,
        description="rows set aside for evaluation, by a fixed shuffle; 0 where a stage only measures (an evaluate "
        "stage, evaluation.data): all rows are measured",
    )
    group: str | None = Field(
        None, description="rows with equal values of this field are set aside together, such as both orders of a pair"
    )
    columns: list[str] = Field([], description="further fields, which rewards and templates get under their own names")

    @model_validator(mode="after")
    def _free_names(self) -> FileData:
        taken = [name for name in self.columns if name in ("question", "answer", "prompt", "told_prompt", "completion")]
        if taken:
            raise ConfigError(
                f"columns={self.columns}",
                reason=f"a row has a `{taken[0]}` of its own",
                remedy="leave it out; data.question and data.answer map fields to those names",
            )
        return self


def problems_of_world(value: Any, count: int) -> Any:
    """A block with `problems: count` where it does not say how many and has no file: a world has no end."""
    if not isinstance(value, dict) or value.get("problems") is not None:
        return value
    data = value.get("data")
    of_file = isinstance(data, FileData | PrefixData) or (isinstance(data, dict) and "world" not in data)
    return value if of_file else {**value, "problems": count}


class PrefixData(Strict):
    """Prefixes of documents in files; the answer is the suffix (thinking mid-training). Needs a `judge` reward."""

    path: Annotated[str, AfterValidator(checks.check_data_source)] = Field(
        description="a .jsonl, .json or .parquet file, a folder or a pattern of them, or one hub dataset id"
    )
    text: str = Field("text", description="field of the document")
    suffix_tokens: Tokens = Field(description="tokens at the end of a document that are to be predicted")
    min_prefix_tokens: Tokens = 1
    max_prefix_tokens: Tokens = Field(960, description="longer prefixes lose their beginning")
    max_rows: Rows = Field(10_000, description="documents that are read, those for evaluation included")
    eval_rows: NonNegativeInt = Field(100, description="documents set aside for evaluation")


def _data_tag(value: Any) -> str:
    keys = value if isinstance(value, dict) else getattr(value, "model_fields_set", {})
    if "suffix_tokens" in keys:
        return "prefixes"
    return "world" if "world" in keys or isinstance(value, WorldData) else "file"


Data = Annotated[
    Annotated[WorldData, Tag("world")] | Annotated[FileData, Tag("file")] | Annotated[PrefixData, Tag("prefixes")],
    Discriminator(_data_tag),
]


class Shot(Strict):
    """A worked example in a chat prompt."""

    question: str = Field(description="put into the template's `prompt`")
    answer: str = Field(description="the assistant's reply to it")


class Template(Strict):
    """Prompts as data: `{question}`, `{answer}` and the names in `data.columns` are the row's fields.

    `prompt` is x, what inference sees; `told` is x (+) y, the prompt that is told the answer, or more of it.
    """

    prompt: str
    told: str
    chat: bool = Field(False, description="both are the user's message in the tokenizer's chat template")
    system: str | None = Field(None, description="the chat's system message")
    examples: list[Shot] = Field([], description="few-shot turns before the question, in a chat")
    chat_template_kwargs: dict[str, Any] = Field(
        {}, description="variables of the tokenizer's chat template, such as {enable_thinking: false}"
    )

    @model_validator(mode="after")
    def _needs_chat(self) -> Template:
        for key in ("system", "examples", "chat_template_kwargs"):
            if getattr(self, key) and not self.chat:
                raise ConfigError(
                    f"{key} in a template without chat",
                    reason="it belongs to the tokenizer's chat template, which plain prompts do not go through",
                    remedy=f"set chat: true, or leave {key} out; plain prompts hold their examples in `prompt`",
                )
        return self

    @model_validator(mode="after")
    def _fields(self) -> Template:
        fields = {key: checks.template_fields(getattr(self, key)) for key in ("prompt", "told")}
        for key, found in fields.items():
            if "question" not in found:
                near = next((near for name in sorted(found) if (near := did_you_mean(name, ["question"]))), "")
                raise ConfigError(
                    f"{key}={getattr(self, key)!r} does not show {{question}}",
                    reason="the model cannot solve a problem it does not see",
                    remedy=f"{near}put {{question}} in `{key}`",
                )
        if "answer" in fields["prompt"]:
            raise ConfigError(
                f"prompt={self.prompt!r} shows {{answer}}",
                reason="the plain prompt is what inference sees, and inference has no answer",
                remedy="use {answer} in `told` only",
            )
        if not fields["told"] - fields["prompt"]:
            raise ConfigError(
                f"told={self.told!r} shows no more than `prompt`: neither {{answer}} nor another column",
                reason="the posterior is the model that is told the answer, or something of it",
                remedy="put {answer} in `told`, or a field of data.columns",
            )
        if self.examples and fields["prompt"] != {"question"}:
            raise ConfigError(
                f"prompt={self.prompt!r} with examples",
                reason="few-shot turns are written by `prompt`, and have a question and an answer, no further columns",
                remedy="leave examples out, or show the columns in `told` only",
            )
        return self


TemplateName = Annotated[str, AfterValidator(checks.check_template_name)]


def check_template_columns(template: str | Template | None, data: Any) -> None:
    """Every field of an inline template is a column of the rows that it renders.

    Raises:
        ConfigError: one is not, or the plain prompt shows the answer under the name of its own field.
    """
    if not isinstance(template, Template):
        return
    columns = data.columns if isinstance(data, FileData) else []
    for key in ("prompt", "told"):
        for field in sorted(checks.template_fields(getattr(template, key)) - {"question", "answer", *columns}):
            raise ConfigError(
                f"template.{key} shows {{{field}}}",
                reason="the rows have "
                + ", ".join(["question", "answer", *columns])
                + ("" if isinstance(data, FileData) else ": further columns come from files"),
                remedy=did_you_mean(field, ["question", "answer", *columns])
                + f"add the file's field to data.columns: [{', '.join([*columns, field])}], or leave it out",
            )
    if isinstance(data, FileData) and data.answer in checks.template_fields(template.prompt) - {"question"}:
        raise ConfigError(
            f"template.prompt shows {{{data.answer}}}",
            reason="data.answer is that field: the plain prompt is what inference sees, and inference has no answer",
            remedy="show it in `told` only",
        )


# ---------------------------------------------------------------------------------------- rewards


class RewardFields(Strict):
    """What every reward has."""

    name: Name | None = Field(
        None, description="what `keep` and the logs call it; default: the function of a python reward, else the type"
    )
    weight: Finite = Field(1.0, description="in the sum that grpo compares; 0: logged only")
    type: str

    @property
    def called(self) -> str:
        """The name, or what stands in its place."""
        return self.name or self.type


class WorldReward(RewardFields):
    """The world's verifier, in the view of the stage's data."""

    type: Literal["world"]


class AnswerJudge(Strict):
    """Who is asked about the answers that a `math` reward leaves undecided, once for each of them."""

    judge: Annotated[str, AfterValidator(checks.check_asked_model)] = Field(
        description="python:FILE.py:FUNCTION, openai:MODEL, hf:FOLDER or vllm:FOLDER"
    )
    rubric: str = Field(
        "verifier", description="a shipped rubric over problem, solution (the answer) and reference, or a YAML file"
    )
    options: dict[str, Any] = Field(
        {}, description="of the endpoint or engine, as `ixt-rl annotate --judge-option` takes"
    )
    judge_parameters: Parameters | None = Field(
        None, description="parameters of the judge, for FLOPs; default: read from its folder, of others uncounted"
    )
    temperature: NonNegativeFloat = 0.0
    max_new_tokens: Tokens = Field(512, description="of the judge's answer, its thinking included")

    @model_validator(mode="after")
    def _exist(self, info: ValidationInfo) -> AnswerJudge:
        if self.judge == "world":
            raise ConfigError(
                "judge: world",
                reason="answers to a file's problems have no world that could judge them",
                remedy="name python:FILE.py:FUNCTION, openai:MODEL, hf:FOLDER or vllm:FOLDER",
            )
        checks.check_judging_file(self.rubric, "rubrics", (), info)
        return self


class MathReward(RewardFields):
    """Mathematical answers against the gold one: right 1, wrong 0, undecided excluded."""

    type: Literal["math"]
    extract: Literal["auto", "boxed", "last_box", "hashes", "tags", "minerva"] = Field(
        "auto",
        description="where the answer stands: in the last \\boxed{} (boxed, last_box), after ####, in <answer> tags, "
        "after `The final answer is` (minerva), or the first of these and of `the answer is` that there is (auto)",
    )
    last_line: bool = Field(False, description="take a completion's last line where the answer stands nowhere else")
    tolerance: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = Field(
        0.0, description="largest relative difference of a number from the gold, for suites whose rules allow one"
    )
    on_bad_gold: Literal["refuse", "drop"] = Field(
        "refuse", description="rows whose gold answer cannot be judged: an error, or left out and counted"
    )
    judge: AnswerJudge | None = Field(None, description="asked about undecided answers only; null: nobody")
    deadline_s: Seconds = Field(5.0, description="for judging one answer; past it the answer is undecided")
    workers: Workers = Field(1, description="child processes for what takes more than a small computation")


class FormatReward(RewardFields):
    """1 when the whole completion matches a regular expression, else 0."""

    type: Literal["format"]
    pattern: Annotated[str, AfterValidator(checks.check_pattern)]


class LengthReward(RewardFields):
    """0 up to `soft` tokens, falling linearly to -1 at `hard` tokens."""

    type: Literal["length"]
    soft: PositiveInt
    hard: PositiveInt


class PythonReward(RewardFields):
    """Any function with TRL's reward signature, from a file."""

    type: Literal["python"]
    path: Annotated[str, AfterValidator(checks.check_python_function)] = Field(description="FILE.py:FUNCTION")

    @property
    def called(self) -> str:
        return self.name or self.path.rpartition(":")[2]


class JudgeReward(RewardFields):
    """A judge's verdict on a rubric, on 0..1; undecided excluded."""

    type: Literal["judge"]
    judge: Annotated[str, AfterValidator(checks.check_asked_model)] = Field(
        description="python:FILE.py:FUNCTION, openai:MODEL, hf:FOLDER or vllm:FOLDER"
    )
    rubric: str = Field("suffix-match", description="a shipped rubric that reads one completion, or a YAML file")
    options: dict[str, Any] = Field(
        {}, description="of the endpoint or engine, as `ixt-rl annotate --judge-option` takes"
    )
    judge_parameters: Parameters | None = Field(
        None, description="parameters of the judge, for FLOPs; default: read from its folder, of others uncounted"
    )
    temperature: NonNegativeFloat = 0.0
    max_new_tokens: Tokens = Field(512, description="of the judge's answer, its thinking included")

    @model_validator(mode="after")
    def _exist(self, info: ValidationInfo) -> JudgeReward:
        if self.judge == "world":
            raise ConfigError(
                "judge: world", reason="a world's own judge is a reward of its own", remedy="write {type: world}"
            )
        checks.check_judging_file(self.rubric, "rubrics", (), info)
        checks.check_asked(self.judge, self.options, self.max_new_tokens, "judge", info)
        return self


class VerdictReward(RewardFields):
    """Trains a judge: 1 where its verdict is the row's answer, else 0 (rows of `ixt-rl examples judge`)."""

    type: Literal["verdict"]
    rubric: str = Field("pairwise-quality", description="what the prompts ask: a shipped rubric, or a YAML file")
    unreadable: Finite | None = Field(
        0.0, description="reward of an answer without a readable verdict, or cut off; null: the sample is left out"
    )

    @model_validator(mode="after")
    def _exists(self, info: ValidationInfo) -> VerdictReward:
        checks.check_judging_file(self.rubric, "rubrics", (), info)
        return self


class RewriteReward(RewardFields):
    """Trains a rewriter: 1 for copying a fine suffix, else 0; the mean of judged quality and safety of other rewrites.

    For rows of `ixt-rl examples rewriter`. What the judge leaves undecided is excluded.
    """

    type: Literal["rewrite"]
    judge: Annotated[str, AfterValidator(checks.check_asked_model)] = Field(
        description="python:FILE.py:FUNCTION, openai:MODEL, hf:FOLDER or vllm:FOLDER"
    )
    options: dict[str, Any] = Field(
        {}, description="of the endpoint or engine, as `ixt-rl annotate --judge-option` takes"
    )
    judge_parameters: Parameters | None = Field(
        None, description="parameters of the judge, for FLOPs; default: read from its folder, of others uncounted"
    )
    temperature: NonNegativeFloat = 0.0
    max_new_tokens: Tokens = Field(512, description="of the judge's answer, its thinking included")
    repeats: Workers = Field(1, description="votes on every question, and on each order of a pair")
    unreadable: Finite | None = Field(
        0.0, description="reward of an answer that is no rewrite, or cut off; null: the sample is left out"
    )

    @model_validator(mode="after")
    def _no_world(self, info: ValidationInfo) -> RewriteReward:
        if self.judge == "world":
            raise ConfigError(
                "judge: world",
                reason="rewrites of files have no world that could judge them",
                remedy="name python:FILE.py:FUNCTION, openai:MODEL, hf:FOLDER or vllm:FOLDER",
            )
        checks.check_asked(self.judge, self.options, self.max_new_tokens, "judge", info)
        return self


Reward = Annotated[
    WorldReward | MathReward | FormatReward | LengthReward | PythonReward | JudgeReward | VerdictReward | RewriteReward,
    Field(discriminator="type"),
]


class RewardErrors(Strict):
    """How many failing or late reward calls a run bears before it stops; failed samples are excluded and saved."""

    max_share: Share = Field(0.25, description="of one step's samples")
    max_total: NonNegativeInt = 1000
    deadline_s: PositiveFloat = Field(
        1800.0, description="seconds a reward may take for a step's samples; then they are asked one by one, and what "
        "is not answered fails"
    )  # fmt: skip


# ---------------------------------------------------------------------------------- stage sections


class Optim(Strict):
    """AdamW and its schedule."""

    lr: PositiveFloat
    betas: Annotated[list[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)] = [0.9, 0.95]
    weight_decay: NonNegativeFloat = 0.0
    warmup_steps: NonNegativeInt = 0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    min_lr_ratio: Share = Field(0.0, description="cosine only: where it ends, as a share of lr")
    max_grad_norm: PositiveFloat = 1.0

    @model_validator(mode="after")
    def _min_ratio(self) -> Optim:
        if self.min_lr_ratio and self.schedule != "cosine":
            raise ConfigError(
                f"min_lr_ratio={self.min_lr_ratio} with schedule={self.schedule}",
                reason="only the cosine schedule has a floor",
                remedy="set schedule: cosine, or leave min_lr_ratio out",
            )
        return self


class VllmSection(Strict):
    """vLLM's own settings (engines `vllm` and `ray-vllm`)."""

    max_num_seqs: BatchSize = Field(256, description="sequences decoded at once by one engine")
    tensor_parallel: Workers = Field(1, description="GPUs one engine's model is split over")
    gpu_memory: Annotated[float, Field(gt=0, le=1)] = Field(0.9, description="share of a GPU's memory for one engine")
    kv_cache_gib: PositiveFloat | None = Field(
        None, description="KV cache of one engine; default: what gpu_memory leaves, 1 GiB on a CPU"
    )
    eager: bool = Field(False, description="no CUDA graphs, no compilation: a faster start, slower steps")


class PoolSection(Strict):
    """The Ray actors of engine `ray-vllm`, each with a vLLM engine."""

    engines: Workers = 1
    cpus_per_engine: Workers = 1
    gpus_per_engine: NonNegativeInt | None = Field(
        None, description="default: tensor_parallel if there are GPUs, else 0"
    )
    weight_transfer: Literal["object-store", "broadcast"] = Field(
        "object-store",
        description="how new weights reach the engines: through Ray's object store, or from device to device",
    )
    placement: Literal["pack", "spread"] = Field(
        "pack", description="on a cluster: fill nodes one after the other, or spread engines over as many as there are"
    )
    address: str | None = Field(None, description="of a running Ray cluster, or `auto`; default: start Ray here")
    deadline: Seconds = Field(120.0, description="seconds without progress after which an engine is replaced")
    max_restarts: NonNegativeInt = Field(8, description="engines replaced before the run stops")
    dashboard: bool = Field(False, description="Ray's dashboard, where Ray is started here (needs ray[default])")


class CorrectionSection(Strict):
    """Importance correction of what another engine, or an older policy, sampled."""

    level: Literal["token", "sequence"] = "token"
    mode: Literal["truncate", "mask"] = Field("truncate", description="of ratios above cap: count as cap, or as 0")
    cap: PositiveFloat = 2.0


class EngineSection(Strict):
    """What samples the policy, for all stages of a run."""

    engine: Literal["transformers", "vllm", "ray-vllm"] = Field(
        "transformers", description="the model itself; vLLM in this process; a pool of vLLM engines on Ray"
    )
    vllm: VllmSection = VllmSection()
    pool: PoolSection = PoolSection()
    staleness: NonNegativeInt = Field(
        0, description="batches sampled ahead while the trainer steps, by a policy that many updates old (ray-vllm)"
    )
    correction: CorrectionSection | None = Field(
        CorrectionSection(), description="null: none. The model's own rollouts (transformers) need none"
    )
    parity_limit: PositiveFloat | None = Field(
        None, description="largest |log-prob difference| of engine and trainer; default 1e-2, half precision 0.5"
    )

    @property
    def unread_sections(self) -> list[str]:
        """Keys that the chosen engine does not look at."""
        if self.engine == "transformers":
            return ["vllm", "pool", "staleness", "correction"]
        return [] if self.engine == "ray-vllm" else ["pool", "staleness"]

    @model_validator(mode="after")
    def _fits(self, info: ValidationInfo) -> EngineSection:
        if self.staleness and self.engine != "ray-vllm":
            raise ConfigError(
                f"staleness={self.staleness} with engine: {self.engine}",
                reason="it samples in the trainer's process, while the trainer waits",
                remedy="set engine: ray-vllm, or staleness: 0",
            )
        if self.engine != "transformers":
            checks.needs_backend("vllm", f"rollout.engine: {self.engine}", info)
        if self.engine == "ray-vllm":
            checks.needs_backend("ray", "rollout.engine: ray-vllm", info)
        return self


class RolloutSection(Strict):
    """How a stage samples the policy; what samples it is the run's `rollout` block."""

    max_new_tokens: Tokens
    temperature: PositiveFloat = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: NonNegativeInt = 0
    max_prompt_tokens: Tokens = 1024
    on_long: Literal["fail", "drop", "truncate"] = Field(
        "fail", description="what happens to a prompt longer than max_prompt_tokens; truncate keeps its end"
    )
    batch_size: BatchSize = Field(256, description="rows generated at once (engine transformers)")


class Evaluation(Strict):
    """Measured on held-out problems, greedy and sampled, plain and told the answer."""

    every: PositiveInt = 20
    problems: Rows = 200
    at_start: bool = True
    temperature: PositiveFloat = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    samples: BatchSize = Field(1, description="sampled completions a problem (avg@k)")


class Posterior(Strict):
    """Which model, shown the answer, estimates the posterior."""

    source: Literal["live", "frozen", "ema"] = "live"
    decay: Annotated[float, Field(gt=0, lt=1)] | None = Field(None, description="ema only")

    @model_validator(mode="after")
    def _decay(self) -> Posterior:
        if (self.source == "ema") != (self.decay is not None):
            raise ConfigError(
                f"source={self.source} with decay={self.decay}",
                reason="a moving average needs its decay, and nothing else has one",
                remedy="set source: ema with decay: 0.99 (say), or source: live / frozen without decay",
            )
        return self


class KeepFields(Strict):
    """Which rationales are trained."""

    keep: str | list[str] | None = Field(
        None,
        description="rewards, by name or type, that each must reach keep_reward; one undecided excludes. Default: "
        "those that say right or wrong (world, math, verdict, rewrite; else judge; else python; else format; "
        "else length)",
    )
    keep_reward: Finite = Field(1.0, description="a rationale is kept from this value on of each of them, unweighted")


class IntroSection(KeepFields):
    """InTRO (arXiv 2511.09865); the paper's setting is the default."""

    candidates: BatchSize | Literal["exact"] = Field(5, description="n, the taken token included")
    include_taken: bool = True
    clip: PositiveFloat | None = 200.0
    posterior: Posterior = Posterior()
    importance_ratio: bool = Field(
        False,
        description="weigh tokens by the ratio of the policy to the one that sampled, so that rollouts may serve "
        "several updates; by rollout.correction, or where the engine reads none: token, truncate, cap 2",
    )


class RaftSection(KeepFields):
    """RAFT: NLL on kept rationales; with `importance_ratio`, RAFT++ (arXiv 2504.11343)."""

    importance_ratio: bool = False
    epsilon: PositiveFloat = 0.2


class GrpoSection(Strict):
    """GRPO (arXiv 2402.03300), through TRL."""

    loss_type: Literal["grpo", "bnpo", "dr_grpo", "dapo"] = "grpo"
    epsilon: PositiveFloat = 0.2
    epsilon_high: PositiveFloat | None = None
    beta: NonNegativeFloat = 0.0
    scale_rewards: Literal["group", "batch", "none"] = "group"
