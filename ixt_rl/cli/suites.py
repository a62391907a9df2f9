"""`ixt-rl suites`: benchmarks and the ways of asking them, by name."""

from __future__ import annotations

from pathlib import Path

import click

from ixt_rl.cli.run_files import print_rows
from ixt_rl.cli.shell import readable_errors, require_core, say
from ixt_rl.errors import ConfigError


@click.command()
@click.argument("name", required=False)
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), help="Say what is found in this folder.")
@readable_errors
def suites(name: str | None, data: Path | None) -> None:
    """List the suites and presets that come with ixt-rl; print the one called NAME.

    A suite says which files hold a benchmark, which of their fields are question and gold, and how answers are graded;
    a preset says how a question is asked and sampled. Both are YAML: a file of yours goes wherever a name does.

    With --data, each suite is looked for in that folder and loaded, and its rows, files and notes are said.

    \b
    Examples:
      ixt-rl suites
      ixt-rl suites gsm8k > mine.yaml
      ixt-rl suites --data data
    """
    from ixt_rl.suites import load_preset, load_suite, preset_names, shipped_suite, suite_names
    from ixt_rl.suites.load import shipped_file

    if name is not None and data is None:
        click.echo(shipped_file(name).read_text(encoding="utf-8"), nl=False)
        return
    if data is not None:
        require_core()
        if not data.is_dir():
            raise ConfigError(
                f"--data {data}",
                reason=f"no such folder (looked in {Path.cwd()})",
                remedy="give the folder that holds the suites' files as they were published (docs/suites.md, Files)",
            )
        names = suite_names() if name is None else [shipped_suite(name).stem]
        print_rows(("suite", "rows", "file", "notes"), [_found(one, data) for one in names])
        return
    found = [load_suite(one) for one in suite_names()]
    print_rows(
        ("suite", "rows", "samples", "what it is"),
        [
            (
                one.name,
                str(one.rows or ""),
                str(setting.samples or 1) if (setting := one.settings.get("paper")) else "1",
                one.about,
            )
            for one in found
        ],
    )
    say("")
    presets = [load_preset(one) for one in preset_names()]
    print_rows(("preset", "how it asks"), [(one.name, one.about) for one in presets])


def _found(name: str, data: Path) -> tuple[str, str, str, str]:
    from ixt_rl.errors import DataError
    from ixt_rl.evaluation.suites import find_rows
    from ixt_rl.suites import load_suite

    try:
        rows = find_rows(load_suite(name), data)
    except DataError as error:
        return name, "-", "", error.what if "not in" not in error.what else "not there"
    return (
        name,
        str(len(rows.rows)),
        ", ".join(str(file.relative_to(data)) for file in rows.files),
        "; ".join(rows.notes),
    )
