"""A run from its YAML file to its report, in about a minute on a CPU.

.venv/bin/python examples/notebooks/01_first_run.py         # as a script
.venv/bin/marimo edit examples/notebooks/01_first_run.py    # as a notebook (make setup-docs installs marimo)
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App()

with app.setup:
    import json
    from pathlib import Path

    import marimo as mo
    import sums

    from ixt_rl.config.load import load_run
    from ixt_rl.run import run_config


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # 1. A first run

    A tiny model reads documents by a careless author, `2+4+3=6+3 #### 9`: a third of the steps are off by one.
    Where a document begins with its answer, `9|2+4+3=...`, all steps are right. Then InTRO trains the model on the
    bare problems: it samples solutions, keeps those whose answer is right, and weighs each token by how much more
    probable it is to the model that is told the answer.
    """)
    return


@app.cell
def _():
    sums.write_files()
    documents = [row["text"] for row in sums.read_rows(sums.FOLDER / "documents.jsonl")]
    print(*documents[:6], sep="\n")
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    A run is one YAML file. `load_run` validates all of it before anything is computed, as `ixt-rl check FILE` does;
    an unknown key, a wrong type or a missing file is refused there, with the reason and the remedy.
    """)
    return


@app.cell
def _():
    run_file = Path(sums.__file__).with_name("sums.yaml")
    print(run_file.read_text())
    config = load_run(run_file)
    return (config,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    `run_config` is `ixt-rl run FILE`. A second call takes seconds: finished stages are kept as long as nothing that
    they depend on changes. Change the learning rate in `sums.yaml` and only that stage is trained again.
    """)
    return


@app.cell
def _(config):
    folder = run_config(config)
    return (folder,)


@app.cell
def _(folder):
    summary = json.loads((folder / "summary.json").read_text())
    intro = summary["stages"][1]
    before, after = intro["start"], intro["mean"]
    print("share of right answers       before   after")
    for view, meaning in (("sampled", "sampled"), ("greedy", "greedy"), ("told", "told the answer")):
        print(f"  {meaning:<25}", *(f"{row[f'{view}/checked']:7.2f}" for row in (before, after)))
    for expected in summary["expectations"]:
        print("expectation holds:", expected["holds"], "-", expected["text"])
    print("report:", folder / "report.html")
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    Told the answer, the base is right where untold it is careless. InTRO moves the one towards the other. 60
    held-out problems are few: the standard error of each share is about 0.06.

    Next: `02_your_own_factor.py` changes the weight of a token, `05_read_a_report.py` reads what this run wrote.
    """)
    return


if __name__ == "__main__":
    app.run()
