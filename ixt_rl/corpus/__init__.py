"""Jobs on corpora: rows in, the same rows with more columns out, whatever happens to the process.

SourceSpec -> rows --Worker (an asker, JudgeCache)--> shards in a Folder --collect--> a summary and a page

The machinery knows no job; `annotate` (a judge scores documents), `rewrite` (a rewriter improves suffixes, or puts
thoughts into documents) and `examples` (rows to train judges and rewriters on) are rooms of their own.
"""
