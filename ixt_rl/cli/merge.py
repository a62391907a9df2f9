"""`ixt-rl merge`: an adapter and its base as one ordinary model."""

from __future__ import annotations

from pathlib import Path

import click

from ixt_rl.cli.shell import readable_errors, require_core, say


@click.command()
@click.argument("source", metavar="ADAPTER|RUN", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--base", help="Folder or hub id of the model the adapter was trained on.  [default: what it names]")
@readable_errors
def merge(source: Path, out: Path, base: str | None) -> None:
    """Merge a LoRA or DoRA adapter into its base, as an ordinary Hugging Face folder OUT.

    ADAPTER is a folder with an adapter_config.json, by this library or by peft; RUN is the folder of a run, or of a
    stage with `lora`. It is merged in float32, and stored in the base's own dtype. Before anything is written,
    log-probs of the merged model are compared with those of base and adapter. A base that is not the one the adapter
    was trained on is refused: adapters of this library know theirs by a hash, of others names and shapes must fit.

    Exit status 0: OUT is there; 2: adapter, base or OUT must change, or the comparison failed.

    \b
    Examples:
      ixt-rl merge runs/mine merged
      ixt-rl merge runs/mine/stages/rl/seed1/adapter merged --base models/smollm2
    """
    require_core()
    from ixt_rl import backends

    backends.require("peft", used_for="ixt-rl merge")
    from ixt_rl.pretrained.merging import merge_adapter
    from ixt_rl.quiet import quiet_transformers

    quiet_transformers()
    said = merge_adapter(source, out, base, say)
    found = said["logprob_differences"]
    say(
        f"merged: {out} ({said['dtype']}; log-probs differ by at most {found['merging']:.1g} nats before and "
        f"{found['rounding']:.1g} after rounding)",
        "green",
    )
