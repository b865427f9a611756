"""Encode, truncate and filter pairs, and build the rows of a token cache. Reads and writes no files."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dpo_data.errors import RowError, argument
from dpo_data.options import Form
from dpo_data.prepared.columns import ids_column, numbers_column
from dpo_data.prepared.schema import carried_columns
from dpo_data.ragged import Ragged, equal_rows, from_lists, merged
from dpo_data.records import FIELDS
from dpo_data.tokens.dropped import DroppedPair
from dpo_data.tokens.encoder import EncodedPairs, Encoder, Texts
from dpo_data.tokens.manifest import Remark, TokenCounts
from dpo_data.tokens.messages import Conversation, Messages, stored_conversation
from dpo_data.tokens.options import TokenOptions
from dpo_data.tokens.truncation import KeptLengths, cut_prompts, kept_lengths
from dpo_data.tokens.turns import cut_turns


class ConversationColumns(NamedTuple):
    """N conversations; see `Encoder.render`."""

    prompts: Sequence[Messages]
    chosen: Sequence[Messages]
    rejected: Sequence[Messages]
    tools: Sequence[Any] | None = None
    arguments: Sequence[Any] | None = None


@dataclass(frozen=True)
class TruncatedPairs:
    """N pairs as ids, truncated.

    Attributes:
        encoded: the pairs before truncation.
        kept: number of tokens kept of each prompt and response.
        prompts: the truncated prompts.
        chosen: the truncated chosen responses.
        rejected: the truncated rejected responses.
        too_long: (N,) pairs that exceed max_length without truncation.
    """

    encoded: EncodedPairs
    kept: KeptLengths
    prompts: Ragged
    chosen: Ragged
    rejected: Ragged
    too_long: NDArray[np.bool_]


@dataclass(frozen=True)
class TokenBatch:
    """Rows of a token cache, the pairs that were dropped between them, and the counts of both."""

    rows: pa.RecordBatch
    dropped: list[DroppedPair]
    counts: TokenCounts


def encode_rows(
    encoder: Encoder, form: Form, rows: pa.RecordBatch, options: TokenOptions | None = None
) -> EncodedPairs:
    """Return the ids of prepared rows before truncation; and, if the options say so, their prompts cut by turns."""
    prompts, chosen, rejected = (rows.column(name).to_pylist() for name in FIELDS)
    if form == "text":
        return encoder.encode_texts(Texts(prompts, chosen, rejected))
    tools, arguments = (
        rows.column(name).to_pylist() if name in rows.schema.names else None
        for name in ("tools", "chat_template_kwargs")
    )
    return encode_conversations(encoder, ConversationColumns(prompts, chosen, rejected, tools, arguments), options)


def encode_conversations(
    encoder: Encoder, columns: ConversationColumns, options: TokenOptions | None = None
) -> EncodedPairs:
    """Return the ids of conversations before truncation; and, if the options say so, their prompts cut by turns.

    Args:
        encoder: the tokenizer.
        columns: the conversations.
        options: of tokenization; None for no truncation.
    """
    prompts, chosen, rejected, tools, arguments = columns
    texts = encoder.render(prompts, chosen, rejected, tools, arguments)
    encoded = encoder.encode_rendered(texts)
    if options is None or options.truncation_unit != "turn":
        return encoded

    def conversation_of(row: int) -> Conversation:
        given = (None if column is None else column[row] for column in (tools, arguments))
        return stored_conversation(prompts[row], chosen[row], rejected[row], *given)

    return cut_turns(encoder, texts, encoded, conversation_of, options)


def truncate_and_build(
    rows: pa.RecordBatch,
    encoded: EncodedPairs,
    options: TokenOptions,
    bos_token_id: int | None,
    schema: pa.Schema,
) -> TokenBatch:
    """Truncate pairs, drop those without signal, and return the others as rows of a token cache.

    Args:
        rows: the prepared rows.
        encoded: their ids.
        options: of tokenization.
        bos_token_id: see `cut_prompts`.
        schema: of the token cache.

    Raises: RowError: with on_overlong="fail", the first pair that is too long.
    """
    pairs = truncate_pairs(encoded, options, bos_token_id)
    if options.on_overlong == "fail" and pairs.too_long.any():
        raise _overlong(rows, pairs, options)
    reasons = drop_reasons(pairs, options)
    keep = np.ones(rows.num_rows, bool)
    keep[list(reasons)] = False
    dropped = [
        DroppedPair(
            origin=rows.column("origin")[row].as_py(),
            id=rows.column("id")[row].as_py(),
            reason=reason,
            prompt_tokens=int(encoded.prompts.lengths[row]),
            chosen_tokens=int(encoded.chosen.lengths[row]),
            rejected_tokens=int(encoded.rejected.lengths[row]),
            message=encoded.refused[row].message if row in encoded.refused else None,
        )
        for row, reason in sorted(reasons.items())
    ]
    return TokenBatch(build_batch(rows, pairs, keep, schema), dropped, count(pairs, keep, reasons))


def truncate_pairs(encoded: EncodedPairs, options: TokenOptions, bos_token_id: int | None) -> TruncatedPairs:
    """Return the pairs truncated to the limits of the options."""
    prompts, chosen, rejected = encoded.prompts, encoded.chosen, encoded.rejected
    total = prompts.lengths + np.maximum(chosen.lengths, rejected.lengths)
    kept = kept_lengths(
        prompts.lengths, chosen.lengths, rejected.lengths, options.max_length, options.max_prompt_length
    )
    cut = cut_prompts(prompts, kept.prompt, options.truncation_mode, bos_token_id)
    if encoded.turn_cuts and options.max_length is not None:
        by_tokens = np.ones(len(total), bool)
        by_tokens[list(encoded.turn_cuts)] = False
        cut = merged(cut, from_lists([part.prompt for _, part in sorted(encoded.turn_cuts.items())]), by_tokens)
        room = options.max_length - cut.lengths
        kept = KeptLengths(cut.lengths, np.minimum(chosen.lengths, room), np.minimum(rejected.lengths, room))
    return TruncatedPairs(
        encoded,
        kept,
        cut,
        chosen.cut_end(kept.chosen),
        rejected.cut_end(kept.rejected),
        np.zeros(len(total), bool) if options.max_length is None else total > options.max_length,
    )


def drop_reasons(pairs: TruncatedPairs, options: TokenOptions) -> dict[int, str]:
    """Return the reason for each row that is dropped, by row number; refusals and empty prompts come first."""
    by_reason = {
        "too_long": pairs.too_long if options.on_overlong == "drop" else np.zeros(0, bool),
        "equal_responses": equal_rows(pairs.chosen, pairs.rejected),
        "empty_prompt": pairs.encoded.prompts.lengths == 0,
    }
    reasons: dict[int, str] = {}
    for reason, rows in by_reason.items():
        reasons |= dict.fromkeys(np.flatnonzero(rows).tolist(), reason)
    return reasons | {row: refusal.reason for row, refusal in pairs.encoded.refused.items()}


def build_batch(
    rows: pa.RecordBatch, pairs: TruncatedPairs, keep: NDArray[np.bool_], schema: pa.Schema
) -> pa.RecordBatch:
    """Return the rows that `keep`, (N,), marks as rows of a token cache."""
    carried = rows if keep.all() else rows.take(numbers_column(np.flatnonzero(keep), pa.int64()))
    columns = [ids_column(side.select(keep)) for side in (pairs.prompts, pairs.chosen, pairs.rejected)]
    columns += [carried.column(name) for name in carried_columns(rows.schema)]
    return pa.record_batch(columns, schema=schema)


def count(pairs: TruncatedPairs, keep: NDArray[np.bool_], reasons: dict[int, str]) -> TokenCounts:
    """Return the counts of pairs of which `keep`, (N,), marks those that are not dropped."""
    encoded, kept = pairs.encoded, pairs.kept
    prompt_lost = (encoded.prompts.lengths - kept.prompt)[keep]
    response_lost = np.concatenate(
        [(encoded.chosen.lengths - kept.chosen)[keep], (encoded.rejected.lengths - kept.rejected)[keep]]
    )
    turn_cuts = [cut for row, cut in encoded.turn_cuts.items() if keep[row]]
    return TokenCounts(
        pairs_read=len(keep),
        pairs=int(keep.sum()),
        dropped=dict(sorted(Counter(reasons.values()).items())),
        prompts_cut=int((prompt_lost > 0).sum()),
        responses_cut=int((response_lost > 0).sum()),
        prompt_tokens_cut=int(prompt_lost.sum()),
        response_tokens_cut=int(response_lost.sum()),
        prompt_tokens=int(kept.prompt[keep].sum()),
        response_tokens=int(kept.chosen[keep].sum() + kept.rejected[keep].sum()),
        longest_pair=int((kept.prompt + np.maximum(kept.chosen, kept.rejected))[keep].max(initial=0)),
        seams=encoded.seams,
        turns_dropped=sum(cut.turns for cut in turn_cuts),
        prompts_cut_between_turns=sum(cut.tokens == 0 for cut in turn_cuts),
        refusals=dict(reversed([(refusal.reason, refusal.message) for refusal in encoded.refused.values()])),
        remarks=count_remarks([remarks for row, remarks in encoded.remarks.items() if keep[row]]),
    )


def count_remarks(of_pairs: Sequence[Mapping[str, str]]) -> dict[str, Remark]:
    """Return the number of pairs that each remark was made on, with what it quotes of the first."""
    pairs = Counter(code for remarks in of_pairs for code in remarks)
    quotes = dict(item for remarks in reversed(of_pairs) for item in remarks.items())
    return {code: Remark(pairs=pairs[code], quote=quotes[code]) for code in sorted(pairs)}


def _overlong(rows: pa.RecordBatch, pairs: TruncatedPairs, options: TokenOptions) -> RowError:
    row = int(np.flatnonzero(pairs.too_long)[0])
    encoded = pairs.encoded
    longer = max(encoded.chosen.lengths[row], encoded.rejected.lengths[row])
    return RowError(
        "too_long",
        "",
        f"{rows.column('origin')[row]}: {encoded.prompts.lengths[row] + longer} tokens, over "
        f"{argument('max_length', options.max_length)}.",
        f"Raise {argument('max_length')}, or truncate or drop such pairs: {argument('on_overlong', 'truncate|drop')}.",
    )
