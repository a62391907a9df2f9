"""A judge and a rubric of your own, asked from Python, used as a reward, and checked against what is known.

.venv/bin/python examples/notebooks/03_your_own_judge.py         # as a script
.venv/bin/marimo edit examples/notebooks/03_your_own_judge.py    # as a notebook
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App()

with app.setup:
    import random
    from collections import Counter
    from pathlib import Path

    import marimo as mo
    import sums

    from ixt_rl.judging import FunctionBackend, Judge, JudgeCache, JudgeReward, Question, load_rubric
    from ixt_rl.types import SamplingParams


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # 3. Your own judge

    A judge reads texts and says how good they are. Here it is a function; a server or a model in this process has
    the same client. What it cannot decide is *undecided*, with a reason, and never a score of 0.

    A rubric is a YAML file: a prompt, the texts it needs, and the axes of the answer. A function is not shown the
    prompt, a language model is.
    """)
    return


@app.cell
def _():
    file = Path(sums.__file__).with_name("steps_rubric.yaml")
    print(file.read_text())
    rubric = load_rubric(str(file))
    return (rubric,)


@app.function
def steps_judge(fields):
    """The rubric's fields -> its axes; None: undecided."""
    right = sums.right_steps(fields["problem"], fields["solution"])
    if right is None:
        return None
    return {"steps": right, "overall": (1, 3, 5)[right], "critique": f"{right} of 2 steps are right"}


@app.cell
def _(rubric):
    judge = Judge(FunctionBackend(steps_judge, "steps"), SamplingParams(200))
    written = ["6+3 #### 9", "6+3 #### 8", "5+3 #### 7", "I would say 9"]
    asked = [Question(rubric, {"problem": "2+4+3", "solution": solution}) for solution in written]
    for solution, said in zip(written, judge.ask(asked), strict=True):
        why = said.critique or said.verdict.evidence
        print(f"{solution:<14} level {said.level}, score {said.verdict.score}: {why}")
    print(judge.tally)
    return (judge,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    The same judge is a reward with TRL's signature. A list of `rewards` in a run file says it as `{type: judge,
    judge: "python:my_judge.py:steps_judge", rubric: my_rubric.yaml}`.
    """)
    return


@app.cell
def _(judge, rubric):
    reward = JudgeReward(judge, rubric)
    completions = ["6+3 #### 9", "6+3 #### 8", "I would say 9"]
    print(reward([""] * 3, completions, question=["2+4+3"] * 3, answer=["9"] * 3))
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    Is a cheaper judge good enough? Compare it with one that is known to be right, on the same texts, before
    anything is trained on its word. This one reads the first step only. A cache in SQLite keeps its answers, so
    asking again costs nothing.
    """)
    return


@app.cell
def _(judge, rubric):
    def hasty_judge(fields):
        a, b, _ = map(int, fields["problem"].split("+"))
        right = fields["solution"].startswith(f"{a + b}+")
        return {"steps": 2 * right, "overall": 5 if right else 1}

    rng = random.Random(1)
    problems = rng.choices(sums.QUESTIONS, k=600)
    questions = [Question(rubric, {"problem": p, "solution": sums.solution(p, rng, sums.CARELESS)}) for p in problems]
    cache = JudgeCache(sums.FOLDER / "judge.sqlite")
    hasty = Judge(FunctionBackend(hasty_judge, "first step"), SamplingParams(200), cache=cache)
    answers = zip(judge.ask(questions), hasty.ask(questions), strict=True)
    levels = Counter((one.level, other.level) for one, other in answers)
    for (careful, hastily), count in sorted(levels.items()):
        print(f"level {careful} by both steps, {hastily} by the first: {count}")
    liked = {careful: count for (careful, hastily), count in levels.items() if hastily == 5}
    print(f"{1 - liked[5] / sum(liked.values()):.0%} of what the hasty judge likes best is wrong")
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    Next: `04_annotate_and_train.py` has a judge annotate a whole corpus, and trains on what it said.
    `docs/judging.md` has endpoints, engines, votes, repair of answers, and prices.
    """)
    return


if __name__ == "__main__":
    app.run()
