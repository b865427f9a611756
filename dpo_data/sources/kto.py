"""Unpaired feedback in the layout of KTO: a prompt, one completion, and a label that is true if it was good.

A pair needs a prompt with both labels: a good completion scores 1, a bad one 0. Rows of one prompt may be anywhere in a
file, which is therefore held in memory; rows of different files are not combined. trl-lib's datasets have this layout.
Columns as read by TRL.
"""

import json
from collections.abc import Hashable
from functools import partial

from dpo_data.records import Content, Response, ScoredResponses
from dpo_data.sources.fields import FieldMap, Row, required, required_choice
from dpo_data.sources.messages import messages
from dpo_data.sources.responses import assistant, merge_rows, require_response, user
from dpo_data.sources.source import Grouping, RowContents, Source, SourceOptions


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """Return the prompt with its completion.

    Raises: RowError: missing_field, wrong_type, no_response, prompts_diverge.
    """
    prompt, completion = required(row, "prompt"), required(row, "completion")
    score = 1.0 if required_choice(row, "label", (True, False)) else 0.0
    content: Content
    if isinstance(completion, str):
        content = completion if isinstance(prompt, str) else [assistant(completion)]
    else:
        content = messages(completion, "completion")
        require_response("completion", content)
    return ScoredResponses(prompt=_prompt(prompt, content), responses=[Response(content=content, score=score)])


def _prompt(prompt: object, content: Content) -> Content:
    if not isinstance(prompt, str):
        return messages(prompt, "prompt")
    return prompt if isinstance(content, str) else [user(prompt)]


def group_key(row: Row) -> Hashable:
    """Return the prompt in a hashable form."""
    prompt = row.get("prompt")
    return prompt if isinstance(prompt, str | None) else json.dumps(prompt, sort_keys=True)


def contents(row: Row, mapping: FieldMap) -> RowContents | None:
    """Return the prompt and the completion of a row, or None if it lacks either."""
    prompt, completion = row.get("prompt"), row.get("completion")
    return None if prompt is None or completion is None else RowContents(prompt, [completion])


SOURCE = Source(
    name="kto",
    license="unknown",
    homepage="https://huggingface.co/docs/trl/dataset_formats#unpaired-preference",
    direction="label true over label false of the same prompt",
    columns=("prompt", "completion", "label"),
    adapt=adapt,
    contents=contents,
    has_scores=True,
    has_tools=True,
    grouping=Grouping(group_key, partial(merge_rows, adapt=adapt), buffer_whole_file=True),
)
