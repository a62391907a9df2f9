"""IXT in small: a judge annotates a corpus, a model is trained with its feedback, and is asked for good documents.

.venv/bin/python examples/notebooks/04_annotate_and_train.py         # as a script
.venv/bin/marimo edit examples/notebooks/04_annotate_and_train.py    # as a notebook
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App()

with app.setup:
    import json
    import random
    import subprocess
    import sys
    from pathlib import Path

    import marimo as mo
    import pyarrow.dataset
    import sums

    from ixt_rl.config.load import load_run
    from ixt_rl.run import run_config


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # 4. Annotate and train

    A corpus by a careless author, a third of whose steps are off by one. A judge reads every document once; what it
    says is kept as columns beside the text. Training then puts the feedback before the document, and at inference
    one asks for the feedback of a good one. Nothing is filtered out.
    """)
    return


@app.cell
def _():
    rng = random.Random(2)
    corpus = sums.FOLDER / "corpus.jsonl"
    sums.write_rows(corpus, ({"text": sums.careless_document(rng)} for _ in range(6000)))
    sums.write_files()  # the problems that are asked at the end
    return (corpus,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    `ixt-rl annotate` takes a function, a server or a model as its judge, and may be stopped at any time: the same
    command goes on. Judge and rubric stand in `sums_judge.py` and `sums_rubric.yaml`.
    """)
    return


@app.cell
def _(corpus):
    here = Path(sums.__file__).parent
    annotated = sums.FOLDER / "annotated"
    command = ["annotate", str(corpus), str(annotated), "--judge", f"python:{here / 'sums_judge.py'}:steps"]
    command += ["--rubric", str(here / "sums_rubric.yaml")]
    print("ixt-rl", *command)
    done = subprocess.run([sys.executable, "-m", "ixt_rl", *command], capture_output=True, text=True)
    print(done.stdout or done.stderr)
    table = pyarrow.dataset.dataset(sorted(annotated.glob("part-*"))).to_table()
    for document in table.slice(0, 4).to_pylist():
        print(document["text"], "-> level", document["feedback_level"], "-", document["feedback_critique"])
    return (annotated,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    Two arms see the same number of tokens, feedback included: plain training, and training with the level before
    each document.
    """)
    return


@app.cell
def _(annotated):
    arm = {
        "init": "model",
        "data": {"sources": [{"path": f"{annotated}/part-*"}]},
        "steps": 200,
        "batch_size": 4,
        "packing": {"capacity": 256},
        "optim": {"lr": 4e-3, "warmup_steps": 10},
        "evaluation": {
            "data": {"path": str(sums.FOLDER / "problems.jsonl")},
            "template": {"prompt": "{question}=", "told": "{answer}|{question}="},
            "wishes": {"best": 5, "worst": 1},
            "max_new_tokens": 14,
        },
    }
    feedback = {"template": {"levels": ["1", "2", "3", "4", "5"], "separator": ":"}}
    model = {"tokenizer": "bytes", "hidden_size": 64, "layers": 2, "heads": 4, "intermediate_size": 192}
    run = {
        "name": "annotated",
        "output_dir": str(sums.FOLDER),
        "threads": 1,
        "model": {"new": {**model, "max_positions": 128}},
        "stages": [
            {"name": "plain", "type": "pretrain", **arm},
            {"name": "levels", "type": "ixt", **arm, "feedback": feedback},
        ],
    }
    run_file = sums.FOLDER / "annotated.yaml"  # JSON is YAML
    run_file.write_text(json.dumps(run, indent=2))
    folder = run_config(load_run(run_file))
    return (folder,)


@app.cell
def _(folder):
    summary = json.loads((folder / "summary.json").read_text())
    plain, levels = (stage["mean"] for stage in summary["stages"])
    print("share of right answers, 125 problems      greedy  sampled")
    for arm_name, row, suffix in (
        ("plain", plain, ""),
        ("levels, asked for level 5", levels, ""),
        ("levels, asked for level 1", levels, "@worst"),
    ):
        print(f"  {arm_name:<38}", *(f"{row[f'{mode}{suffix}/checked']:7.2f}" for mode in ("greedy", "sampled")))
    print("report:", folder / "report.html")
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    The model learned from the same careless author; only the feedback tells its good days from its bad ones. These
    problems stand in the corpus, so this measures carefulness and not reasoning. `docs/ixt.md` has the larger demo
    with problems that are in no document, controls (shuffled feedback, a weaker judge) and what was not reproduced.
    """)
    return


if __name__ == "__main__":
    app.run()
