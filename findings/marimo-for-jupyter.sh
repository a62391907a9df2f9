#!/usr/bin/env bash
# transformers 5.15.0, accelerate 1.15.0, torch 2.13.0, marimo 0.25.2: a script that has imported marimo gets the
# progress callback of Jupyter, in a plain terminal, and cannot import the Trainer where IPython is missing.
#
# Behaviour: transformers asks `sys.modules` for marimo, and takes its presence for a notebook, whoever imported it and
# whatever runs it; in the branch for marimo nothing asks for IPython, which the callback is made of.
# Seen: without IPython, `from transformers import Trainer` fails (No module named 'IPython'); with it, the Trainer's
# default is NotebookProgressCallback. Without marimo imported before: ProgressCallback, IPython installed or not.
# Guessed before: a notebook that is run as a script, `python notebook.py`, is a script to the Trainer.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.15.0 accelerate==1.15.0 marimo==0.25.2
cat > "$folder/seen.py" <<'PYTHON'
import subprocess
import sys


def default_of(first: str) -> str:
    """The Trainer's progress callback in a process of its own, or what its import says."""
    code = f"{first}\nfrom transformers import trainer\nprint(trainer.DEFAULT_PROGRESS_CALLBACK.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return done.stdout.strip() or next(l for l in reversed(done.stderr.splitlines()) if "No module named" in l)


plain, after_marimo = default_of(""), default_of("import marimo")
print(f"IPython {sys.argv[1]}: {plain}; after `import marimo`: {after_marimo}")
assert plain == "ProgressCallback", "the behaviour has changed"
expected = "NotebookProgressCallback" if sys.argv[1] == "installed" else "No module named 'IPython'"
assert expected in after_marimo, "the behaviour has changed"
PYTHON
cd "$folder"
"$folder/venv/bin/python" "$folder/seen.py" missing
"$folder/venv/bin/pip" install -q ipython==9.18.1
"$folder/venv/bin/python" "$folder/seen.py" installed
