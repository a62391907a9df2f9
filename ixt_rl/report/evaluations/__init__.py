"""The page over folders of `ixt-rl eval`: scores, paired differences, curves over a run's checkpoints, changed answers.

folders -> evaluated.py -> pairs.py, changes.py, checkpoints.py, papers.py -> figures.py, tables.py -> page.py
"""
