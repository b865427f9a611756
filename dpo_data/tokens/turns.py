"""Truncation by turns: a prompt that is too long is rendered again without its oldest turns.

Tokens are cut only from the last turn of a prompt, where that alone is too long. Markers of the chat template are
therefore never torn, and a prompt does not begin in the middle of an answer.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from itertools import chain, takewhile

import numpy as np
from numpy.typing import NDArray

from dpo_data.ragged import Ragged, from_lists, merged
from dpo_data.tokens.encoder import EncodedPairs, Encoder, Texts
from dpo_data.tokens.messages import Conversation, Messages, spellings
from dpo_data.tokens.options import TokenOptions
from dpo_data.tokens.rendering import MARK, SYSTEM_CUT, TURN_CUT_REFUSED, Refused, RenderedPair
from dpo_data.tokens.templates import TemplateRefusal
from dpo_data.tokens.truncation import TurnCut, cut_prompts, kept_lengths

_SYSTEM_ROLES = ("system", "developer")

Ids = NDArray[np.int32]


def split_into_turns(prompt: Messages, *, keep_system: bool = True) -> tuple[Messages, list[Messages]]:
    """Return the messages that always stay, and the turns of a prompt, oldest first.

    A turn is a user message, or several in a row, with all that follows up to the next: answers, tool calls and their
    results. System and developer messages at the start stay; without `keep_system` they are the first turn.

    >>> hello = [{"role": role} for role in ("system", "user", "assistant", "user")]
    >>> split_into_turns(hello)
    ([{'role': 'system'}], [[{'role': 'user'}, {'role': 'assistant'}], [{'role': 'user'}]])
    """
    system = list(takewhile(lambda message: message.get("role") in _SYSTEM_ROLES, prompt))
    turns: list[Messages] = [] if keep_system or not system else [system]
    before = None
    for message in prompt[len(system) :]:
        role = message.get("role")
        if before is None or (role == "user" and before != "user"):
            turns.append([])
        turns[-1].append(message)
        before = role
    return (system if keep_system else []), turns


def cut_turns(
    encoder: Encoder,
    texts: Texts,
    encoded: EncodedPairs,
    conversation_of: Callable[[int], Conversation],
    options: TokenOptions,
) -> EncodedPairs:
    """Return pairs with the prompts that truncation leaves of those that are too long.

    A response that the template renders otherwise after the shorter prompt is replaced.

    Args:
        encoder: the tokenizer.
        texts: N pairs as text.
        encoded: the same pairs as ids.
        conversation_of: returns a pair's messages by its number.
        options: of tokenization, by turns.
    """
    lengths = (encoded.prompts.lengths, encoded.chosen.lengths, encoded.rejected.lengths)
    limits = kept_lengths(*lengths, options.max_length, options.max_prompt_length).prompt
    too_long = np.flatnonzero(limits < encoded.prompts.lengths).tolist()
    if not too_long:
        return encoded
    cuts: dict[int, TurnCut] = {}
    remarks = dict(encoded.remarks)
    replaced: dict[int, RenderedPair] = {}
    for row in too_long:
        prompt = _ids_of(encoded.prompts, row)
        whole = RenderedPair(texts.prompts[row], texts.chosen[row], texts.rejected[row])
        cutter = _PromptCutter(encoder, conversation_of(row), keep_system=options.keep_system is not False)
        try:
            cuts[row], pair = cutter.cut(whole, prompt, int(limits[row]))
        except Refused as refused:
            remarks[row] = {**remarks.get(row, {}), TURN_CUT_REFUSED: refused.message}
            continue
        if cutter.cuts_system:
            remarks[row] = {**remarks.get(row, {}), SYSTEM_CUT: ""}
        if (pair.chosen, pair.rejected) != (whole.chosen, whole.rejected):
            replaced[row] = pair
    return replace(_with_responses(encoder, encoded, replaced), remarks=remarks, turn_cuts=cuts)


class _PromptCutter:
    """Cuts the prompt of one pair.

    Attributes:
        cuts_system: True if the system message, which is to stay, was cut too.
    """

    def __init__(self, encoder: Encoder, conversation: Conversation, *, keep_system: bool) -> None:
        self._encoder = encoder
        self._conversation = conversation
        self._system, self._turns = split_into_turns(conversation.prompt, keep_system=keep_system)
        self.cuts_system = False

    def cut(self, whole: RenderedPair, ids: Ids, limit: int) -> tuple[TurnCut, RenderedPair]:
        """Return what is left of the prompt, and the pair as rendered with the turns that are left.

        Args:
            whole: the uncut pair.
            ids: of its prompt, more than `limit`.
            limit: maximum tokens of the prompt.

        Raises: Refused: the template cannot render a shorter prompt.
        """
        # A cache of this pair's: the search for the number of turns comes back to the last one.
        rendered = cache(self._without)
        last = max(len(self._turns) - 1, 0)
        low, high = 1, last
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if len(rendered(middle)[1]) <= limit else (middle + 1, high)
        dropped = min(low, last)
        pair, ids = rendered(dropped) if dropped else (whole, ids)
        cut = self._cut_tokens(ids, limit)
        return TurnCut(cut, dropped, len(ids) - len(cut)), pair

    def _without(self, turns: int) -> tuple[RenderedPair, Ids]:
        """Return the pair without the oldest turns of its prompt, and the ids of the prompt."""
        prompt = [*self._system, *chain(*self._turns[turns:])]
        pair = self._encoder.render_one(replace(self._conversation, prompt=prompt))
        return pair, self._encoder.encode([pair.prompt]).values

    def _cut_tokens(self, ids: Ids, limit: int) -> Ids:
        """Return the beginning of a prompt up to the text of its first turn, and its last ids."""
        if len(ids) <= limit:
            return ids
        begin = self._begin(ids)
        if begin < limit:
            return np.concatenate([ids[:begin], ids[len(ids) - (limit - begin) :]])
        self.cuts_system = bool(self._system)
        kept = np.array([limit])
        return cut_prompts(from_lists([ids]), kept, "keep_end", self._encoder.bos_token_id).values

    def _begin(self, ids: Ids) -> int:
        """Return the number of ids that a prompt has before the text of its first turn; all if unknown."""
        for text in self._marked_prompts():
            marked = self._encoder.encode([text]).values
            size = min(len(ids), len(marked))
            differs = np.flatnonzero(ids[:size] != marked[:size])
            return int(differs[0]) if len(differs) else size
        return len(ids)

    def _marked_prompts(self) -> Iterator[str]:
        """Yield the prompt with a mark in place of its turns, in each spelling that the template renders."""
        conversation = self._conversation
        marked = replace(conversation, prompt=[*self._system, {"role": "user", "content": MARK}])
        for spelled in spellings(marked):
            try:
                text = self._encoder.template.render(
                    spelled.prompt, conversation.tools, add_generation_prompt=True, arguments=conversation.arguments
                )
            except TemplateRefusal:
                continue
            if MARK in text:
                yield text


def _with_responses(encoder: Encoder, encoded: EncodedPairs, replaced: dict[int, RenderedPair]) -> EncodedPairs:
    """Return pairs with the responses of some rows, by number, in place of theirs."""
    if not replaced:
        return encoded
    new = encoder.encode_rendered(
        Texts(
            [pair.prompt for pair in replaced.values()],
            [pair.chosen for pair in replaced.values()],
            [pair.rejected for pair in replaced.values()],
        )
    )
    stays = np.ones(len(encoded.prompts.lengths), bool)
    stays[list(replaced)] = False
    return replace(
        encoded,
        chosen=merged(encoded.chosen, new.chosen, stays),
        rejected=merged(encoded.rejected, new.rejected, stays),
    )


def _ids_of(ids: Ragged, row: int) -> Ids:
    return ids.values[ids.offsets[row] : ids.offsets[row + 1]]
