"""Packed batches: sequences as a prefix tree, without padding."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from xxhash import xxh3_128_digest

from dpo_train.attention.segments import Segments
from dpo_train.batches.batch import PER_PAIR_FIELDS, Batch

#: Bytes of a token id, as it is stored.
_BYTES = np.dtype(np.int32).itemsize


#: Of so many tokens, one that others begin with as well is computed twice: attention on CPUs has a causal kernel for
#: whole sequences, which is faster by more than that where they are long.
_TOO_LONG_TO_SHARE_ONE = 64


@dataclass(frozen=True)
class SharedPrefixCollator:
    """Rows of token ids to one packed sequence in which whatever several sequences begin with stands once.

    That is a prompt for its responses, what prompts begin with (a system message, earlier turns), and what responses to
    one prompt do. The last token of a response is left out, because it predicts nothing.

    The batch has, for B pairs of R distinct (prompt, response) of N tokens in their responses, on T distinct tokens:

    - input_ids, position_ids (1, T): a sequence, then of each other what it adds, whose positions go on from where it
      branches off;
    - logits_to_keep (K,): the positions that predict a response token; the last of a prompt serves all its responses;
    - predictors, targets, responses (N,): for each response token, in the order of its predictor, which of the K
      positions predicts it, its id, and which of the R responses it is in;
    - tokens (R,): tokens of each response;
    - keys (R, 2) int64: 128 bits that tell a prompt with a response from any other;
    - chosen, rejected (B,): which of the R responses;
    - segments: what sees what, for `attention.shared_prefix_attention`;
    - row, weight, score_margin (B,), as `DPODataCollatorWithPadding` has them.

    >>> pair = {"prompt_ids": np.array([5, 6]), "chosen_ids": np.array([7, 2]), "rejected_ids": np.array([2])}
    >>> batch = SharedPrefixCollator()([pair])
    >>> batch["input_ids"].tolist(), batch["position_ids"].tolist()
    ([[5, 6, 7]], [[0, 1, 2]])
    >>> batch["logits_to_keep"].tolist(), batch["predictors"].tolist(), batch["targets"].tolist()
    ([1, 2], [0, 0, 1], [7, 2, 2])
    >>> other = {"prompt_ids": np.array([5, 8]), "chosen_ids": np.array([7, 2]), "rejected_ids": np.array([9, 2])}
    >>> batch = SharedPrefixCollator()([pair, other])
    >>> batch["input_ids"].tolist(), batch["position_ids"].tolist()
    ([[5, 6, 7, 8, 7, 9]], [[0, 1, 2, 1, 2, 2]])
    >>> batch["segments"].table.tolist()
    [[3, -1, 0], [2, 0, 1], [1, 1, 1]]
    """

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> Batch:
        """Collate rows to one batch."""
        prompts: dict[bytes, dict[bytes, int]] = {}  # prompt to its responses, each with its number among those
        numbers: list[tuple[bytes, int, int]] = []
        for row in rows:
            prompt = _bytes(row["prompt_ids"])
            responses = prompts.setdefault(prompt, {})
            chosen = responses.setdefault(_bytes(row["chosen_ids"]), len(responses))
            numbers.append((prompt, chosen, responses.setdefault(_bytes(row["rejected_ids"]), len(responses))))
        first = dict(zip(prompts, itertools.accumulate(map(len, prompts.values()), initial=0), strict=False))
        packed = _pack(prompts)
        batch: Batch = {
            "chosen": torch.tensor([first[prompt] + chosen for prompt, chosen, _ in numbers]),
            "rejected": torch.tensor([first[prompt] + rejected for prompt, _, rejected in numbers]),
        }
        for name, dtype in PER_PAIR_FIELDS:
            if name in rows[0]:
                batch[name] = torch.tensor([row[name] for row in rows], dtype=dtype)
        return batch | packed


@dataclass(frozen=True)
class StepCollator:
    """The micro-batches of an optimizer step, or of one rank's part of it: {"micro_batches": [batch, ...]}."""

    def __call__(self, micro_batches: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, list[Batch]]:
        """Collate the rows of each micro-batch."""
        return {"micro_batches": [SharedPrefixCollator()(rows) for rows in micro_batches]}


def response_keys(prompt: bytes | memoryview, responses: Iterable[bytes | memoryview]) -> list[bytes]:
    """Of a prompt with each of its responses, 128 bits that tell them from any other; all as stored int32."""
    # By way of the prompt's own 128 bits: where it ends is part of what is asked.
    known = xxh3_128_digest(prompt)
    return [xxh3_128_digest(known + response) for response in responses]


def _bytes(ids: Any) -> bytes:
    return np.asarray(ids, dtype=np.int32).tobytes()


def _pack(prompts: Mapping[bytes, Mapping[bytes, int]]) -> Batch:
    """What `SharedPrefixCollator` says of the sequence itself, in NumPy: no Python object a token."""
    responses = [np.frombuffer(response, np.int32) for own in prompts.values() for response in own]
    tokens = [len(response) for response in responses]
    # The last token of a response predicts nothing, and so no model needs to see it.
    sequences = [prompt + response[:-_BYTES] for prompt, own in prompts.items() for response in own]
    predicting, tree = _pack_prefix_tree(sequences, tokens)
    order = np.argsort(predicting, kind="stable")
    logits_to_keep, predictors = np.unique(predicting[order], return_inverse=True)
    keys = [key for prompt, own in prompts.items() for key in response_keys(prompt, own)]
    arrays = {
        "logits_to_keep": logits_to_keep,
        "predictors": predictors,
        "targets": np.concatenate(responses).astype(np.int64)[order],
        "responses": np.repeat(np.arange(len(tokens)), tokens)[order],
        "tokens": np.array(tokens),
        "keys": np.frombuffer(b"".join(keys), np.int64).reshape(-1, 2).copy(),
    }
    return tree | {name: torch.from_numpy(array) for name, array in arrays.items()}


def _pack_prefix_tree(sequences: Sequence[bytes], wanted: Sequence[int]) -> tuple[np.ndarray, Batch]:
    """Sequences of int32 that are packed such that what several begin with stands there once.

    Args:
        sequences: none of them empty.
        wanted: of how many last tokens of each the places are.

    Returns: these places, sequence by sequence; and input_ids, position_ids (1, T) and segments.
    """
    order = sorted(range(len(sequences)), key=sequences.__getitem__)
    ordered = [sequences[number] for number in order]
    tokens, lengths = concatenate(ordered)
    common = shared_prefix_lengths(tokens, lengths)
    common[common * _TOO_LONG_TO_SHARE_ONE < lengths] = 0
    positions = np.arange(len(tokens)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    new = positions >= np.repeat(common, lengths)

    table: list[list[int]] = []
    segments: list[tuple[int, int]] = []  # position of the first token of each, and its distance to its place
    path: list[int] = []  # the segments that a sequence runs through
    spans: list[list[tuple[int, int]]] = [[] for _ in sequences]  # places of what is wanted: first and number
    packed, latest = 0, 0
    for number, shared, length in zip(order, common.tolist(), lengths.tolist(), strict=True):
        while path and segments[path[-1]][0] >= shared:
            path.pop()
        if not path or shared < latest:
            table.append([0, path[-1], shared - segments[path[-1]][0]] if path else [0, -1, 0])
            path.append(len(segments))
            segments.append((shared, packed - shared))
        table[-1][0] += length - shared
        packed, latest = packed + length - shared, length
        asked, end = length - wanted[number], length
        for first, distance in (segments[segment] for segment in reversed(path)):
            begin = max(first, asked)
            spans[number].insert(0, (begin + distance, end - begin))
            if begin == asked:
                break
            end = begin
    firsts, counts = np.array([span for of_one in spans for span in of_one]).T
    return np.arange(counts.sum()) + np.repeat(firsts - np.cumsum(counts) + counts, counts), {
        "input_ids": torch.from_numpy(tokens[new].astype(np.int64)[None]),
        "position_ids": torch.from_numpy(positions[new][None]),
        "segments": Segments(np.array(table)),
    }


def shared_prefix_lengths(tokens: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """How many tokens each of some sequences has in common with the one before it, from the start.

    >>> shared_prefix_lengths(*concatenate([_bytes([5, 6, 7]), _bytes([5, 6]), _bytes([5, 8, 7])])).tolist()
    [0, 2, 1]
    """
    starts = np.cumsum(lengths) - lengths
    most = np.minimum(lengths[1:], lengths[:-1])
    ends = np.cumsum(most)
    within = np.arange(most.sum()) - np.repeat(ends - most, most)
    different = tokens[np.repeat(starts[:-1], most) + within] != tokens[np.repeat(starts[1:], most) + within]
    places = np.append(np.flatnonzero(different), different.size)
    first = places[np.searchsorted(places, ends - most)]
    return np.append(0, np.minimum(first - ends + most, most))


def concatenate(sequences: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """The tokens of sequences one behind the other, and how many each has."""
    lengths = np.array([len(sequence) for sequence in sequences]) // _BYTES
    return np.frombuffer(b"".join(sequences), np.int32), lengths
