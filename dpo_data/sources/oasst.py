"""OpenAssistant/oasst1 and oasst2, flat message files: trees of messages, replies ranked among siblings.

Rank 0 is the best. A prompt is the path from the root to the prompter's message, its replies are the responses. Left
out and counted: messages of prompters, replies that are deleted or without a rank, and replies that failed review.
The rows of one tree must stand together, as they do in the published files; a message whose parent is not among them
goes to quarantine. The nested files (.trees.jsonl) hold whole trees and are not read: the flat ones have the same
messages.
Columns as in the cards.
"""

from collections.abc import Mapping, Sequence

from dpo_data.errors import RowError
from dpo_data.records import Message, Response, ScoredResponses
from dpo_data.sources.fields import Row, optional_number, required_choice, required_text
from dpo_data.sources.responses import assistant
from dpo_data.sources.source import AdaptedGroup, Source, SourceOptions

ROLES = {"prompter": "user", "assistant": "assistant"}


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """One reply, without the prompt that only its tree knows.

    Raises: RowError: missing_field, wrong_type.
    """
    rank = optional_number(row, "rank")
    note = None
    if row.get("deleted") is True:
        note = "deleted"
    elif row.get("review_result") is False:
        note = "failed_review"
    elif rank is None:
        note = "unranked"
    response = Response(content=[assistant(required_text(row, "text"))], rank=None if note else rank, note=note)
    return ScoredResponses(prompt=[], responses=[response])


def adapt_group(rows: Sequence[Row], options: SourceOptions) -> AdaptedGroup:
    """The rows of one tree: every prompter's message with the replies to it."""
    group = AdaptedGroup()
    known: dict[str, Row] = {}
    replies: dict[str, list[Response]] = {}
    for place, row in enumerate(rows):
        try:
            message_id = required_text(row, "message_id")
            role = required_choice(row, "role", tuple(ROLES))
            required_text(row, "text")
            known[message_id] = row
            if role == "prompter":
                group.left_out[place] = "prompt"
                continue
            response = adapt(row, options).responses[0].model_copy(update={"row": place})
            replies.setdefault(required_text(row, "parent_id"), []).append(response)
        except RowError as error:
            group.errors[place] = error
    for parent, responses in replies.items():
        try:
            prompt = path_to(parent, known)
        except RowError as error:
            group.errors.update({response.row: error for response in responses})
        else:
            group.responses.append(ScoredResponses(prompt=prompt, responses=responses))
    return group


def path_to(message_id: str, known: Mapping[str, Row]) -> list[Message]:
    """The messages from the root of a tree to one of its messages.

    Raises: RowError: no_parent.
    """
    path: list[Message] = []
    current: str | None = message_id
    while current is not None:
        if current not in known or len(path) > len(known):
            raise RowError("no_parent", "parent_id", f"message {current} is not among the rows of its tree.")
        row = known[current]
        path.append(Message(role=ROLES[row["role"]], content=row["text"]))
        current = row.get("parent_id")
    return path[::-1]


SOURCE = Source(
    name="oasst",
    license="apache-2.0",
    homepage="https://huggingface.co/datasets/OpenAssistant/oasst1",
    direction="the lower rank among the replies to one message; rank 0 is the best",
    columns=("message_id", "parent_id", "text", "role", "rank", "message_tree_id"),
    adapt=adapt,
    optional=("deleted", "review_result"),
    has_scores=True,
    hub="OpenAssistant/oasst1",
    hub_files=("data/train-*.parquet", "data/validation-*.parquet"),
    group_key=lambda row: row.get("message_tree_id"),
    adapt_group=adapt_group,
)
