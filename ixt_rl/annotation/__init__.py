"""Corpus annotation: documents --judge, rubric--> the same rows with feedback columns, and a report.

SourceSpec -> rows --ShardJudge (Judge, JudgeCache)--> shards in a Folder --collect--> annotation.json, annotation.html
"""
