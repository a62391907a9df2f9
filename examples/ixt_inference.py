"""Inference with feedback, three ways that write the same: this library, plain transformers, plain vLLM.

    .venv/bin/python examples/ixt_inference.py

A model trained with feedback before its documents is asked for good ones by putting the feedback of a good one before
the prompt. That is text like any other, so a trained checkpoint needs nothing of this library. The last part pushes
further than a prompt can: guidance, away from the worst feedback and towards the best.

The model here is random and only shows the mechanics; give the folder of a trained one with --model.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

from ixt_rl.models import byte_tokenizer

QUESTIONS = ["What is 17 * 3?", "A train leaves at 9:40 and travels 75 minutes. When does it arrive?"]
NEW_TOKENS = 24

# What the template "critique" writes for the wish "math, best", and its separator: all that the two plain ways need.
FEEDBACK = """Quality: 5 of 5.
correctness: 5
soundness: 5
efficiency: 5
difficulty: 3
critique:
The final answer is right, every step follows, and the solution is as short as an expert would write it."""
SEPARATOR = "\n\n"


def with_this_library(folder: str) -> list[list[int]]:
    """The wish in words, by the code that built the training sequences."""
    from ixt_rl.conditioning import Conditioner, Conditioning, load_feedback_template
    from ixt_rl.conditioning.wish import wished_prompts
    from ixt_rl.rollout import TransformersEngine
    from ixt_rl.types import SamplingParams

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    conditioner = Conditioner(tokenizer, Conditioning(template=load_feedback_template("critique")))
    prompts = wished_prompts(conditioner, QUESTIONS, "math, best")
    engine = TransformersEngine(model, [tokenizer.eos_token_id], tokenizer.pad_token_id)
    groups = engine.generate(prompts, SamplingParams(NEW_TOKENS, temperature=0.0))
    return [list(group[0].completion_ids) for group in groups]


def prompt_ids(tokenizer, text: str) -> list[int]:
    """[BOS, feedback, separator, text]; piece by piece, as in training, so that no merge crosses a boundary."""
    pieces = [FEEDBACK, SEPARATOR, text]
    ids = [token for piece in pieces for token in tokenizer(piece, add_special_tokens=False)["input_ids"]]
    bos = tokenizer("")["input_ids"][:1]  # [] for a tokenizer that adds none
    return [*bos, *ids]


def with_plain_transformers(folder: str) -> list[list[int]]:
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    model.generation_config = GenerationConfig()  # a checkpoint's own may hold penalties, which greedy decoding takes
    answers = []
    for text in QUESTIONS:
        ids = torch.tensor([prompt_ids(tokenizer, text)])
        written = model.generate(ids, max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=tokenizer.pad_token_id)
        answers.append(written[0, ids.shape[1] :].tolist())
    return answers


def with_plain_vllm(folder: str) -> list[list[int]]:
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB, where there is no GPU
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    from vllm import LLM, SamplingParams

    tokenizer = AutoTokenizer.from_pretrained(folder)
    llm = LLM(model=folder, dtype="float32", enforce_eager=True)
    prompts = [{"prompt_token_ids": prompt_ids(tokenizer, text)} for text in QUESTIONS]
    outputs = llm.generate(prompts, SamplingParams(max_tokens=NEW_TOKENS, temperature=0.0), use_tqdm=False)
    return [list(output.outputs[0].token_ids) for output in outputs]


def with_guidance(folder: str, scale: float) -> list[list[int]]:
    """log p = (1 - scale) log p(. | worst feedback) + scale log p(. | best feedback) + constant."""
    from ixt_rl.conditioning import Conditioner, Conditioning, load_feedback_template
    from ixt_rl.conditioning.wish import wished_prompts
    from ixt_rl.rollout.guidance import GuidedEngine
    from ixt_rl.types import SamplingParams

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    conditioner = Conditioner(tokenizer, Conditioning(template=load_feedback_template("critique")))
    best = [tuple(prompt) for prompt in wished_prompts(conditioner, QUESTIONS, "math, best")]
    worst = wished_prompts(conditioner, QUESTIONS, "math, worst")
    engine = GuidedEngine(
        model,
        [tokenizer.eos_token_id],
        tokenizer.pad_token_id,
        scale=scale,
        against=dict(zip(best, worst, strict=True)).__getitem__,
    )
    groups = engine.generate(best, SamplingParams(NEW_TOKENS, temperature=0.0))
    return [list(group[0].completion_ids) for group in groups]


def random_model(folder: str) -> str:
    """A tiny Llama over bytes, and its tokenizer."""
    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, head_dim=32, max_position_embeddings=1024, initializer_range=0.2,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder of a trained model; default: a random one, made here")
    folder = parser.parse_args().model or random_model(tempfile.mkdtemp())
    ways = {"this library": with_this_library, "plain transformers": with_plain_transformers}
    if importlib.util.find_spec("vllm"):
        ways["plain vLLM"] = with_plain_vllm
    answers = {way: run(folder) for way, run in ways.items()}
    answers |= {f"guidance {scale:g}": with_guidance(folder, scale) for scale in (1.0, 3.0)}
    for way, written in answers.items():
        print(f"{way:<20}", *(" ".join(map(str, ids[:12])) for ids in written), sep="\n    ")


if __name__ == "__main__":  # vLLM starts processes that import this file
    main()
