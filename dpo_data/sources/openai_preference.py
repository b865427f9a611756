"""Preference files of the OpenAI fine-tuning API, which Azure, Fireworks and Together also accept.

{"input": {"messages": [...], "tools": [...], "parallel_tool_calls": true}, "preferred_output": [message],
"non_preferred_output": [message]}. Tools and tool calls are kept in conversational form and refused in text form;
parallel_tool_calls, an option of the API, is not kept.
Fields as in the providers' guides (developers.openai.com, docs.together.ai, docs.fireworks.ai).
"""

from dpo_data.records import ScoredResponses
from dpo_data.sources.fields import Row, json_objects, required, required_object
from dpo_data.sources.messages import messages
from dpo_data.sources.responses import preferred, require_response
from dpo_data.sources.source import Source, SourceOptions


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """Return the two responses with their tools.

    Raises: RowError: missing_field, wrong_type, no_response, prompts_diverge.
    """
    request = required_object(row, "input")
    chosen, rejected = (messages(required(row, side), side) for side in ("preferred_output", "non_preferred_output"))
    require_response("preferred_output", chosen)
    require_response("non_preferred_output", rejected)
    prompt = messages(required(request, "messages", "input."), "input.messages")
    return preferred(prompt, chosen, rejected, tools=json_objects(request.get("tools"), "input.tools"))


SOURCE = Source(
    name="openai-preference",
    license="unknown",
    homepage="https://developers.openai.com/api/docs/guides/direct-preference-optimization",
    direction="preferred_output",
    columns=("input", "preferred_output", "non_preferred_output"),
    adapt=adapt,
    has_tools=True,
    example_options="--form conversational",
)
