"""nvidia/HelpSteer2: one response a row, rated 0 to 4 in five aspects; the two rows of a prompt follow each other.

The score is helpfulness, the one aspect that says which response is better on the whole; the others stay in the raw
file. Both rows of a prompt must stand together, as they do in the published files. A prompt of several turns marks them
with "<extra_id_1>User" and "<extra_id_1>Assistant" on lines of their own; that marking was only partly verified, and a
prompt that does not read so is kept as one user message.
"""

import re

from dpo_data.records import Message, Response, ScoredResponses
from dpo_data.sources.fields import Row, required_number, required_text
from dpo_data.sources.responses import assistant, merge_rows, user
from dpo_data.sources.source import Source, SourceOptions

TURN = re.compile(r"\n<extra_id_1>(User|Assistant)\n")


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """A prompt with one rated response.

    Raises: RowError: missing_field, wrong_type.
    """
    response = Response(content=[assistant(required_text(row, "response"))], score=required_number(row, "helpfulness"))
    return ScoredResponses(prompt=parse_prompt(required_text(row, "prompt")), responses=[response])


def parse_prompt(text: str) -> list[Message]:
    r"""The turns of a prompt.

    >>> [m.content for m in parse_prompt("Hi\n<extra_id_1>Assistant\nHello\n<extra_id_1>User\nWho?")]
    ['Hi', 'Hello', 'Who?']
    """
    first, *rest = TURN.split(text)
    speakers = {"User": user, "Assistant": assistant}
    turns = [user(first), *(speakers[who](said) for who, said in zip(rest[::2], rest[1::2], strict=True))]
    return turns if turns[-1].role == "user" else [user(text)]


SOURCE = Source(
    name="helpsteer2",
    license="cc-by-4.0",
    homepage="https://huggingface.co/datasets/nvidia/HelpSteer2",
    direction="the response with the higher helpfulness",
    columns=("prompt", "response", "helpfulness"),
    adapt=adapt,
    has_scores=True,
    hub="nvidia/HelpSteer2",
    hub_files=("train.jsonl.gz", "validation.jsonl.gz"),
    adapt_group=lambda rows, options: merge_rows(rows, options, adapt),
    group_key=lambda row: row.get("prompt"),
)
