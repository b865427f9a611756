"""Text of an evaluation set inside a pair: overlap of word 13-grams, with the evidence."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.checks.text import ngrams, words
from dpo_data.errors import InputError, RowError, UsageError, reading
from dpo_data.readers.inputs import find_inputs
from dpo_data.records import FIELDS, PairTexts, PreferencePair

#: Words of a run that two texts hardly share by chance. Source: Brown et al. 2020, arXiv:2005.14165, appendix C.
RUN = 13
#: Words of an evaluation text from which it counts at all; one shorter than a run must stand in the pair as a whole.
MIN_WORDS = 8

#: Each run of an evaluation set -> where it first stands there, "file:row".
Runs = dict[str, str]


def find(pair: PreferencePair, texts: PairTexts, runs: Runs, lengths: Sequence[int] = (RUN,)) -> Finding | None:
    r"""Which field shares a run of words with an evaluation set, with the run and its place there.

    >>> from dpo_data.records import TextPair
    >>> runs = {"what has keys but can not open even one door": "riddles.txt:1"}
    >>> ask = "What has keys, but can NOT open even one door?"
    >>> pair = TextPair(prompt=ask, chosen="A piano.", rejected="A map.")
    >>> find(pair, pair.texts, runs, lengths=[10]).message
    'prompt shares "what has keys but can not open even one door" with riddles.txt:1.'
    """
    for field, text in zip(FIELDS, texts, strict=True):
        of = words(text)
        for length in lengths:
            if len(of) >= length:
                for run in ngrams(of, length):
                    if run in runs:
                        return Finding(field, f'{field} shares "{run}" with {runs[run]}.')
    return None


CONTAMINATION = RowCheck(
    code="contamination",
    severity="warning",
    summary="thirteen words in a row of an evaluation set",
    hint="The evaluation would measure memory. Look at the shared words: a common phrase or a quotation is no harm.",
    find=partial(find, runs={}),
)


def contamination(files: Iterable[str | Path]) -> RowCheck:
    """The check against evaluation sets: plain text files, a text a line, or any format that convert reads.

    Of a record every string counts, however deep; the sets are held in memory, the data set is not.

    Raises:
        InputError: a file that cannot be read.
        UsageError: a set without a text that is long enough.
    """
    runs: Runs = {}
    for file in map(str, files):
        before = len(runs)
        for origin, text in _texts(file):
            of = words(text)
            if len(of) >= MIN_WORDS:
                for run in ngrams(of, RUN):
                    runs.setdefault(run, origin)
        if len(runs) == before:
            raise UsageError(f"--against {file}: has no new text of {MIN_WORDS} words or more to look for.")
    lengths = sorted({run.count(" ") + 1 for run in runs})
    return replace(CONTAMINATION, find=partial(find, runs=runs, lengths=lengths))


def _texts(file: str) -> Iterator[tuple[str, str]]:
    if Path(file).suffix.lower() in (".txt", ".md"):
        with reading(file), open(file, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                yield f"{Path(file).name}:{number}", line
        return
    for input_ in find_inputs([file]):
        for chunk in input_.chunks():
            for row in chunk.rows():
                origin = f"{input_.label}:{row.line}"
                if isinstance(row.value, RowError):
                    raise InputError(f"{origin}: {row.value.message}\n  An evaluation set must be readable to its end.")
                for text in _strings(row.value):
                    yield origin, text


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)
