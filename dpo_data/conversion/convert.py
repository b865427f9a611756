"""Convert a raw source to a prepared folder."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Unpack

from dpo_data.checks import DATASET_CHECKS
from dpo_data.checks.judgments import count_judgments, judgment_store
from dpo_data.checks.row_keys import RowKeyStore, run_dataset_checks
from dpo_data.conversion.card import dataset_card
from dpo_data.conversion.chunks import convert_chunks
from dpo_data.conversion.first_rows import decide, of_prepared
from dpo_data.conversion.plan import ConversionPlan, ConvertArguments, make_plan
from dpo_data.conversion.raw_inputs import RawInputs
from dpo_data.conversion.tally import Tally
from dpo_data.errors import InputError, RowError, argument
from dpo_data.options import FIRST_ROWS, Form, Progress, silent
from dpo_data.prepared.building import building
from dpo_data.prepared.manifest import Manifest
from dpo_data.prepared.quarantine import QuarantinedRow
from dpo_data.prepared.writer import PreparedWriter
from dpo_data.readers.inputs import find_inputs

#: Rows that must all lack the same field, if a file has no more, so that nothing is written.
MIN_ROWS_LACKING = 20


def convert(
    source: str,
    inputs: str | Path | Sequence[str | Path] = (),
    *,
    output: str | Path,
    overwrite: bool = False,
    workers: int = 1,
    progress: Progress = silent,
    **options: Unpack[ConvertArguments],
) -> Manifest:
    """Convert a raw source to a prepared folder; every raw row is either kept or quarantined with its reason.

    Args:
        source: a name in `dpo_data.sources.SOURCES`.
        inputs: a file, folder, glob, URL or "-", or several; if empty, the source's files on the Hugging Face Hub.
        output: the prepared folder; new, empty, unfinished, rejected, or finished and to be replaced.
        overwrite: replace a finished folder.
        workers: number of processes; more than 1 needs the usual `if __name__ == "__main__"` in a script.
        progress: called with the share of the input that is read, and the number of rows.
        options: what is read and what becomes of it.

    Keyword Args:
        sample (bool): read the source's embedded sample instead of inputs. Default: False.
        form (str): "text"; "conversational" for lists of {role, content}; or "auto". Auto is text for most sources. For
            those that read any table, the first 1,000 rows of the first file decide: strings that are turns of a
            dialogue, rather than parts of one text, become messages. Default: "auto".
        mapping (dict): field of the pair -> column of the table, dotted for nested ones; for sources that take one.
        label_map (dict): value of a label -> "a", "b", "tie" or "skip", for sources whose labels are not known.
        where (str): a condition that a raw row must meet to be in a pair, as in "score_ratio >= 2"; see
            `dpo_data.expressions`.
        axis (str): the judgment that counts, "better" or "safer"; for sources that have several.
        revision (str): branch, tag or commit of the files on the Hub. Default: the newest.
        split (str): split of all rows; of files on the Hub, the only one that is read. Default: inferred from paths.
        train_on_eval (bool): let rows of an evaluation set go to train; without it they go to test. Default: False.
        input_format (str): format of all inputs. Default: inferred from their names and contents.
        encoding (str): of text files, as in "cp1252" or "utf-16". Default: UTF-8, or what a byte order mark says.
        delimiter (str): between the fields of CSV and TSV files. Default: a comma (or ; | tab, if the header of a CSV
            file has no comma); a tab in TSV files.
        max_row_bytes (int): refuse text files with a longer row, as damaged ones have. Default: 100,000,000.
        test_fraction (float): share of prompts that go to test, chosen by the hash of the prompt; overrides the splits
            of paths. Default: 0.
        limit (int): stop after this many rows. Default: read all.
        pairing (str): the pairs to make of scored or ranked responses; like the next four, see
            `dpo_data.pairing.PairingPolicy`. Default: "best-worst".
        min_margin (float): minimum difference of scores or ranks. Default: 0.
        tie (str): "drop" pairs with equal scores, or "keep" them. Default: "drop".
        max_pairs_per_prompt (int): maximum pairs per prompt, preferring the largest margins. Default: all.
        seed (int): for pairing="random". Default: 0.
        on_error (str): "quarantine" invalid rows, or "stop" at the first one. Default: "quarantine".
        max_invalid (float): reject the dataset if more than this share of rows is invalid. Default: 0.05.
        forbid (list): codes of row checks whose findings quarantine the row.
        allow (list): codes of row checks whose findings only warn.
        keep (list): metadata columns to keep with the pairs: NAME or NAME=COLUMN, each also with :number or :bool. The
            others are text, and values other than strings JSON; a value that does not fit becomes null.
        redact (bool): replace personal data with placeholders, in pairs and in quarantine; see
            `dpo_data.checks.personal_data`. Default: False.
        name (str): name of the dataset, for its card. Default: the source's.
        description (str): text for its card. Default: none.
        license (str): license of the dataset, as the Hub names licenses. Default: the source's.

    Returns: the manifest; its `status` is "rejected" if more than `max_invalid` of the rows are in quarantine.

    Raises:
        UsageError: options that contradict each other or the source; an output that cannot be used.
        InputError: an input that cannot be read, or is of another source.
        RowError: with on_error="stop", the first invalid row.
    """
    plan = make_plan(source, inputs, **options)
    return run(plan, output=output, overwrite=overwrite, workers=workers, progress=progress)


def run(
    plan: ConversionPlan,
    *,
    output: str | Path,
    overwrite: bool = False,
    workers: int = 1,
    progress: Progress = silent,
    on_form: Callable[[Form], None] = lambda form: None,
) -> Manifest:
    """Convert what a plan says to a prepared folder.

    Args, result and errors are those of `convert`, and `on_form` is called once the form of the pairs is known.
    """
    skipped: list[str] = []
    raw = RawInputs(
        find_inputs(
            plan.inputs,
            split=plan.options.split,
            input_format=plan.input_format,
            encoding=plan.encoding,
            delimiter=plan.delimiter,
            max_row_bytes=plan.max_row_bytes,
            unreachable_hint=plan.unreachable_hint,
            output=output,
            on_skip=skipped.append,
        )
    )
    plan = of_prepared(plan, raw.files)
    tally = Tally()
    with building(Path(output), "prepared", overwrite=overwrite) as scratch, ExitStack() as stack:
        store = stack.enter_context(closing(RowKeyStore(scratch / "keys")))
        judged: RowKeyStore | None = None
        if plan.needs_first_rows:
            plan = decide(plan, raw.first_rows(FIRST_ROWS))
        on_form(plan.form)
        with closing(PreparedWriter(scratch, plan.form, plan.schema)) as writer:
            for chunk in convert_chunks(raw, plan.job, limit=plan.options.limit, workers=workers, progress=progress):
                if chunk.quarantined and plan.on_error == "stop":
                    raise _first_invalid(chunk.quarantined[0])
                tally.add(chunk)
                tally.require_field(FIRST_ROWS)
                for split, batch in chunk.batches.items():
                    chunk.keys[split]["index"] += writer.add(split, batch)
                    store.add(chunk.keys[split])
                if chunk.judgments is not None:
                    judged = judged or stack.enter_context(closing(judgment_store(scratch / "judgments")))
                    judged.add(chunk.judgments)
                writer.quarantine(chunk.split, chunk.quarantined)
            if not tally.rows_read:
                raise InputError(f"{', '.join(file.label for file in raw.files)}: no rows in it.")
            if tally.lacking == tally.rows_read:
                tally.require_field(MIN_ROWS_LACKING)
            tally.warned.merge(run_dataset_checks(store, DATASET_CHECKS, writer.finish_splits()))
            tally.warned.merge(tally.marks.findings())
            store.remove()
            if judged is not None:
                tally.judgments = count_judgments(judged.buckets())
                judged.remove()
            return writer.finish(tally.header(plan, raw.files, skipped), dataset_card, left_out=tally.left_out_by_split)


def _first_invalid(row: QuarantinedRow) -> RowError:
    hint = f"{row.hint}\n  To quarantine such rows and continue: {argument('on_error', 'quarantine')}."
    return RowError(row.code, row.field, f"{row.file}:{row.line}: {row.message}", hint)
