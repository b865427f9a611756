"""Tables with a prompt, two answers and a label that says which answer is better.

The label, or the name of its column and the two answers, must say which answer it prefers: see `labels`. A label
whose meaning is not known is never guessed: --label-map VALUE=a|b|tie|skip gives it. Ties are left out as ties; rows
whose answers are both bad, rows without a label and rows without a majority of judges are left out under their names.
Prompt and answers of several turns are lists of strings of the same length, as JSON in the cells of a CSV file; if the
answers before the last ones differ, the row is left out. Exports of Label Studio and Argilla are read too: the majority
of the annotators counts, and for rankings the mean of their ranks.

The numbers of these tables are known: lmarena-ai/arena-human-preference-55k and Kaggle's LMSYS competition (one-hot
winner columns, as in the competition's train.csv); alpaca_eval and alpaca_farm (preference 1 or 2, 0 or 1.5 for a tie,
or a number between 1 and 2; src/alpaca_eval); LLMBar (label 1 or 2); PandaLM (0 for a tie, 1 or 2 by three annotators,
of whom the majority counts); auto-j (label 0 or 1, 2 for a tie); JudgeBench ("A>B"); FineGrainedRLHF (four predictions
and six comparisons, 0 for a tie, 1 or 2; the prompt is the question with its passages, as run_pref_rm.py builds it).
Columns and directions as in the READMEs and the data files of these projects.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from dpo_data.errors import RowError, argument
from dpo_data.records import Content, Message, Response, ScoredResponses
from dpo_data.sources.annotations import (
    argilla_fields,
    argilla_questions,
    label_annotations,
    mean_ranks,
    rankings,
    submitted,
)
from dpo_data.sources.battles import battle
from dpo_data.sources.fields import FieldMap, Row, lookup, missing, required_list, required_text
from dpo_data.sources.labels import Verdict, ending, label_text, majority, mapped_verdict, named_verdict, unknown_label
from dpo_data.sources.messages import messages
from dpo_data.sources.responses import assistant, require_response, user, user_prompt
from dpo_data.sources.source import RowContents, Source, SourceOptions

FIELDS = ("prompt", "a", "b", "label")


@dataclass(frozen=True)
class Layout:
    """Columns of the prompt, the answers and the label of a table.

    Attributes:
        prompt, a, b: columns, or paths.
        labels: columns of the label: one; one for each annotator; or one for each verdict if `one_hot`.
        meaning: returns the verdict of a label, or None if it is not known; None: it must be given with --label-map.
        input: column that is appended to the prompt.
        one_hot: the labels are 1 or 0, for A, B and a tie.
    """

    prompt: str
    a: str
    b: str
    labels: tuple[str, ...]
    meaning: Callable[[str], Verdict | None] | None = None
    input: str = ""
    one_hot: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a row must have."""
        return (self.prompt, self.a, self.b, *self.labels)


def alpaca_preference(label: str) -> Verdict | None:
    """Return the verdict of a preference of alpaca_eval: 1, 2 or between them; 0 and 1.5 are ties.

    >>> alpaca_preference("1"), alpaca_preference("1.75"), alpaca_preference("0"), alpaca_preference("3")
    (-1.0, 0.5, 0.0, None)
    """
    try:
        preference = float(label)
    except ValueError:
        return None
    if preference == 0:
        return 0.0
    return 2 * preference - 3 if 1 <= preference <= 2 else None


ONE_OR_TWO = {"1": -1.0, "2": 1.0}
ZERO_IS_A_TIE = ONE_OR_TWO | {"0": 0.0, "tie": 0.0, "Tie": 0.0}
#: Tables whose labels are known from their projects.
KNOWN = (
    Layout("prompt", "response_a", "response_b", ("winner_model_a", "winner_model_b", "winner_tie"), one_hot=True),
    Layout("instruction", "output_1", "output_2", ("preference",), alpaca_preference, input="input"),
    Layout("input", "output_1", "output_2", ("label",), ONE_OR_TWO.get),
    Layout(
        *("instruction", "response1", "response2", ("annotator1", "annotator2", "annotator3")),
        meaning=ZERO_IS_A_TIE.get,
        input="input",
    ),
    Layout(
        *("instruction", "response1", "response2", ("label_0", "label_1", "label_2")),
        meaning=ZERO_IS_A_TIE.get,
        input="input",
    ),
    Layout(
        *("inputs.instruction", "inputs.response1", "inputs.response2", ("outputs.evaluation_result",)),
        meaning=ZERO_IS_A_TIE.get,
        input="inputs.input",
    ),
    Layout("prompt", "response 1", "response 2", ("label",), {"0": -1.0, "1": 1.0, "2": 0.0}.get),
)
#: Names of columns in other tables, the likeliest first.
PROMPTS = ("prompt", "question", "instruction", "query", "input", "context", "post", "article")
#: A column of this name has the preferred answer if it names one.
PREFERENCES = ("winner", "preferred", "preference", "better", "best", "human_preference", "preferred_response")
LABELS = (
    *PREFERENCES,
    *("label", "choice", "chosen", "selected", "verdict", "vote", "judgment", "judgement", "result", "answer"),
    *("comparison", "pairwise", "pw", "annotation", "rating"),
)
#: Columns that end as two answers do, but hold something about them.
ABOUT = (
    *("model", "score", "rating", "rank", "reward", "winner", "id", "generator", "name", "label", "tokens", "length"),
    *("prompt", "question", "instruction", "quotes", "context", "title", "source", "url", "user", "annotator", "time"),
)
#: Endings of two answers, and of a third one, which must not be there.
ENDINGS = (("a", "b", "c"), ("1", "2", "3"), ("0", "1", "2"), ("left", "right", ""), ("first", "second", "third"))


def answer_columns(row: Row) -> tuple[str, str] | None:
    """Return the two columns that differ only in their endings and hold texts or dialogues, or None.

    >>> answer_columns({"prompt": "Q", "model_a": "m1", "model_b": "m2", "answer_a": "x", "answer_b": "y"})
    ('answer_a', 'answer_b')
    """
    names = {name.lower(): name for name in row}
    for first, second, third in ENDINGS:
        for lower, a in names.items():
            stem = lower.removesuffix(first)
            b = names.get(stem + second)
            word = stem.rstrip(" _-.").replace(" ", "_").rpartition("_")[2]
            if ending(a) != first or b is None or word in ABOUT or (third and stem + third in names):
                continue
            if all(isinstance(row[column], str | list | None) for column in (a, b)):
                return a, b
    return None


def prompt_column(row: Row) -> str | None:
    """Return the column with the likeliest name of a prompt, or None."""
    names = {name.lower(): name for name in row}
    return next((names[name] for name in PROMPTS if name in names), None)


def label_column(row: Row) -> str | None:
    """Return the column with the likeliest name of a label, or None."""
    names = {name.lower(): name for name in row}
    return next((names[name] for name in LABELS if name in names), None)


def layout_of(row: Row, mapping: FieldMap) -> Layout | None:
    """Return the layout of a row: a known one, or by the names of its columns and the mapping; None if it has none."""
    if not mapping:
        for layout in KNOWN:
            if all(column in row or column.split(".")[0] in row for column in layout.columns):
                return layout
    # Label Studio and Argilla keep the raw columns in an object of their own.
    inner = next((name for name in ("data", "fields") if isinstance(row.get(name), Mapping)), "")
    columns: Row = row[inner] if inner else row
    path = f"{inner}." if inner else ""
    guesses = dict(zip(("a", "b"), answer_columns(columns) or (None, None), strict=True))
    guesses["prompt"] = prompt_column(columns)
    fields = {name: path + guess for name, guess in guesses.items() if guess is not None} | dict(mapping)
    label = mapping.get("label") or _annotations_column(row, inner) or label_column(row)
    if label is None or not {"prompt", "a", "b"} <= set(fields):
        return None
    names = [fields[side].rpartition(".")[2] for side in ("a", "b")]

    def meaning(text: str) -> Verdict | None:
        says_which = inner == "data" or label.removesuffix(".responses").rpartition(".")[2].lower() in PREFERENCES
        return named_verdict(text, names[0], names[1]) if says_which or ">" in text else None

    return Layout(fields["prompt"], fields["a"], fields["b"], (label,), meaning)


def _annotations_column(row: Row, inner: str) -> str | None:
    """Return the column of the annotators' labels in an export, or None."""
    if inner == "data":
        return "annotations" if "annotations" in row else None
    question = next(iter(argilla_questions(row)), None)
    if question is None or inner == "fields":
        return question and f"responses.{question}"
    return question if question in row else f"{question}.responses"


def adapt(row: Row, options: SourceOptions) -> ScoredResponses | list[ScoredResponses]:
    """Return the two answers, or the pairs of several ones, with what the label says.

    Raises: RowError: missing_field, wrong_type, unknown_label, no_response, prompts_diverge.
    """
    if not options.mapping:
        if "conversation_a" in row and "conversation_b" in row:
            return battle(row)
        if "prediction 1" in row and "preference" in row:
            return _comparisons(row, options)
        if (ranked := _ranking(row)) is not None:
            return ranked
    layout = layout_of(row, options.mapping)
    if layout is None:
        names = ", ".join(row) or "no columns"
        message = f"a row needs a prompt, two answers and a label; this one has {names}."
        raise RowError("missing_field", options.mapping.get("label", "label"), message)
    verdict = _one_hot(row, layout) if layout.one_hot else _verdict(row, layout, options.labels)
    columns = (layout.prompt, layout.a, layout.b)
    values = [lookup(row, column) for column in columns]
    for column, value in zip(columns, values, strict=True):
        if value is None:
            raise missing(row, column)
    if (turns := _turns(values)) is None:
        return judged(*_contents(row, layout, values), verdict)
    for column, texts in zip(columns, turns, strict=True):
        if None in texts:
            raise RowError("missing_field", column, f"turn {texts.index(None) + 1} of {column} is null.")
    questions, a, b = turns
    return judged(_prompt(questions, a), a[-1], b[-1], verdict if a[:-1] == b[:-1] else "histories_differ")


def judged(prompt: Content, a: Content, b: Content, verdict: Verdict) -> ScoredResponses:
    """Return two answers with scores that differ by the strength of a verdict, or left out for its reason.

    All three are texts or all three are messages.
    """
    if not all(isinstance(content, str) for content in (prompt, a, b)):
        prompt = [user(prompt)] if isinstance(prompt, str) else prompt
        a, b = ([assistant(content)] if isinstance(content, str) else content for content in (a, b))
    if isinstance(verdict, str):
        responses = [Response(content=content, reason=verdict) for content in (a, b)]
    else:
        responses = [Response(content=a, score=max(-verdict, 0.0)), Response(content=b, score=max(verdict, 0.0))]
    return ScoredResponses(prompt=prompt, responses=responses)


def _verdict(row: Row, layout: Layout, mapping: Mapping[str, str]) -> Verdict:
    """Return the verdict of the label, or of most labels if there are several.

    Raises: RowError: wrong_type, unknown_label.
    """
    verdicts = []
    for column in layout.labels:
        for annotation in label_annotations(submitted(row, column)):
            label = label_text(annotation.label, column)
            if label is None:
                continue
            verdict = mapped_verdict(label, mapping) if mapping else annotation.verdict
            if verdict is None and not mapping and layout.meaning is not None:
                verdict = layout.meaning(label)
            if verdict is None:
                raise unknown_label(label, column)
            verdicts.append(verdict)
    return majority(verdicts) if verdicts else "no_label"


def _one_hot(row: Row, layout: Layout) -> Verdict:
    values = []
    for column in layout.labels:
        value = (label_text(row.get(column), column) or "0").lower()
        if value not in ("0", "1", "true", "false"):
            raise RowError("wrong_type", column, f"{column} is {value!r}, not 1 or 0.")
        values.append(value in ("1", "true"))
    if sum(values) > 1:
        raise RowError("wrong_type", layout.labels[0], f"more than one of {', '.join(layout.labels)} is 1.")
    return (-1.0, 1.0, 0.0)[values.index(True)] if any(values) else "no_label"


def _contents(row: Row, layout: Layout, values: list[Any]) -> tuple[Content, Content, Content]:
    """Return the prompt, after a system text if there is one, and the two answers: strings or messages.

    Raises: RowError: wrong_type, no_response, prompts_diverge.
    """
    prompt, a, b = values
    system = row.get("system")
    extra = lookup(row, layout.input) if layout.input else None
    content: Content = messages(prompt, layout.prompt) if isinstance(prompt, list) else prompt
    if not isinstance(content, str | list):
        raise RowError("wrong_type", layout.prompt, f"{layout.prompt} is {type(prompt).__name__}, not a string.")
    if isinstance(content, str) and isinstance(extra, str) and extra:
        content = f"{content}\n{extra}"
    if isinstance(system, str) and system:
        content = user_prompt(content, system) if isinstance(content, str) else [_system(system), *content]
    return content, _answer(a, layout.a), _answer(b, layout.b)


def _system(text: str) -> Message:
    return Message(role="system", content=text)


def _answer(value: Any, path: str) -> Content:
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise RowError("wrong_type", path, f"{path} is {type(value).__name__}, not a string.")
    content = messages(value, path)
    require_response(path, content)
    return content


def _turns(values: list[Any]) -> list[list[Any]] | None:
    """Return the turns of prompt, A and B if all three are lists of strings of one length, or None."""
    turns = []
    for value in values:
        if isinstance(value, str) and value.startswith("[") and value.rstrip().endswith("]"):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                return None
        if not isinstance(value, list) or not all(isinstance(turn, str | None) for turn in value):
            return None
        turns.append(value)
    return turns if turns[0] and len(turns[0]) == len(turns[1]) == len(turns[2]) else None


def _prompt(questions: list[str], answers: list[str]) -> Content:
    """Return the questions with the answers before the last one."""
    if len(questions) == 1:
        return questions[0]
    turns = [message for q, a in zip(questions, answers, strict=True) for message in (user(q), assistant(a))]
    return turns[:-1]


def _comparisons(row: Row, options: SourceOptions) -> list[ScoredResponses]:
    """Return each pair of FineGrainedRLHF's predictions with what the annotators preferred."""
    columns = [name for name in row if name.startswith("prediction ")]
    pairs = list(combinations(columns, 2))
    preferences = required_list(row, "preference")
    if len(preferences) != len(pairs):
        message = f"preference has {len(preferences)} comparisons, not {len(pairs)} of {len(columns)} predictions."
        raise RowError("wrong_type", "preference", message)
    prompt = _question(row)
    # As a text, the prompt ends with "answer:", and a space follows.
    space = " " if options.form == "text" and row.get("passages") else ""
    answers = {column: space + required_text(row, column) for column in columns}
    scored = []
    for index, ((first, second), preference) in enumerate(zip(pairs, preferences, strict=True)):
        label = label_text(preference, f"preference.{index}")
        verdict = "no_label" if label is None else ZERO_IS_A_TIE.get(label)
        if verdict is None:
            raise unknown_label(label or "", f"preference.{index}")
        scored.append(judged(prompt, answers[first], answers[second], verdict))
    return scored


def _question(row: Row) -> str:
    question = required_text(row, "question")
    if not row.get("passages"):
        return question
    words = [f"question: {question}", "context:"]
    for index, passage in enumerate(required_list(row, "passages")):
        if not isinstance(passage, list) or not all(isinstance(text, str) for text in passage):
            raise RowError("wrong_type", f"passages.{index}", f"passages.{index} is not a list of texts.")
        words += [f"wikipage: {' '.join(passage[:1])}", f"text: {' '.join(passage[1:])}"]
    return " ".join(" ".join([*words, "answer:"]).split())


def _ranking(row: Row) -> ScoredResponses | None:
    """Return the fields that Argilla's annotators ranked, with their mean ranks; None if the row has no ranking."""
    fields = argilla_fields(row)
    prompt = prompt_column(fields)
    for answers in argilla_questions(row).values() if prompt is not None else ():
        ranks = mean_ranks(list(rankings(answers)))
        if ranks and all(isinstance(fields.get(name), str) for name in ranks):
            responses = [Response(content=fields[name], rank=rank) for name, rank in ranks.items()]
            return ScoredResponses(prompt=required_text(fields, prompt or ""), responses=responses)
    return None


def looks_like(row: Row) -> bool:
    """Return True if the row has a prompt, two answers, and a label whose meaning is known, or none yet."""
    if {"winner", "conversation_a", "conversation_b"} <= set(row) or {"prediction 1", "preference"} <= set(row):
        return True
    try:
        adapt(row, SourceOptions())
    except RowError as error:
        return error.code not in ("missing_field", "unknown_label", "wrong_type") and layout_of(row, {}) is not None
    return True


def check_file(row: Row, options: SourceOptions) -> str | None:
    """Return the reason to refuse rows without two answers, or with labels whose meaning is not known."""
    try:
        adapt(row, options)
    except RowError as error:
        if error.code == "unknown_label" and not options.labels and layout_of(row, options.mapping) not in KNOWN:
            column = error.field
            return (
                f"{error.message}\n  Say which answer each value of {column} prefers: "
                f"{argument('label_map', 'VALUE=a|b|tie|skip')}. To see all values: dpo-data sniff FILE"
            )
        if layout_of(row, options.mapping) is None and error.code == "missing_field" and not options.mapping:
            return (
                f"{error.message}\n  Name their columns: {argument('mapping', 'prompt=COLUMN')}, and the same for "
                "a, b and label."
            )
    return None


def contents(row: Row, mapping: FieldMap) -> RowContents | None:
    """Return the prompt and the answers of a row, or None if it lacks one."""
    try:
        adapted = adapt(row, SourceOptions(mapping=mapping))
    except RowError:
        layout = layout_of(row, mapping)
        values = [lookup(row, column) for column in (layout.prompt, layout.a, layout.b)] if layout else [None]
        return None if any(value is None for value in values) else RowContents(values[0], values[1:])
    scored = adapted[0] if isinstance(adapted, list) else adapted
    return RowContents(scored.prompt, [response.content for response in scored.responses])


def reads(row: Row, mapping: FieldMap) -> tuple[str, ...]:
    """Return the columns of a row that its pair depends on."""
    layout = layout_of(row, mapping)
    return (*layout.columns, layout.input, "system") if layout else ()


SOURCE = Source(
    name="two-answers",
    license="unknown",
    homepage="",
    direction="the answer that the label names",
    columns=(),
    adapt=adapt,
    optional=(
        *("winner", "conversation_a", "conversation_b", "data", "annotations", "fields", "responses"),
        *("question", "passages", "preference", *(f"prediction {n}" for n in range(1, 5))),
    ),
    reads=reads,
    contents=contents,
    looks_like=looks_like,
    check_file=check_file,
    has_scores=True,
    has_tools=True,
    takes_labels=True,
    mapped_fields=FIELDS,
    example_options="--map a=answer_1 --map b=answer_2 --map label=best --label-map 1=a --label-map 2=b",
    tested_on="5,475 real rows (alpaca_eval 1,610, auto-j 1,392, PandaLM 999, JudgeBench 620, FineGrainedRLHF 500, "
    "LLMBar 354) and golden rows",
)
