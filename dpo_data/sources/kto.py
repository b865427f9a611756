"""Unpaired feedback as KTO takes it: a prompt, one completion, and a label that says whether it was good.

A pair needs one prompt with both labels: a good completion is worth 1, a bad one 0. Rows of one prompt may stand
anywhere in a file, which is therefore held in memory; rows in two files never meet. trl-lib's sets are of this form.
Columns as read by TRL.
"""

import json
from collections.abc import Hashable

from dpo_data.records import Content, Response, ScoredResponses
from dpo_data.sources.fields import Row, messages, required, required_choice
from dpo_data.sources.responses import assistant, merge_rows, require_response, user
from dpo_data.sources.source import Source, SourceOptions


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """A prompt with one completion.

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
    """The prompt, in a form that can be compared."""
    prompt = row.get("prompt")
    return prompt if isinstance(prompt, str | None) else json.dumps(prompt, sort_keys=True)


SOURCE = Source(
    name="kto",
    license="unknown",
    homepage="https://huggingface.co/docs/trl/dataset_formats#unpaired-preference",
    direction="label true over label false of the same prompt",
    columns=("prompt", "completion", "label"),
    adapt=adapt,
    has_scores=True,
    adapt_group=lambda rows, options: merge_rows(rows, options, adapt),
    group_key=group_key,
    scattered=True,
)
