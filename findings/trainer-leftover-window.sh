#!/usr/bin/env bash
# transformers 5.15.0, accelerate 1.15.0, torch 2.13.0: a stream of rows that ends within a window of gradient
# accumulation leaves its last gradients in the next update, where they weigh more than the rows they meet.
#
# Behaviour: with gradient_accumulation_steps=2 and five rows a pass, a data set of known length makes a third update of
# the fifth row alone. A stream (IterableDataset without a length) makes none: its fifth row's gradient, divided by the
# one row that was left, stays in .grad, the stream is begun anew, and the next two rows, each divided by two, are added.
# Seen (row i has the gradient i): updates of 0.5, 2.5, 4.0, 0.5 with the data set; of 0.5, 2.5, 4.5, 2.5 with the stream,
# the third being 4/1 + (0 + 1)/2.
# Guessed before: the rows that are left make a smaller update in both, or are left out of both.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.15.0 accelerate==1.15.0
cat > "$folder/seen.py" <<'PYTHON'
import torch
from torch.utils.data import Dataset, IterableDataset
from transformers import Trainer, TrainerCallback, TrainingArguments

ROWS = [{"x": torch.tensor([float(i)])} for i in range(5)]


class Sized(Dataset):
    def __len__(self):
        return len(ROWS)

    def __getitem__(self, index):
        return ROWS[index]


class Stream(IterableDataset):
    def __iter__(self):
        yield from ROWS


class Linear(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return {"loss": (x * self.w).sum()}


class Watch(TrainerCallback):
    def __init__(self, model):
        self.model, self.gradients = model, []

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        self.gradients.append(self.model.w.grad.item())


def updates(rows):
    model = Linear()
    watch = Watch(model)
    args = TrainingArguments(
        "out", max_steps=4, per_device_train_batch_size=1, gradient_accumulation_steps=2, use_cpu=True,
        report_to="none", save_strategy="no", disable_tqdm=True, max_grad_norm=0.0,
        train_sampling_strategy="sequential",
    )
    Trainer(model, args, train_dataset=rows, callbacks=[watch]).train()
    return watch.gradients


sized, stream = updates(Sized()), updates(Stream())
print(f"gradients of four updates: data set {sized}, stream {stream}")
assert sized == [0.5, 2.5, 4.0, 0.5] and stream == [0.5, 2.5, 4.5, 2.5], "the behaviour has changed"
PYTHON
cd "$folder"
"$folder/venv/bin/python" "$folder/seen.py"
