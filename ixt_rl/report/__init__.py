"""What a run folder says, as a page (`build`), as figures (`plots`) and as a terminal table (`table`).

Reads the files of a run folder only; imports no torch, no trainer and no world.
"""
