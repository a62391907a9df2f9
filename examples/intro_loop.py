"""InTRO as one readable loop: the whole algorithm in plain torch, on the addition world.

    make demo                                   # once: makes the base model
    .venv/bin/python examples/intro_loop.py     # about a minute on a CPU

What the library adds to this: a fused loss that never holds [tokens, vocabulary], TRL's trainer (LoRA,
DeepSpeed, FSDP, checkpoints), guarded rewards, evaluation and reports. The mathematics is all here.

Shapes: T tokens of a rationale, V vocabulary, n candidates.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ixt_rl.conditioning import encode_prompt, load_template
from ixt_rl.rollout import TransformersEngine
from ixt_rl.run.named_model import named_model
from ixt_rl.types import SamplingParams
from ixt_rl.worlds import AdditionWorld

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--base", help="model folder; default: the demo's pretrained base")
parser.add_argument("--steps", type=int, default=40)
parser.add_argument("--candidates", type=int, default=5, help="n, the taken token included")
parser.add_argument("--lr", type=float, default=2e-4)
args = parser.parse_args()
if args.base is None and not Path("runs/addition").is_dir():
    parser.error("no runs/addition: run `make demo` first, or give --base FOLDER")

GROUP, QUESTIONS, CLIP = 4, 8, 200.0
base = named_model(args.base or "runs/addition/stages/base").path
policy = AutoModelForCausalLM.from_pretrained(base)
tokenizer = AutoTokenizer.from_pretrained(base)
posterior = copy.deepcopy(policy).eval()  # frozen here; the paper uses the live policy
world, template = AdditionWorld("parity"), load_template("addition", "addition")
engine = TransformersEngine(policy, [tokenizer.eos_token_id], tokenizer.pad_token_id)
optimizer = torch.optim.AdamW(policy.parameters(), lr=args.lr, betas=(0.9, 0.95), weight_decay=0.0)
torch.manual_seed(0)


def logprobs(model, prompt: list[int], rationale: tuple[int, ...]) -> torch.Tensor:
    """(T, V) log-probs of every next token along the rationale."""
    ids = torch.tensor([[*prompt, *rationale]])
    return model(ids).logits[0, len(prompt) - 1 : -1].float().log_softmax(dim=-1)


def strict_accuracy(problems: int = 200) -> float:
    """Share of sampled rationales on held-out problems with every step right."""
    rows = world.rows("eval", problems, seed=99)
    prompts = [encode_prompt(tokenizer, template.render(row["question"], row["answer"])[0]) for row in rows]
    groups = engine.generate(prompts, SamplingParams(max_new_tokens=34, seed=5))
    graded = [world.grade(row["question"], g[0].completion_ids) for row, g in zip(rows, groups, strict=True)]
    return sum(grade.strict for grade in graded) / problems


print(f"step    0  strict {strict_accuracy():.3f}")
questions = world.rows("train", args.steps * QUESTIONS, seed=1)
for step in range(1, args.steps + 1):
    losses = []
    for row in questions[(step - 1) * QUESTIONS : step * QUESTIONS]:
        x, xy = (encode_prompt(tokenizer, p) for p in template.render(row["question"], row["answer"]))
        # 1. sample G rationales from the policy and keep those whose answer is verified
        for rollout in engine.generate([x], SamplingParams(max_new_tokens=34), n=GROUP)[0]:
            z = rollout.completion_ids
            if not world.grade(row["question"], z).checked:
                continue
            # 2. one pass with gradient on [x, z], one without on [x (+) y, z]
            logp = logprobs(policy, x, z)
            with torch.no_grad():
                logq = logprobs(posterior, xy, z)
            # 3. candidates at every position: the token taken, and n - 1 drawn from the policy
            taken = torch.tensor(z)[:, None]
            drawn = torch.multinomial(logp.detach().exp(), args.candidates, replacement=True)[:, 1:]
            candidates = torch.cat([taken, drawn], dim=1)  # (T, n)
            logp, logq = logp.gather(1, candidates), logq.gather(1, candidates)
            # 4. correction factor, held fixed and clipped
            factor = (logq - logp).exp().clamp(max=CLIP).detach()
            # 5. 1 / (|z| n) over positions and candidates
            losses.append(-(factor * logp).mean())
    if losses:
        torch.stack(losses).mean().backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    if step % 10 == 0:
        print(f"step {step:4d}  strict {strict_accuracy():.3f}  kept {len(losses)} of {QUESTIONS * GROUP}")
