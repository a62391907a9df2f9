"""What a run leaves behind, and how far its figures can be believed.

.venv/bin/python examples/notebooks/05_read_a_report.py         # as a script
.venv/bin/marimo edit examples/notebooks/05_read_a_report.py    # as a notebook
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App()

with app.setup:
    import json

    import marimo as mo
    import matplotlib.pyplot as plt
    import sums


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # 5. Read a report

    `report.html` is one file that loads nothing: the table, curves, samples before and after, the resolved
    configuration. Everything on it comes from three files beside it, which are yours to read. The run here is that
    of `01_first_run.py`.
    """)
    return


@app.cell
def _():
    folder = sums.first_run()
    print(*sorted(path.name for path in folder.iterdir()), sep="\n")
    return (folder,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    `metrics.jsonl` has a row for each log (`phase: train`) and each evaluation (`phase: eval`), with the counts
    that methods are compared by: rollouts, tokens, FLOPs, seconds.
    """)
    return


@app.cell
def _(folder):
    rows = [entry for entry in sums.read_rows(folder / "metrics.jsonl") if entry["stage"] == "intro"]
    logged = [entry for entry in rows if entry["phase"] == "train"]
    print("step   kept  entropy  KL(q||p)  factor of drawn candidates, of taken tokens")
    for _log in logged[::3]:
        shown = ("rollout/kept", "entropy", "factor/kl", "factor/sampled", "factor/taken")
        print(f"{_log['step']:4d}", *(f"{_log[name]:7.3f}" for name in shown))
    return logged, rows


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    Three figures tell whether InTRO is healthy:

    - `factor/sampled` stays near 1. Its expectation over the policy is 1 whatever the model does; elsewhere something
      is wrong, or the clip bites (`factor/clipped`).
    - `factor/kl` is what being told the answer changes. At 0 there is nothing to learn from it.
    - `entropy` that falls to 0 leaves no candidates to choose among.
    """)
    return


@app.cell
def _(logged):
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.5), layout="constrained")
    rollouts = [log["rollouts"] for log in logged]
    left.plot(rollouts, [log["rollout/kept"] for log in logged])
    left.set(xlabel="rollouts", ylabel="kept")
    right.plot(rollouts, [log["factor/sampled"] for log in logged])
    right.axhline(1, linestyle=":")
    right.set(xlabel="rollouts", ylabel="factor, drawn")
    mo.as_html(figure)
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    An evaluation asks three ways: *sampled* is the policy as it is trained, *greedy* flatters it, *told* shows it
    the answer. A share of $n$ problems has a standard error of $\sqrt{s (1 - s) / n}$; a difference below two of
    them is no result, and neither is one seed.
    """)
    return


@app.cell
def _(logged, rows):
    measured = [entry for entry in rows if entry["phase"] == "eval"]
    problems = 60
    for _row in measured:
        print(f"step {_row['step']}")
        for view in ("sampled", "greedy", "told"):
            share = _row[f"{view}/checked"]
            print(f"  {view:<8} {share:.2f} ± {(share * (1 - share) / problems) ** 0.5:.2f}")
    spent = {phase: logged[-1][f"flops/{phase}"] for phase in ("rollout", "posterior", "train")}
    print("FLOPs:", ", ".join(f"{phase} {flops / sum(spent.values()):.0%}" for phase, flops in spent.items()))
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    `samples.jsonl` has what the model wrote to the same problems before and after. Read it before you believe a
    curve. `summary.json` has the last figures of every stage, and whether what the run file expects (`expect`)
    holds.
    """)
    return


@app.cell
def _(folder):
    samples = sums.read_rows(folder / "samples.jsonl")
    first, last = (choose(sample["step"] for sample in samples) for choose in (min, max))
    before, after = ({s["question"]: s for s in samples if s["step"] == step} for step in (first, last))
    for question in [question for question in before if question in after][:6]:
        pair = (before[question], after[question])
        told = (f"{sample['completion']:<17} {'right' if sample['checked'] else 'wrong'}" for sample in pair)
        print(f"{question}=   ", "   then   ".join(told))
    for promise in json.loads((folder / "summary.json").read_text())["expectations"]:
        verdict = "holds" if promise["holds"] else "fails"
        print(f"{promise['text']} {promise['bound']}: {promise['value']:.2f}, {verdict}")
    print("the page:", folder / "report.html")
    return


if __name__ == "__main__":
    app.run()
