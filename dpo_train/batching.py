"""From rows of token ids to the tensors of a batch. Knows no model, no files and no loss."""

import heapq
import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from xxhash import xxh3_128_digest

from dpo_train.attention import Segments

#: Tensors by name, and of a packed batch its `Segments`.
Batch = dict[str, Any]

SIDES = ("chosen", "rejected")
#: What a row may say of its pair, and as which type it goes into the batch.
_PER_PAIR = (("row", torch.int64), ("weight", torch.float32), ("score_margin", torch.float32))
#: Bytes of a token id, as it is stored.
_BYTES = np.dtype(np.int32).itemsize
#: Of so many tokens, one that others begin with as well is computed twice: attention on CPUs has a causal kernel for
#: whole sequences, which is faster by more than that where they are long.
_TOO_LONG_TO_SHARE_ONE = 64


@dataclass(frozen=True)
class DPODataCollatorWithPadding:
    """Rows of token ids to padded tensors: prompt + chosen and prompt + rejected, each right-padded to its longest.

    A row has prompt_ids, chosen_ids and rejected_ids. The batch has for either side `*_input_ids`, `*_attention_mask`
    and `*_labels`, all (B, T) int64. Labels are the response's tokens. What else a row of `data.PairRows` has (its
    number, its weight, its score margin) goes into the batch as (B,) tensors.

    >>> collate = DPODataCollatorWithPadding()
    >>> batch = collate([{"prompt_ids": [5, 6], "chosen_ids": [7, 2], "rejected_ids": [2]},
    ...                  {"prompt_ids": [8], "chosen_ids": [9, 2], "rejected_ids": [2]}])
    >>> batch["chosen_input_ids"].tolist()
    [[5, 6, 7, 2], [8, 9, 2, 0]]
    >>> batch["chosen_labels"].tolist()
    [[-100, -100, 7, 2], [-100, 9, 2, -100]]
    >>> batch["rejected_attention_mask"].tolist()
    [[1, 1, 1], [1, 1, 0]]

    Args:
        label_pad_token_id: the label of prompt and padding.
        padding_value: the token id of padding; the attention mask hides it, so it decides nothing.
    """

    label_pad_token_id: int = -100
    padding_value: int = 0

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> Batch:
        """Collate rows to one batch."""
        batch: Batch = {}
        for side in SIDES:
            batch |= {f"{side}_{name}": tensor for name, tensor in self._pad(rows, f"{side}_ids").items()}
        for name, dtype in _PER_PAIR:
            if name in rows[0]:
                batch[name] = torch.tensor([row[name] for row in rows], dtype=dtype)
        return batch

    def _pad(self, rows: Sequence[Mapping[str, Any]], response: str) -> Batch:
        longest = max(len(row["prompt_ids"]) + len(row[response]) for row in rows)
        input_ids = np.full((len(rows), longest), self.padding_value, dtype=np.int64)
        attention_mask = np.zeros((len(rows), longest), dtype=np.int64)
        labels = np.full((len(rows), longest), self.label_pad_token_id, dtype=np.int64)
        for index, row in enumerate(rows):
            start = len(row["prompt_ids"])
            end = start + len(row[response])
            input_ids[index, :start] = row["prompt_ids"]
            input_ids[index, start:end] = row[response]
            attention_mask[index, :end] = 1
            labels[index, start:end] = row[response]
        return {
            "input_ids": torch.from_numpy(input_ids),
            "attention_mask": torch.from_numpy(attention_mask),
            "labels": torch.from_numpy(labels),
        }


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
        for name, dtype in _PER_PAIR:
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
    predicting, tree = _as_tree(sequences, tokens)
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


def _as_tree(sequences: Sequence[bytes], wanted: Sequence[int]) -> tuple[np.ndarray, Batch]:
    """Sequences of int32 that are packed such that what several begin with stands there once.

    Args:
        sequences: none of them empty.
        wanted: of how many last tokens of each the places are.

    Returns: these places, sequence by sequence; and input_ids, position_ids (1, T) and segments.
    """
    order = sorted(range(len(sequences)), key=sequences.__getitem__)
    ordered = [sequences[number] for number in order]
    tokens, lengths = _flat(ordered)
    common = _common_with_previous(tokens, lengths)
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


def _common_with_previous(tokens: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """How many tokens each of some sequences has in common with the one before it, from the start.

    >>> _common_with_previous(*_flat([_bytes([5, 6, 7]), _bytes([5, 6]), _bytes([5, 8, 7])])).tolist()
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


def _flat(sequences: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """The tokens of sequences one behind the other, and how many each has."""
    lengths = np.array([len(sequence) for sequence in sequences]) // _BYTES
    return np.frombuffer(b"".join(sequences), np.int32), lengths


class StepSampler:
    """Micro-batches of rows such that a step holds the same pairs however they are cut into ranks and micro-batches.

    The rows of an epoch, in random order, are cut into steps of `ranks * accumulation * micro_batch` pairs, and those
    of a step are dealt out evenly. Only an epoch's last step may hold fewer; where it leaves a rank without a pair, the
    rank gets ~row, a pair that counts nothing, because all ranks must run equally often.

    Iterating gives the micro-batches of all ranks in turn, which is how accelerate deals them out again.

    >>> sampler = StepSampler(rows=5, micro_batch=1, accumulation=1, ranks=2, seed=None)
    >>> list(sampler)
    [[0], [1], [2], [3], [4], [-5]]

    Args:
        rows: pairs of the data set.
        micro_batch: most pairs of one forward pass.
        accumulation: micro-batches of a step, on each rank.
        ranks: processes that train together.
        seed: of the order; None for that of the data set.
        drop_last: leave out an epoch's last step where it is not full.
        prompts: (rows,) int, equal for pairs of one prompt, which then come in one step; None to scatter them.
        budget: cuts each rank's part of a step into lists of rows, whatever `micro_batch` says; None for the latter.
    """

    def __init__(
        self,
        rows: int,
        *,
        micro_batch: int,
        accumulation: int,
        ranks: int,
        seed: int | None,
        drop_last: bool = False,
        prompts: np.ndarray | None = None,
        budget: "TokenBudget | None" = None,
    ) -> None:
        self._rows = rows
        self._micro_batch = micro_batch
        self._ranks = ranks
        self._step = micro_batch * accumulation * ranks
        self._seed = seed
        self._epoch = 0
        self._prompts = prompts
        self._budget = budget
        # accelerate takes a sampler of this size None as one of batches that differ in size.
        self.batch_size: int | None = None
        self.drop_last = drop_last

    def set_epoch(self, epoch: int) -> None:
        """Give the order of that epoch from now on."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Micro-batches of an epoch, over all ranks."""
        full, left = divmod(self._rows, self._step)
        return (full * self._micro_batches(self._step) + self._micro_batches(left)) * self._ranks

    def __iter__(self) -> Iterator[list[Any]]:
        for step in self.steps(self._epoch):
            turns = self._micro_batches(len(step))
            if not turns:
                return
            if self._budget is not None:
                # The whole step in the last turn, in which gradients are exchanged: the budget alone decides the cuts.
                yield from ([] for _ in range((turns - 1) * self._ranks))
                yield from self._budget.cut(step, self._ranks)
            else:
                for batch in np.array_split(step, turns * self._ranks):
                    yield batch.tolist() or [~int(step[0])]

    def steps(self, epoch: int) -> Iterator[np.ndarray]:
        """The rows of each optimizer step of an epoch, over all ranks."""
        order = np.arange(self._rows)
        if self._seed is not None:
            order = np.random.default_rng([self._seed, epoch]).permutation(self._rows)
            if self._prompts is not None:
                yield from _prompts_together(order, self._prompts, self._step)
                return
        for start in range(0, self._rows, self._step):
            yield order[start : start + self._step]

    def rows_of(self, steps: int) -> np.ndarray:
        """The rows, each once and in ascending order, of the first steps from epoch 0 on."""
        seen = np.zeros(self._rows, bool)
        each = math.ceil(self._rows / self._step)
        for epoch in range(math.ceil(steps / each)):
            for rows in itertools.islice(self.steps(epoch), steps - epoch * each):
                seen[rows] = True
            if seen.all():
                break
        return np.flatnonzero(seen)

    def _micro_batches(self, pairs: int) -> int:
        """How many micro-batches each rank needs for so many pairs of a step."""
        if self.drop_last and pairs < self._step:
            return 0
        return math.ceil(pairs / (self._micro_batch * self._ranks))


def _prompts_together(order: np.ndarray, prompts: np.ndarray, step: int) -> Iterator[np.ndarray]:
    """Steps of rows in an order in which the pairs of one prompt stand in one step, where a step can hold them.

    >>> list(_prompts_together(np.array([0, 1, 2, 3, 4, 5]), np.array([7, 8, 9, 7, 9, 7]), step=3))
    [array([0, 3, 5]), array([1, 2, 4])]
    """
    _, first, number, counts = np.unique(prompts[order], return_index=True, return_inverse=True, return_counts=True)
    # Groups in the order in which their first row was drawn.
    grouped = order[np.argsort(first[number], kind="stable")]
    ends = np.cumsum(counts[np.argsort(first)])
    groups = deque(zip((ends - counts[np.argsort(first)]).tolist(), ends.tolist(), strict=True))
    taken: list[np.ndarray] = []
    room = step
    while groups:
        fitting = next((index for index, (start, end) in enumerate(groups) if end - start <= room), None)
        start, end = groups[0]
        if fitting is None or end - start > step:
            # Too many for a step, or nothing left that fills this one: only then a prompt is split.
            end = start + room
            groups[0] = (end, groups[0][1])
        else:
            start, end = groups[fitting]
            del groups[fitting]
        taken.append(grouped[start:end])
        room -= end - start
        if room == 0 or not groups:
            yield np.concatenate(taken)
            taken, room = [], step


@dataclass(frozen=True)
class TokenBudget:
    """Cuts the pairs of a step into micro-batches by the distinct tokens that they hold.

    Args:
        rows: the pairs, by row number.
        most_tokens: of a micro-batch, but for those that are not worth a branch (one in 64). A pair that alone has more
            makes a micro-batch of its own.
    """

    rows: Any
    most_tokens: int

    def cut(self, step: np.ndarray, parts: int) -> list[list[list[int]]]:
        """Deal the pairs of a step out to so many parts, all of them with equally many micro-batches.

        Pairs of one prompt, and of prompts that begin alike, stay together as long as the budget allows. Loads are
        balanced: of the micro-batches that run at one time, the parts have about equal ones.

        Returns: for each part its micro-batches, each a list of rows; [~row], which counts nothing, where there are
            fewer pairs than micro-batches.
        """
        units = sorted(self._units(step, parts), key=lambda unit: -unit[0])
        total = sum(tokens for tokens, _ in units)
        most = math.ceil(len(units) / parts)  # then each has a micro-batch of its own
        each = min(max(1, math.ceil(total / self.most_tokens / parts)), most)
        while True:
            bins = _spread(units, each * parts)
            if each == most or all(load <= self.most_tokens or len(held) == 1 for load, held in bins):
                break
            each += 1
        bins.sort(key=lambda bin_: -bin_[0])
        batches = [[row for unit in held for row in unit] or [~int(step[0])] for _, held in bins]
        return [batches[part::parts] for part in range(parts)]

    def _units(self, step: np.ndarray, parts: int) -> list[tuple[int, list[int]]]:
        """Distinct tokens and rows of what stays together, up to the budget.

        That is the pairs of one prompt, and those of prompts that have more in common than is new of each; of the
        latter no more than a part's share of the pairs, for all parts have to get some.
        """
        share = math.ceil(len(step) / parts)
        names = ("prompt_ids", *(f"{side}_ids" for side in SIDES))
        pairs = [[_bytes(pair[name]) for name in names] for pair in map(self.rows.__getitem__, step.tolist())]
        order = sorted(range(len(pairs)), key=lambda number: pairs[number][0])
        units: list[tuple[int, list[int]]] = []
        before, seen = b"", set[bytes]()
        shared = _common_with_previous(*_flat([pairs[number][0] for number in order])).tolist()
        for number, common in zip(order, shared, strict=True):
            prompt, *whole = pairs[number]
            responses = {response[:-_BYTES] for response in whole}  # as they are packed
            seen = seen if prompt == before else set()
            new = (len(prompt) + sum(map(len, responses - seen))) // _BYTES - common
            tokens, rows = units[-1] if units else (0, [])
            alike = prompt == before or (common > new and len(rows) < share)
            if alike and tokens + new <= self.most_tokens:
                units[-1] = (tokens + new, [*rows, int(step[number])])
                seen |= responses
            else:
                seen = responses
                units.append(((len(prompt) + sum(map(len, responses))) // _BYTES, [int(step[number])]))
            before = prompt
        return units


def _spread(units: Sequence[tuple[int, list[int]]], bins: int) -> list[tuple[int, list[list[int]]]]:
    """Units, the largest first, each to the bin that holds least so far (Graham 1969): its load and its units."""
    loads = [(0, number) for number in range(bins)]
    held: list[list[list[int]]] = [[] for _ in range(bins)]
    for tokens, rows in units:
        load, number = heapq.heappop(loads)
        held[number].append(rows)
        heapq.heappush(loads, (load + tokens, number))
    return [(load, held[number]) for load, number in sorted(loads, key=lambda bin_: bin_[1])]


def tokens_in(batch: Mapping[str, Any]) -> int:
    """How many tokens a batch makes a model compute, padding included."""
    if "micro_batches" in batch:
        return sum(map(tokens_in, batch["micro_batches"]))
    names = ("input_ids",) if "input_ids" in batch else tuple(f"{side}_input_ids" for side in SIDES)
    return sum(int(batch[name].numel()) for name in names)


def pairs_in(batch: Mapping[str, Any]) -> float:
    """How many pairs of a batch count."""
    if "micro_batches" in batch:
        return sum(map(pairs_in, batch["micro_batches"]))
    return (
        float(batch["weight"].sum()) if "weight" in batch else len(batch.get("chosen", batch.get("chosen_input_ids")))
    )


def unpadded(batch: Batch, ignored: int) -> list[dict[str, Any]]:
    """The rows of a batch that `DPODataCollatorWithPadding` made.

    Args:
        batch: the batch.
        ignored: the label of prompt and padding.
    """
    rows: list[dict[str, Any]] = []
    for index in range(len(batch["chosen_input_ids"])):
        row: dict[str, Any] = {}
        for side in SIDES:
            real = batch[f"{side}_attention_mask"][index].bool()
            ids, labels = batch[f"{side}_input_ids"][index][real].cpu(), batch[f"{side}_labels"][index][real].cpu()
            row |= {"prompt_ids": ids[labels == ignored].numpy(), f"{side}_ids": ids[labels != ignored].numpy()}
        rows.append(row | {name: batch[name][index].item() for name, _ in _PER_PAIR if name in batch})
    return rows


def right_pad(tensor: Tensor, length: int, value: int) -> Tensor:
    """A (B, T) tensor, lengthened to (B, length) on the right."""
    return torch.nn.functional.pad(tensor, (0, length - tensor.shape[1]), value=value)


def left_aligned_prompts(batch: Batch, *, ignored: int, padding: int) -> tuple[Tensor, Tensor]:
    """The prompts of a batch, padded on the left, as generation wants them.

    Args:
        batch: as `DPODataCollatorWithPadding` makes it.
        ignored: the label of prompt and padding.
        padding: the token id to pad with.

    Returns: ids and attention mask, (B, longest prompt).
    """
    input_ids = batch["chosen_input_ids"]
    lengths = ((batch["chosen_attention_mask"] == 1) & (batch["chosen_labels"] == ignored)).sum(1)
    longest = int(lengths.max())
    # Row i of the result is row i of the batch moved right by what it is short of the longest prompt.
    columns = torch.arange(longest, device=input_ids.device) - (longest - lengths)[:, None]
    mask = columns >= 0
    return input_ids.gather(1, columns.clamp(min=0)).where(mask, padding), mask.long()
