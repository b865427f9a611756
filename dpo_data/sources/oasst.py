"""OpenAssistant/oasst1 and oasst2: trees of messages in which sibling replies are ranked.

Rank 0 is the best. A prompt is the path from the root to a prompter's message; the replies to it are the responses.
Messages of prompters, replies that are deleted or have no rank, and replies that failed review are left out and
counted. The rows of a tree must be adjacent, as in the published files; a message whose parent is not among them is
quarantined. In OpenAssistant's own exports, fields that are null are left out. Nested files (.trees.jsonl) have one
tree in each row: {message_tree_id, prompt: {text, role, replies: [...]}}, or the first message with its replies.
Columns as in the dataset cards, and in Open-Assistant's oasst-data/oasst_data/schemas.py.
"""

from collections.abc import Mapping, Sequence

from dpo_data.errors import RowError
from dpo_data.records import Message, Response, ScoredResponses
from dpo_data.sources.fields import Row, as_object, optional_number, required_choice, required_list, required_text
from dpo_data.sources.responses import assistant
from dpo_data.sources.source import AdaptedGroup, Grouping, Source, SourceOptions

ROLES = {"prompter": "user", "assistant": "assistant"}


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """Return one reply, without its prompt, which takes the whole tree.

    Raises: RowError: missing_field, wrong_type.
    """
    rank = optional_number(row, "rank")
    reason = None
    if row.get("deleted") is True:
        reason = "deleted"
    elif row.get("review_result") is False:
        reason = "failed_review"
    elif rank is None:
        reason = "unranked"
    response = Response(content=[assistant(required_text(row, "text"))], rank=None if reason else rank, reason=reason)
    return ScoredResponses(prompt=[], responses=[response])


def adapt_group(rows: Sequence[Row], options: SourceOptions) -> AdaptedGroup:
    """Return every message of a prompter with the replies to it, for the rows of one tree."""
    group = AdaptedGroup()
    messages: dict[str, Row] = {}
    replies: dict[str, list[Response]] = {}
    for index, row in enumerate(rows):
        try:
            if (root := _root(row)) is not None:
                group.responses += replies_in(root, index)
                continue
            message_id = required_text(row, "message_id")
            role = required_choice(row, "role", tuple(ROLES))
            required_text(row, "text")
            messages[message_id] = row
            if role == "prompter":
                group.left_out[index] = "prompt"
                continue
            response = adapt(row, options).responses[0].model_copy(update={"row": index})
            replies.setdefault(required_text(row, "parent_id"), []).append(response)
        except RowError as error:
            group.errors[index] = error
    for parent, responses in replies.items():
        try:
            prompt = path_to(parent, messages)
        except RowError as error:
            group.errors.update({response.row: error for response in responses})
        else:
            group.responses.append(ScoredResponses(prompt=prompt, responses=responses))
    return group


def _root(row: Row) -> Row | None:
    """Return the first message of a row that holds a whole tree, or None."""
    prompt = row.get("prompt")
    if isinstance(prompt, Mapping):
        return prompt
    return row if row.get("replies") else None


def replies_in(root: Row, row: int) -> list[ScoredResponses]:
    """Return every message of a prompter with the replies to it, for a nested tree.

    Args:
        root: the first message, with its replies.
        row: the row that the tree comes from.

    Raises: RowError: missing_field, wrong_type.
    """
    found = []
    nodes: list[tuple[Row, list[Message], str]] = [(root, [], "prompt")]
    while nodes:
        node, before, path = nodes.pop()
        role = required_choice(node, "role", tuple(ROLES), f"{path}.")
        dialogue = [*before, Message(role=ROLES[role], content=required_text(node, "text", f"{path}."))]
        replies = [
            (as_object(reply, f"{path}.replies.{n}"), dialogue, f"{path}.replies.{n}")
            for n, reply in enumerate(required_list(node, "replies", f"{path}.") if node.get("replies") else [])
        ]
        if role == "prompter" and replies:
            responses = [adapt(reply, SourceOptions()).responses[0] for reply, _, _ in replies]
            placed = [response.model_copy(update={"row": row}) for response in responses]
            found.append(ScoredResponses(prompt=dialogue, responses=placed))
        nodes += reversed(replies)
    return found


def path_to(message_id: str, messages: Mapping[str, Row]) -> list[Message]:
    """Return the messages from the root of a tree to one of its messages.

    Raises: RowError: no_parent.
    """
    path: list[Message] = []
    current: str | None = message_id
    while current is not None:
        if current not in messages or len(path) > len(messages):
            raise RowError("no_parent", "parent_id", f"message {current} is not among the rows of its tree.")
        row = messages[current]
        path.append(Message(role=ROLES[row["role"]], content=row["text"]))
        current = row.get("parent_id")
    return path[::-1]


def looks_like(row: Row) -> bool:
    """Return True if the row is a message of a tree, or a tree."""
    if isinstance(row.get("prompt"), Mapping):
        return "replies" in row["prompt"]
    return row.get("role") in tuple(ROLES) and ("message_tree_id" in row or "parent_id" in row)


SOURCE = Source(
    name="oasst",
    license="apache-2.0",
    homepage="https://huggingface.co/datasets/OpenAssistant/oasst1",
    direction="the lower rank among the replies to one message; rank 0 is the best",
    columns=(),
    layouts=(("message_id", "text", "role"), ("prompt",)),
    adapt=adapt,
    optional=("parent_id", "rank", "message_tree_id", "deleted", "review_result", "replies"),
    looks_like=looks_like,
    has_scores=True,
    hub="OpenAssistant/oasst1",
    hub_files=("data/train-*.parquet", "data/validation-*.parquet"),
    grouping=Grouping(lambda row, options: row.get("message_tree_id"), adapt_group),
    tested_on="100 real trees (Open-Assistant en_100_tree.jsonl, en_100_message.jsonl) and golden rows",
)
