"""The commands that write a prepared folder from prepared folders."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpo_data.cli.options import CHECKS, INPUT, OUTPUT, PREPARED, PreparedArgument, WorkersOption, cores
from dpo_data.cli.runner import JsonOption, QuietOption, VerboseOption, choices, print_json, progress
from dpo_data.options import Contradictions, OnLeak, Progress, SplitName, parse_share

if TYPE_CHECKING:
    from dpo_data.prepared.manifest import Manifest

SELECTION = "Selection"

OutputOption = Annotated[
    Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder to write.", rich_help_panel=OUTPUT)
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace a finished folder.", rich_help_panel=OUTPUT)
]
OnLeakOption = Annotated[
    OnLeak,
    typer.Option(
        metavar=choices(OnLeak),
        help="What to do with prompts in both train and test: leave out the pairs in one of them, move those in train "
        "to test, or refuse.",
        rich_help_panel=SELECTION,
    ),
]
SeedOption = Annotated[int, typer.Option(metavar="N", help="Seed of the selection.", rich_help_panel=SELECTION)]


def mix(
    parts: Annotated[
        list[str],
        typer.Argument(
            metavar="PART",
            help="A prepared folder; FOLDER:0.5 for half of its pairs, FOLDER:2 for each twice, FOLDER@5000 for 5,000; "
            "NAME=FOLDER to name the part.",
            show_default=False,
        ),
    ],
    output: OutputOption,
    seed: SeedOption = 0,
    on_leak: OnLeakOption = "drop-train",
    overwrite: OverwriteOption = False,
    workers: WorkersOption = 0,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Mix prepared folders.

    Takes shares, repeats or counts of the pairs of each part, evenly interleaved; the column `dataset` names the part.

      dpo-data mix helpful/ harmless/:0.5 chats=runs/chats:2 -o mixed/
    """
    from dpo_data.shaping.mix import mix as mix_

    def run(show_progress: Progress) -> "Manifest":
        return mix_(
            parts,
            output=output,
            seed=seed,
            on_leak=on_leak,
            overwrite=overwrite,
            workers=workers or cores(),
            progress=show_progress,
        )

    _run("Mixing", run, output, json=json, quiet=quiet)


def dedup(
    path: PreparedArgument = PREPARED,
    *,
    output: OutputOption,
    near: Annotated[
        float | None,
        typer.Option(
            metavar="T",
            help="Also leave out pairs whose three texts are each this similar to those of an earlier pair, as in 0.8. "
            "Needs the extra `checks`.",
            rich_help_panel=SELECTION,
        ),
    ] = None,
    per_prompt: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Maximum pairs of one prompt, preferring the largest margins.",
            show_default="all",
            rich_help_panel=SELECTION,
        ),
    ] = None,
    contradictions: Annotated[
        Contradictions,
        typer.Option(
            metavar=choices(Contradictions),
            help="What to do with A over B and B over A for one prompt: keep or drop both, or keep the larger margin.",
            rich_help_panel=SELECTION,
        ),
    ] = "keep",
    prefer: Annotated[
        SplitName,
        typer.Option(metavar=choices(SplitName), help="Split whose copy of a pair is kept.", rich_help_panel=SELECTION),
    ] = "test",
    overwrite: OverwriteOption = False,
    workers: WorkersOption = 0,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Remove duplicate pairs.

    Without options only exact copies are left out.

      dpo-data dedup prepared/ -o unique/
      dpo-data dedup prepared/ --near 0.8 --per-prompt 4 -o unique/
    """
    from dpo_data.shaping.dedup import dedup as dedup_

    def run(show_progress: Progress) -> "Manifest":
        return dedup_(
            path,
            output=output,
            near=near,
            per_prompt=per_prompt,
            contradictions=contradictions,
            prefer=prefer,
            overwrite=overwrite,
            workers=workers or cores(),
            progress=show_progress,
        )

    _run("Deduplicating", run, output, json=json, quiet=quiet)


def filter(
    path: PreparedArgument = PREPARED,
    *,
    output: OutputOption,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="EXPRESSION",
            help="Keep only pairs that meet this condition, such as 'margin >= 1 and len(chosen) < 2000'.",
            rich_help_panel=SELECTION,
        ),
    ] = None,
    drop_findings: Annotated[
        list[str],
        typer.Option(metavar="CODE", help="Leave out pairs with this finding (repeatable).", rich_help_panel=CHECKS),
    ] = [],  # noqa: B006
    keep_findings: Annotated[
        list[str],
        typer.Option(
            metavar="CODE", help="Keep only pairs with one of these findings (repeatable).", rich_help_panel=CHECKS
        ),
    ] = [],  # noqa: B006
    overwrite: OverwriteOption = False,
    workers: WorkersOption = 0,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Keep the pairs that meet a condition.

    dpo-data filter prepared/ --where "margin >= 1 and turns < 6" -o clear/
    dpo-data filter prepared/ --drop-findings repeated_role -o clean/
    """
    from dpo_data.shaping.filter import filter as filter_

    def run(show_progress: Progress) -> "Manifest":
        return filter_(
            path,
            output=output,
            where=where,
            drop_findings=drop_findings,
            keep_findings=keep_findings,
            overwrite=overwrite,
            workers=workers or cores(),
            progress=show_progress,
        )

    _run("Filtering", run, output, json=json, quiet=quiet)


def split(
    path: PreparedArgument = PREPARED,
    *,
    output: OutputOption,
    test: Annotated[
        str, typer.Option(metavar="SHARE", help="Share of the pairs to put in test.", rich_help_panel=SELECTION)
    ] = "5%",
    by: Annotated[
        str,
        typer.Option(
            metavar="prompt|near-prompt|COLUMN",
            help="What must not be in both splits: a prompt, near-duplicate prompts, or a value of a column.",
            rich_help_panel=SELECTION,
        ),
    ] = "prompt",
    keep_test: Annotated[
        bool,
        typer.Option("--keep-test", help="Leave the pairs that are in test there.", rich_help_panel=SELECTION),
    ] = False,
    seed: SeedOption = 0,
    on_leak: OnLeakOption = "drop-train",
    overwrite: OverwriteOption = False,
    workers: WorkersOption = 0,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Split pairs into train and test anew.

    All splits are pooled, and whole families of pairs go to test.

      dpo-data split prepared/ --test 5% --by near-prompt -o split/
    """
    from dpo_data.shaping.split import split as split_

    def run(show_progress: Progress) -> "Manifest":
        return split_(
            path,
            output=output,
            test=parse_share("test", test),
            by=by,
            keep_test=keep_test,
            seed=seed,
            on_leak=on_leak,
            overwrite=overwrite,
            workers=workers or cores(),
            progress=show_progress,
        )

    _run("Splitting", run, output, json=json, quiet=quiet)


def sample(
    size: Annotated[
        str, typer.Argument(metavar="SIZE", help="Number of pairs, or their share, as in 5%.", show_default=False)
    ],
    path: PreparedArgument = PREPARED,
    *,
    output: OutputOption,
    stratify: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="Keep the proportions of the values of this column.", rich_help_panel=SELECTION
        ),
    ] = None,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
    workers: WorkersOption = 0,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Take a sample of the pairs.

    dpo-data sample 1000 prepared/ -o small/
    dpo-data sample 5% prepared/ --stratify dataset -o small/
    """
    from dpo_data.shaping.sample import sample_pairs

    def run(show_progress: Progress) -> "Manifest":
        return sample_pairs(
            path,
            output=output,
            size=int(size) if size.isdecimal() else parse_share("size", size),
            stratify=stratify,
            seed=seed,
            overwrite=overwrite,
            workers=workers or cores(),
            progress=show_progress,
        )

    _run("Sampling", run, output, json=json, quiet=quiet)


def decontaminate(
    path: PreparedArgument = PREPARED,
    *,
    output: OutputOption,
    against: Annotated[
        list[str],
        typer.Option(
            metavar="FILE",
            help="Evaluation set whose texts must not be in the pairs (repeatable).",
            show_default=False,
            rich_help_panel=INPUT,
        ),
    ],
    n: Annotated[
        int, typer.Option("--n", metavar="N", help="Words of a run that must not be shared.", rich_help_panel=CHECKS)
    ] = 13,
    overwrite: OverwriteOption = False,
    workers: WorkersOption = 0,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Remove pairs that share text with an evaluation set.

    left_out.jsonl names the field and the line of the evaluation set of each pair that is left out.

      dpo-data decontaminate prepared/ --against truthfulqa.csv -o clean/
    """
    from dpo_data.shaping.decontaminate import decontaminate as decontaminate_

    def run(show_progress: Progress) -> "Manifest":
        return decontaminate_(
            path,
            output=output,
            against=against,
            n=n,
            overwrite=overwrite,
            workers=workers or cores(),
            progress=show_progress,
        )

    _run("Decontaminating", run, output, json=json, quiet=quiet)


def redact(
    path: PreparedArgument = PREPARED,
    *,
    output: OutputOption,
    on_leak: OnLeakOption = "drop-train",
    overwrite: OverwriteOption = False,
    workers: WorkersOption = 0,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Replace personal data with placeholders.

    E-mail addresses, phone and card numbers and API keys become [EMAIL], [PHONE], [CARD] and [KEY], also in kept
    metadata.

      dpo-data redact prepared/ -o redacted/
    """
    from dpo_data.shaping.redact import redact as redact_

    def run(show_progress: Progress) -> "Manifest":
        return redact_(
            path,
            output=output,
            on_leak=on_leak,
            overwrite=overwrite,
            workers=workers or cores(),
            progress=show_progress,
        )

    _run("Redacting", run, output, json=json, quiet=quiet)


def apply(
    decisions: Annotated[
        Path, typer.Argument(metavar="DECISIONS", help="A file with one decision a line.", show_default=False)
    ],
    path: PreparedArgument = PREPARED,
    *,
    output: OutputOption,
    on_leak: OnLeakOption = "drop-train",
    overwrite: OverwriteOption = False,
    workers: WorkersOption = 0,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Apply decisions about single pairs.

    Each line is a JSON object with the id of a pair and an action: drop, flip, edit (with field and text), tag (with
    text) or keep.

      dpo-data apply decisions.jsonl prepared/ -o corrected/
    """
    from dpo_data.shaping.apply import apply as apply_

    def run(show_progress: Progress) -> "Manifest":
        return apply_(
            decisions,
            path,
            output=output,
            on_leak=on_leak,
            overwrite=overwrite,
            workers=workers or cores(),
            progress=show_progress,
        )

    _run("Applying", run, output, json=json, quiet=quiet)


def build(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A YAML file.", show_default=False)],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what is to do.")] = False,
    workers: WorkersOption = 0,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Build a dataset from a recipe.

    The recipe names sources, steps and what to tokenize; what did not change since the last run is not done again.

      dpo-data build recipe.yaml --dry-run
      dpo-data build recipe.yaml
    """
    from dpo_data.reports.terminal.shaping import built, built_folder
    from dpo_data.reports.terminal.tables import echo
    from dpo_data.shaping.build import BuiltFolder
    from dpo_data.shaping.build import build as build_

    def show_folder(folder: BuiltFolder) -> None:
        if not quiet:
            typer.echo(built_folder(folder), err=True)

    with progress("Building", quiet=quiet) as show_progress:
        result = build_(
            recipe, dry_run=dry_run, workers=workers or cores(), progress=show_progress, on_folder=show_folder
        )
    if json:
        print_json(result.model_dump(mode="json"))
    elif not quiet:
        echo(built(result))


def _run(task: str, run: "Callable[[Progress], Manifest]", output: Path, *, json: bool, quiet: bool) -> None:
    """Run a step and print its balance."""
    with progress(task, quiet=quiet) as show_progress:
        manifest = run(show_progress)
    if json:
        print_json({"path": str(output), "manifest": manifest.model_dump(mode="json")})
    elif not quiet:
        from dpo_data.reports.terminal.shaping import shaped
        from dpo_data.reports.terminal.tables import echo

        echo(shaped(manifest, output))
