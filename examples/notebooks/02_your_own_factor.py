"""A factor of your own for InTRO: a trainer class with one method and one option.

.venv/bin/python examples/notebooks/02_your_own_factor.py         # as a script
.venv/bin/marimo edit examples/notebooks/02_your_own_factor.py    # as a notebook
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App()

with app.setup:
    import random
    import warnings
    from dataclasses import dataclass

    import marimo as mo
    import sums
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback

    from ixt_rl.rewards import math_reward
    from ixt_rl.rollout import TransformersEngine
    from ixt_rl.trainers import InTROConfig, InTROTrainer
    from ixt_rl.types import SamplingParams

    warnings.filterwarnings("ignore", message=".*pin_memory.*")  # there is no accelerator here


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # 2. Your own factor

    InTRO weighs a candidate token by $\min(q/p, \mathrm{clip})$: $p$ is its probability to the policy, $q$ to the
    model that is told the answer. `InTROTrainer` has a method for each choice of this kind. The trainer below
    overrides `factor` and adds an option. It raises the ratio to a power, and leaves it whole for the token that
    was really written:

    $$w = (q/p)^{\mathrm{softness}} \text{ for drawn candidates}, \qquad w = q/p \text{ for the one taken}$$
    """)
    return


@app.class_definition
@dataclass
class SoftConfig(InTROConfig):
    """`softness`: power of the ratio of candidates that were not written; 1 is InTRO, 0 takes them as they are."""

    softness: float = 1.0


@app.class_definition
class SoftTrainer(InTROTrainer):
    """InTRO with a softer factor for candidates that were drawn."""

    def factor(self, logp, logq, where):
        """(C, m) weights of m candidates at C positions; no gradient flows through them."""
        power = torch.where(where.taken, 1.0, self.args.softness)
        return (power * (logq - logp)).exp().clamp(max=self.args.spec.limit)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    `where` says which tokens these are: `where.rows`, `where.positions`, `where.token_ids`, `where.taken`, and in
    `where.signals` what is known of each row, such as its rewards. A method with other arguments is refused when the
    trainer is made.

    The trainer is a `trl.GRPOTrainer`. Its dataset has TRL's `prompt`, and `told_prompt`, which the posterior sees.
    """)
    return


@app.cell
def _():
    base = sums.base_model()  # the first notebook's, made now if that was not run
    tokenizer = AutoTokenizer.from_pretrained(base)
    held_out = random.Random(0).sample(sums.QUESTIONS, 40)
    rows = [
        {"prompt": f"{q}=", "told_prompt": f"{sums.answer(q)}|{q}=", "answer": sums.answer(q)}
        for q in sums.QUESTIONS
        if q not in held_out
    ]
    return base, held_out, rows, tokenizer


@app.cell
def _(base, held_out, rows, tokenizer):
    def sampled_accuracy(model, samples: int = 8) -> float:
        """Share of right answers on held-out problems at temperature 1."""
        engine = TransformersEngine(model.eval(), [tokenizer.eos_token_id], tokenizer.pad_token_id)
        prompts = [tokenizer(f"{q}=")["input_ids"] for q in held_out]
        groups = engine.generate(prompts, SamplingParams(max_new_tokens=14, seed=0), n=samples)
        written = [tokenizer.decode(one.completion_ids, skip_special_tokens=True) for group in groups for one in group]
        answers = [sums.answer(q) for q in held_out for _ in range(samples)]
        return sum(reward == 1.0 for reward in math_reward(written, written, answers)) / len(written)

    def train(softness: float) -> dict[str, float]:
        model = AutoModelForCausalLM.from_pretrained(base)
        config = SoftConfig(
            output_dir=str(sums.FOLDER / "factor"),
            softness=softness,
            candidates=5,
            posterior="frozen",
            max_steps=12,
            per_device_train_batch_size=32,
            num_generations=4,
            max_completion_length=14,
            learning_rate=1e-3,
            logging_steps=12,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            bf16=False,
            seed=0,
        )
        data = Dataset.from_list(rows)
        trainer = SoftTrainer(model, [math_reward], config, train_dataset=data, processing_class=tokenizer)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        logged = next(row for row in trainer.state.log_history if "factor/sampled" in row)
        return {"right": sampled_accuracy(model), "taken": logged["factor/taken"], "drawn": logged["factor/sampled"]}

    return sampled_accuracy, train


@app.cell
def _(base, sampled_accuracy, train):
    print(f"base            right {sampled_accuracy(AutoModelForCausalLM.from_pretrained(base)):.2f}")
    for softness in (1.0, 0.0):
        found = train(softness)
        print(f"softness {softness:.1f}    right {found['right']:.2f}", end="    mean factor: ")
        print(f"taken tokens {found['taken']:.3f}, drawn candidates {found['drawn']:.3f}")
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    With softness 1 the mean factor of drawn candidates is 1 up to noise: its expectation over the policy is $\sum_v
    p\,q/p = 1$, which every InTRO run logs as a test of itself. A power below 1 loses that, and with 0 each drawn
    candidate weighs 1: it is pushed up because the policy wrote it. One seed of 12 updates ranks nothing; repeat it
    before you believe a difference.

    Other methods to override are `choose_candidates`, `token_weights` and `keep`: `docs/intro.md` lists them.
    """)
    return


if __name__ == "__main__":
    app.run()
