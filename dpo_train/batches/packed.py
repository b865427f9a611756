"""Packed batches: sequences as a prefix tree, without padding."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from xxhash import xxh3_128_digest

from dpo_train.attention.segments import Segments
from dpo_train.batches.batch import SIDES, PackedBatch, StepBatch, pair_fields

#: Bytes of a token id, as it is stored.
ID_BYTES = np.dtype(np.int32).itemsize

#: A prefix shorter than this share of its sequence is computed again instead of shared: on CPUs, the causal kernel for
#: whole sequences saves more time than that on long ones.
MIN_SHARED_FRACTION = 1 / 64


def collate_packed(rows: Sequence[Mapping[str, Any]]) -> PackedBatch:
    """Pack rows of token ids into one sequence in which a shared prefix appears once.

    Shared are a prompt by its responses, the beginning of prompts (a system message, earlier turns), and the beginning
    of responses to one prompt. The last token of a response predicts nothing and is left out.

    >>> pair = {"prompt_ids": np.array([5, 6]), "chosen_ids": np.array([7, 2]), "rejected_ids": np.array([2])}
    >>> batch = collate_packed([pair])
    >>> batch.input_ids.tolist(), batch.position_ids.tolist()
    ([[5, 6, 7]], [[0, 1, 2]])
    >>> batch.logits_to_keep.tolist(), batch.predictors.tolist(), batch.targets.tolist()
    ([1, 2], [0, 0, 1], [7, 2, 2])
    >>> other = {"prompt_ids": np.array([5, 8]), "chosen_ids": np.array([7, 2]), "rejected_ids": np.array([9, 2])}
    >>> batch = collate_packed([pair, other])
    >>> batch.input_ids.tolist(), batch.position_ids.tolist()
    ([[5, 6, 7, 8, 7, 9]], [[0, 1, 2, 1, 2, 2]])
    >>> batch.segments.table.tolist()
    [[3, -1, 0], [2, 0, 1], [1, 1, 1]]
    """
    prompts: dict[bytes, dict[bytes, int]] = {}  # prompt -> its distinct responses, each with its number among them
    numbers: list[tuple[bytes, int, int]] = []
    for row in rows:
        prompt = id_bytes(row["prompt_ids"])
        responses = prompts.setdefault(prompt, {})
        chosen = responses.setdefault(id_bytes(row["chosen_ids"]), len(responses))
        numbers.append((prompt, chosen, responses.setdefault(id_bytes(row["rejected_ids"]), len(responses))))
    first = dict(zip(prompts, itertools.accumulate(map(len, prompts.values()), initial=0), strict=False))
    return PackedBatch(
        chosen=torch.tensor([first[prompt] + chosen for prompt, chosen, _ in numbers]),
        rejected=torch.tensor([first[prompt] + rejected for prompt, _, rejected in numbers]),
        **_pack(prompts),
        **pair_fields(rows),
    )


def collate_step(micro_batches: Sequence[Sequence[Mapping[str, Any]]]) -> StepBatch:
    """Pack the rows of each micro-batch of a step."""
    return StepBatch([collate_packed(rows) for rows in micro_batches])


def collate_within(rows: Sequence[Mapping[str, Any]], *, max_tokens: int) -> StepBatch:
    """Pack consecutive rows into micro-batches of at most `max_tokens` distinct tokens, or of a single pair.

    >>> ids = np.arange(10, 14)
    >>> rows = [{"prompt_ids": ids + row, "chosen_ids": ids, "rejected_ids": ids + 1} for row in (0, 0, 9)]
    >>> [len(batch.chosen) for batch in collate_within(rows, max_tokens=16).micro_batches]
    [2, 1]
    """
    micro_batches: list[list[Mapping[str, Any]]] = []
    tokens, previous = 0, b""
    for row in rows:
        prompt, own = id_bytes(row["prompt_ids"]), len(row["prompt_ids"])
        responses = sum(len(row[f"{side}_ids"]) - 1 for side in SIDES)
        added = responses + (0 if prompt == previous else own)
        if not micro_batches or tokens + added > max_tokens:
            micro_batches.append([])
            tokens, added = 0, responses + own
        micro_batches[-1].append(row)
        tokens, previous = tokens + added, prompt
    return collate_step(micro_batches)


def response_keys(prompt: bytes | memoryview, responses: Iterable[bytes | memoryview]) -> list[bytes]:
    """Return a 128-bit hash of a prompt with each of its responses, given as stored int32."""
    # Hashed in two steps, so that the boundary between prompt and response is part of the key.
    digest = xxh3_128_digest(prompt)
    return [xxh3_128_digest(digest + response) for response in responses]


def id_bytes(ids: Any) -> bytes:
    """Return token ids as the bytes of an int32 array."""
    return np.asarray(ids, dtype=np.int32).tobytes()


def _pack(prompts: Mapping[bytes, Mapping[bytes, int]]) -> dict[str, Any]:
    """Return the fields of a `PackedBatch` that describe its sequence, in NumPy: no Python object per token."""
    responses = [np.frombuffer(response, np.int32) for own in prompts.values() for response in own]
    lengths = [len(response) for response in responses]
    # The last token of a response predicts nothing, so the model does not need it.
    sequences = [prompt + response[:-ID_BYTES] for prompt, own in prompts.items() for response in own]
    tree = _pack_prefix_tree(sequences, lengths)
    order = np.argsort(tree.predicting, kind="stable")
    logits_to_keep, predictors = np.unique(tree.predicting[order], return_inverse=True)
    keys = [key for prompt, own in prompts.items() for key in response_keys(prompt, own)]
    arrays = {
        "logits_to_keep": logits_to_keep,
        "predictors": predictors,
        "targets": np.concatenate(responses).astype(np.int64)[order],
        "responses": np.repeat(np.arange(len(lengths)), lengths)[order],
        "lengths": np.array(lengths),
        "keys": np.frombuffer(b"".join(keys), np.int64).reshape(-1, 2).copy(),
    }
    return {
        "input_ids": tree.input_ids,
        "position_ids": tree.position_ids,
        "segments": tree.segments,
        **{name: torch.from_numpy(array) for name, array in arrays.items()},
    }


class _PrefixTree(NamedTuple):
    """A packed sequence of T tokens; `predicting` are the indices of the last tokens of each sequence, in turn."""

    input_ids: Tensor
    position_ids: Tensor
    segments: Segments
    predicting: np.ndarray


def _pack_prefix_tree(sequences: Sequence[bytes], tails: Sequence[int]) -> _PrefixTree:
    """Pack sequences such that a prefix that several share appears once.

    Args:
        sequences: int32 token ids, none of them empty.
        tails: how many tokens at the end of each sequence to locate in the packed one.
    """
    order = sorted(range(len(sequences)), key=sequences.__getitem__)
    tokens, lengths = concatenate([sequences[number] for number in order])
    shared = shared_prefix_lengths(tokens, lengths)
    shared[shared < MIN_SHARED_FRACTION * lengths] = 0
    positions = np.arange(len(tokens)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    is_new = positions >= np.repeat(shared, lengths)

    table: list[list[int]] = []
    segments: list[tuple[int, int]] = []  # position of each segment's first token; its index minus that position
    path: list[int] = []  # the segments that the current sequence runs through
    spans: list[list[tuple[int, int]]] = [[] for _ in sequences]  # first index and length of each part of a tail
    packed, previous_length = 0, 0
    for number, branch, length in zip(order, shared.tolist(), lengths.tolist(), strict=True):
        while path and segments[path[-1]][0] >= branch:
            path.pop()
        if not path or branch < previous_length:
            table.append([0, path[-1], branch - segments[path[-1]][0]] if path else [0, -1, 0])
            path.append(len(segments))
            segments.append((branch, packed - branch))
        table[-1][0] += length - branch
        packed, previous_length = packed + length - branch, length
        start, end = length - tails[number], length
        for first, shift in (segments[segment] for segment in reversed(path)):
            begin = max(first, start)
            spans[number].insert(0, (begin + shift, end - begin))
            if begin == start:
                break
            end = begin
    firsts, counts = np.array([span for of_sequence in spans for span in of_sequence]).T
    return _PrefixTree(
        input_ids=torch.from_numpy(tokens[is_new].astype(np.int64)[None]),
        position_ids=torch.from_numpy(positions[is_new][None]),
        segments=Segments(np.array(table)),
        predicting=np.arange(counts.sum()) + np.repeat(firsts - np.cumsum(counts) + counts, counts),
    )


def shared_prefix_lengths(tokens: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return how many tokens each sequence shares with the one before it, from the start; 0 for the first.

    >>> shared_prefix_lengths(*concatenate([id_bytes([5, 6, 7]), id_bytes([5, 6]), id_bytes([5, 8, 7])])).tolist()
    [0, 2, 1]
    """
    starts = np.cumsum(lengths) - lengths
    limits = np.minimum(lengths[1:], lengths[:-1])
    ends = np.cumsum(limits)
    within = np.arange(limits.sum()) - np.repeat(ends - limits, limits)
    differs = tokens[np.repeat(starts[:-1], limits) + within] != tokens[np.repeat(starts[1:], limits) + within]
    differences = np.append(np.flatnonzero(differs), differs.size)
    first = differences[np.searchsorted(differences, ends - limits)]
    return np.append(0, np.minimum(first - ends + limits, limits))


def concatenate(sequences: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Return the tokens of all sequences in a row, and the length of each."""
    lengths = np.array([len(sequence) for sequence in sequences]) // ID_BYTES
    return np.frombuffer(b"".join(sequences), np.int32), lengths
