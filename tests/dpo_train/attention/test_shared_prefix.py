"""Each token once must equal the plain way: one sequence at a time, all logits, and two padded sequences a pair."""

import functools
import inspect
import itertools
from collections.abc import Callable
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from architectures import MODELS, make
from hypothesis import example, given, settings
from hypothesis import strategies as st
from naive import gradients_of_first_step, naive_logps
from peft import PromptTuningConfig, get_peft_model
from torch.nn.functional import logsigmoid
from toys import make_pairs, make_tiny_model
from transformers import LlamaForCausalLM

import dpo_train.attention.kernels
import dpo_train.attention.register
import dpo_train.logprobs.packed
from dpo_data.errors import UsageError
from dpo_train import DPOConfig, DPOTrainer
from dpo_train.attention.register import shared_prefix_attention, shared_prefixes
from dpo_train.attention.segments import Segments
from dpo_train.batches.batch import PackedBatch
from dpo_train.batches.budget import TokenBudget
from dpo_train.batches.packed import collate_packed
from dpo_train.batches.padded import DPODataCollatorWithPadding
from dpo_train.batches.sampler import StepSampler
from dpo_train.data.rows import PairRows
from dpo_train.logprobs.head import token_logps
from dpo_train.logprobs.packed import packed_logps

Config = Callable[..., DPOConfig]
Rows = list[dict[str, list[int]]]

SERVED = [name for name in MODELS if name != "mamba"]

#: Three pairs on one prompt with four distinct responses, as in the seed's example; a prompt and responses of one
#: token; a pair whose sides are each other's swapped; mixed lengths; prompts and responses that begin with others.
ROWS: Rows = [
    {"prompt_ids": [30, 31, 32, 33, 34], "chosen_ids": [10, 11, 12, 256], "rejected_ids": [20, 256]},
    {"prompt_ids": [40], "chosen_ids": [13], "rejected_ids": [21]},
    {"prompt_ids": [30, 31, 32, 33, 34], "chosen_ids": [10, 11, 12, 256], "rejected_ids": [22, 23, 24, 20, 21, 256]},
    {"prompt_ids": [50, 51], "chosen_ids": [14, 10, 11, 12, 13, 14, 10, 256], "rejected_ids": [24]},
    {"prompt_ids": [30, 31, 32, 33, 34], "chosen_ids": [20, 256], "rejected_ids": [13, 256]},
    {"prompt_ids": [50, 51], "chosen_ids": [24], "rejected_ids": [14, 10, 11, 12, 13, 14, 10, 256]},
    {"prompt_ids": list(range(30, 45)), "chosen_ids": [10], "rejected_ids": [20, 21, 22]},
    {"prompt_ids": [50], "chosen_ids": [51, 14, 12, 256], "rejected_ids": [51, 14, 15, 256]},
]


def dataset(rows: Rows) -> datasets.Dataset:
    return datasets.Dataset.from_list(rows)


def packed(rows: Rows) -> PackedBatch:
    return collate_packed([{name: np.array(ids, np.int32) for name, ids in row.items()} for row in rows])


def gradients(model: torch.nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def plain_logps(model: Any, rows: Rows, side: str) -> torch.Tensor:
    """One sequence at a time, all logits, with a graph."""
    found = []
    for row in rows:
        ids = torch.tensor([row["prompt_ids"] + row[f"{side}_ids"]])
        logps = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
        start = len(row["prompt_ids"])
        found.append(logps[range(start - 1, ids.shape[1] - 1), ids[0, start:]].sum())
    return torch.stack(found)


def loss_of(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
    return -logsigmoid(0.1 * (chosen - rejected)).mean()


def assert_same_gradients(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], most: float = 1e-5) -> None:
    """Relative to each weight's gradient; where that is zero in theory, to the largest of all."""
    assert one.keys() == other.keys()
    largest = max(float(gradient.norm()) for gradient in other.values())
    for name, gradient in other.items():
        assert float((one[name] - gradient).norm()) <= most * max(float(gradient.norm()), 1e-2 * largest), name


# ---- equal to the plain way ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SERVED)
def test_log_probabilities_and_gradients_equal_one_sequence_at_a_time_and_two_padded_ones(
    name: str, config: Config
) -> None:
    model = make(name)
    trainer = DPOTrainer(model, args=config(attention_path="padded"), train_dataset=dataset(ROWS))
    model = trainer.model
    model.eval()
    plain = [plain_logps(model, ROWS, side) for side in ("chosen", "rejected")]
    expected = gradients(model, loss_of(*plain))

    batch = packed(ROWS)
    with shared_prefixes(model):
        sums, _ = packed_logps(model, model, batch)
        shared = [sums[getattr(batch, side)] for side in ("chosen", "rejected")]
        assert_same_gradients(gradients(model, loss_of(*shared)), expected)
    padded = trainer.concatenated_forward(model, trainer.data_collator(ROWS))[:2]
    assert_same_gradients(gradients(model, loss_of(*padded)), expected)
    for one, other, third in zip(plain, shared, padded, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=0)
        torch.testing.assert_close(other, third, rtol=1e-5, atol=0)


ids = st.lists(st.integers(0, 255), min_size=1, max_size=9)
prompts = st.sampled_from([[1], [2, 3], [2, 3, 4], list(range(5, 17))]) | ids
pair = st.tuples(prompts, ids, ids).filter(lambda drawn: drawn[1] != drawn[2])


@settings(max_examples=40, deadline=None)
@given(
    drawn=st.lists(pair, min_size=1, max_size=8), name=st.sampled_from(["llama", "mistral_window", "gemma2_softcap"])
)
def test_any_rows_give_the_log_probabilities_of_one_sequence_at_a_time(drawn: list[Any], name: str) -> None:
    rows: Rows = [dict(zip(("prompt_ids", "chosen_ids", "rejected_ids"), lists, strict=True)) for lists in drawn]
    model = make(name).eval()
    batch = packed(rows)
    with torch.no_grad(), shared_prefixes(model):
        sums, _ = packed_logps(model, model, batch)
    for side in ("chosen", "rejected"):
        np.testing.assert_allclose(sums[getattr(batch, side)], naive_logps(model, dataset(rows), side), rtol=2e-5)


def test_both_paths_learn_alike(config: Config) -> None:
    pairs = make_pairs(24, seed=3)
    curves = []
    for path in ("shared", "padded"):
        args = config(attention_path=path, max_steps=8, max_tokens_per_microbatch=40)
        trainer = DPOTrainer(make_tiny_model(), args=args, train_dataset=pairs, eval_dataset=make_pairs(7, seed=4))
        trainer.train()
        trainer.evaluate()
        curves.append([record for record in trainer.state.log_history if {"loss", "eval_loss"} & set(record)])
    assert curves[0][-2]["loss"] < 0.6
    for shared, padded in zip(*curves, strict=True):
        for name, value in padded.items():
            if "_per_second" not in name and "time" not in name:
                assert shared[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name


@pytest.mark.parametrize("budget", [1, 17, 40, 10_000])
def test_gradients_of_a_step_do_not_depend_on_the_token_budget(budget: int, config: Config) -> None:
    rows = dataset(ROWS + make_pairs(9).select_columns(["prompt_ids", "chosen_ids", "rejected_ids"]).to_list())
    options = {"per_device_train_batch_size": 16, "max_steps": 1}
    cut = gradients_of_first_step(config(**options, max_tokens_per_microbatch=budget), rows)
    assert_same_gradients(cut, gradients_of_first_step(config(**options, attention_path="padded"), rows))


def test_user_batches_that_are_padded_are_measured_on_the_path_of_the_run(config: Config) -> None:
    trainer = DPOTrainer(make_tiny_model(), make_tiny_model(1), args=config(), train_dataset=dataset(ROWS))
    loss, metrics = trainer.get_batch_metrics(trainer.model, trainer.data_collator(ROWS), "eval")
    padded = DPOTrainer(
        make_tiny_model(), make_tiny_model(1), args=config(attention_path="padded"), train_dataset=dataset(ROWS)
    )
    expected, expected_metrics = padded.get_batch_metrics(padded.model, padded.data_collator(ROWS), "eval")
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert metrics == pytest.approx(expected_metrics, rel=1e-5)


# ---- packed rows -----------------------------------------------------------------------------------------------------


def sequences_of(rows: Rows) -> set[tuple[int, ...]]:
    """What a model has to see of some rows: each prompt with each response, without the last token."""
    return {tuple((row["prompt_ids"] + row[f"{side}_ids"])[:-1]) for row in rows for side in ("chosen", "rejected")}


@settings(max_examples=60, deadline=None)
@given(drawn=st.lists(pair, min_size=1, max_size=8))
@example(drawn=[tuple(row.values()) for row in ROWS])
def test_a_packed_batch_holds_each_distinct_prefix_once(drawn: list[Any]) -> None:
    rows: Rows = [dict(zip(("prompt_ids", "chosen_ids", "rejected_ids"), lists, strict=True)) for lists in drawn]
    batch = packed(rows)
    prefixes = {sequence[:end] for sequence in sequences_of(rows) for end in range(1, len(sequence) + 1)}
    assert batch.input_ids.numel() == batch.position_ids.numel() == len(prefixes)
    responses = {(*row["prompt_ids"], -1, *row[f"{side}_ids"]) for row in rows for side in ("chosen", "rejected")}
    assert len(batch.lengths) == len(responses)
    assert int(batch.lengths.sum()) == len(batch.targets) == sum(len(r) - r.index(-1) - 1 for r in responses)
    predicting = {
        tuple(row["prompt_ids"] + row[f"{side}_ids"][:end])
        for row in rows
        for side in ("chosen", "rejected")
        for end in range(len(row[f"{side}_ids"]))
    }
    assert len(batch.logits_to_keep) == len(predicting)
    assert (batch.predictors.diff() >= 0).all()  # in the order of the places, as a head in chunks wants them


def test_a_ranking_of_seven_responses_is_one_prompt_and_seven_segments() -> None:
    responses = [[10 + index] * (index + 2) for index in range(7)]
    rows = [
        {"prompt_ids": list(range(100, 120)), "chosen_ids": responses[better], "rejected_ids": responses[worse]}
        for better in range(7)
        for worse in range(better + 1, 7)
    ]
    batch = packed(rows)
    assert len(rows) == len(batch.chosen) == 21
    assert batch.input_ids.numel() == 20 + sum(range(1, 8))
    assert len(batch.lengths) == len(batch.segments.table) == 7


def test_what_prompts_begin_with_is_computed_once() -> None:
    """A system message of 40 tokens for 5 prompts, and a conversation that goes on where another one ended."""
    system = list(range(100, 140))
    rows = [
        {"prompt_ids": [*system, 10 + turn, 3], "chosen_ids": [5, 20 + turn, 9], "rejected_ids": [6, 9]}
        for turn in range(5)
    ]
    rows.append({"prompt_ids": [*system, 10, 3, 5, 20, 8], "chosen_ids": [7, 9], "rejected_ids": [4, 9]})
    batch = packed(rows)
    assert batch.input_ids.numel() == 40 + 5 * (2 + 2 + 1) + (1 + 1 + 1)
    cut = TokenBudget(PairRows(dataset(rows)), 80)
    assert [sorted(batch) for batch in cut.split_into_micro_batches(np.arange(6), 1)[0]] == [[0, 1, 2, 3, 4, 5]]
    assert sorted(map(len, itertools.chain(*cut.split_into_micro_batches(np.arange(6), 2)))) == [3, 3]  # each rank has its share


@pytest.mark.parametrize(("common", "tokens"), [(2, 2 + 2 * (98 + 1)), (1, 2 * (100 + 1))])
def test_one_token_in_more_than_64_is_not_worth_a_branch(common: int, tokens: int) -> None:
    """Two prompts of 100 tokens that begin with the same two or one; of their responses, one token is packed."""
    prompts = [[5] * common + [10 + row] * (100 - common) for row in range(2)]
    batch = packed([{"prompt_ids": prompt, "chosen_ids": [7, 9], "rejected_ids": [8]} for prompt in prompts])
    assert batch.input_ids.numel() == tokens


def test_what_a_packed_token_sees_is_the_sequence_up_to_itself() -> None:
    """Rebuilt from the table alone."""
    batch = packed(ROWS)
    ids, positions = batch.input_ids[0].tolist(), batch.position_ids[0].tolist()
    seen_by: list[list[int]] = []
    for length, parent, behind in batch.segments.table.tolist():
        start = sum(batch.segments.table[: len(seen_by), 0])
        before = [] if parent < 0 else seen_by[parent]
        # Of what the parent sees, its last tokens are its own.
        own = int(batch.segments.table[parent, 0]) if parent >= 0 else 0
        seen_by.append([*before[: len(before) - own + behind], *range(start, start + length)])
    for places in seen_by:
        assert [positions[place] for place in places] == list(range(len(places)))
    found = {tuple(ids[place] for place in places) for places in seen_by}
    # Those that others go on from have no segment of their own.
    longest = {one for one in sequences_of(ROWS) if not any(o[: len(one)] == one != o for o in sequences_of(ROWS))}
    assert found == longest
    for name, of_pair in (("chosen", "chosen_ids"), ("rejected", "rejected_ids")):
        for response, row in zip(getattr(batch, name).tolist(), ROWS, strict=True):
            own = batch.responses == response
            assert batch.targets[own].tolist() == row[of_pair]
            at = batch.logits_to_keep[batch.predictors[own]].tolist()
            start = len(row["prompt_ids"]) - 1
            assert [positions[place] for place in at] == list(range(start, start + len(row[of_pair])))
    assert len({tuple(key) for key in batch.keys.tolist()}) == len(batch.lengths)


def test_where_the_prompt_ends_is_part_of_a_responses_key() -> None:
    one = packed([{"prompt_ids": [1, 2], "chosen_ids": [3, 4], "rejected_ids": [9]}])
    other = packed([{"prompt_ids": [1, 2, 3], "chosen_ids": [4], "rejected_ids": [9]}])
    assert one.keys[0].tolist() != other.keys[0].tolist()
    rows = PairRows(dataset(ROWS))
    batch = packed(ROWS)
    expected = torch.stack([batch.keys[batch.chosen], batch.keys[batch.rejected]], dim=1)
    np.testing.assert_array_equal(rows.response_keys(np.arange(len(ROWS))), expected)


def test_distinct_tokens_are_those_of_each_prompt_and_each_response_to_it() -> None:
    rows = PairRows(dataset(ROWS))
    assert rows.distinct_tokens == (5 + 4 + 2 + 6 + 2) + (1 + 1 + 1) + (2 + 8 + 1) + (15 + 1 + 3) + (1 + 4 + 4)
    assert rows.two_sequence_tokens == sum(
        2 * len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in ROWS
    )


# ---- budgets and order -----------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(drawn=st.lists(pair, min_size=1, max_size=20), budget=st.integers(1, 60), parts=st.integers(1, 3))
def test_a_step_is_cut_into_equally_many_micro_batches_that_keep_the_budget(
    drawn: list[Any], budget: int, parts: int
) -> None:
    rows = PairRows(
        dataset([dict(zip(("prompt_ids", "chosen_ids", "rejected_ids"), lists, strict=True)) for lists in drawn])
    )
    cut = TokenBudget(rows, budget).split_into_micro_batches(np.arange(len(rows)), parts)
    assert len(cut) == parts
    assert len({len(part) for part in cut}) == 1
    counted = [row for part in cut for batch in part for row in batch if row >= 0]
    assert sorted(counted) == list(range(len(rows)))
    batches = [batch for part in cut for batch in part]
    assert len(batches) <= len(rows) + parts - 1
    for batch in batches:
        assert batch
        tokens = collate_packed(rows[batch]).input_ids.numel()
        assert tokens <= budget or len(batch) == 1


def test_loads_of_the_ranks_are_balanced() -> None:
    rows = PairRows(make_pairs(64))
    lengths = rows.lengths
    tokens = sum(lengths.values())
    parts = TokenBudget(rows, 100).split_into_micro_batches(np.arange(64), 2)
    loads = [[sum(tokens[row] for row in batch) for batch in part] for part in parts]
    assert abs(sum(loads[0]) - sum(loads[1])) <= 30
    assert all(abs(one - other) <= 20 for one, other in zip(*loads, strict=True))


def test_the_pairs_of_one_prompt_come_in_one_step_unless_scattered() -> None:
    prompt = np.array([0, 0, 0, 1, 2, 3, 3, 4, 5, 6, 7, 7])
    together = StepSampler(12, micro_batch=4, accumulation=1, ranks=1, seed=0, prompts=prompt)
    scattered = StepSampler(12, micro_batch=4, accumulation=1, ranks=1, seed=0)
    orders = set()
    for epoch in range(6):
        steps = [step.tolist() for step in together.steps(epoch)]
        assert [len(step) for step in steps] == [4, 4, 4]
        assert sorted(row for step in steps for row in step) == list(range(12))
        orders.add(tuple(row for step in steps for row in step))
        for group in ({0, 1, 2}, {5, 6}, {10, 11}):
            assert sum(bool(group & set(step)) for step in steps) == 1
    assert len(orders) == 6
    assert any(
        len([step for step in scattered.steps(epoch) if {0, 1, 2} & set(step.tolist())]) > 1 for epoch in range(6)
    )


def test_a_prompt_with_more_pairs_than_a_step_is_split() -> None:
    sampler = StepSampler(7, micro_batch=3, accumulation=1, ranks=1, seed=0, prompts=np.array([0, 0, 0, 0, 0, 1, 1]))
    steps = [step.tolist() for step in sampler.steps(0)]
    assert [len(step) for step in steps] == [3, 3, 1]
    assert sorted(row for step in steps for row in step) == list(range(7))


def test_sequential_order_stays_row_order() -> None:
    sampler = StepSampler(5, micro_batch=2, accumulation=1, ranks=1, seed=None, prompts=np.array([0, 1, 0, 1, 0]))
    assert [step.tolist() for step in sampler.steps(0)] == [[0, 1], [2, 3], [4]]


def test_the_rows_of_the_first_steps_are_those_that_are_trained_on() -> None:
    sampler = StepSampler(10, micro_batch=4, accumulation=1, ranks=1, seed=3)
    steps = [*sampler.steps(0), *sampler.steps(1)]
    for count in (1, 2, 4, 6):
        assert sampler.rows_of(count).tolist() == sorted({int(row) for step in steps[:count] for row in step})


@pytest.mark.parametrize("accumulation", [1, 4])
def test_accumulation_steps_make_no_difference_on_the_shared_path(accumulation: int, config: Config) -> None:
    args = config(per_device_train_batch_size=8 // accumulation, gradient_accumulation_steps=accumulation, max_steps=4)
    trainer = DPOTrainer(make_tiny_model(), args=args, train_dataset=make_pairs(19))
    trainer.train()
    whole = DPOTrainer(
        make_tiny_model(), args=config(per_device_train_batch_size=8, max_steps=4), train_dataset=make_pairs(19)
    )
    whole.train()
    for name, weight in trainer.model.state_dict().items():
        torch.testing.assert_close(weight, whole.model.state_dict()[name], rtol=0, atol=0)


# ---- log-probabilities and head --------------------------------------------------------------------------------------


def test_token_logps_and_their_gradient_are_those_of_the_log_softmax() -> None:
    predictors, targets = torch.tensor([0, 0, 1, 3, 4, 4]), torch.tensor([2, 6, 0, 1, 3, 3])
    weights = torch.randn(6, dtype=torch.float64)
    hidden, head = torch.randn(5, 3, dtype=torch.float64), torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
    plain = (hidden @ head).log_softmax(-1)[predictors, targets]
    (expected,) = torch.autograd.grad(plain @ weights, head)
    logps, means = token_logps(hidden @ head, predictors, targets)
    (gradient,) = torch.autograd.grad(logps @ weights, head)
    torch.testing.assert_close(logps, plain)
    torch.testing.assert_close(gradient, expected)
    torch.testing.assert_close(means, (hidden @ head).mean(-1))
    assert not means.requires_grad


def test_a_second_backward_pass_through_logits_that_have_become_their_gradient_is_refused() -> None:
    logits = torch.randn(2, 5, requires_grad=True) * 1.0
    logps, _ = token_logps(logits, torch.tensor([0, 1]), torch.tensor([2, 3]))
    logps.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        logps.sum().backward()


def test_logits_at_any_size_give_finite_values_in_float32() -> None:
    logits = torch.tensor([[3e4, -3e4, 0.0]], dtype=torch.bfloat16, requires_grad=True)
    logps, _ = token_logps(logits * 1, torch.tensor([0, 0]), torch.tensor([0, 1]))
    assert logps.dtype == torch.float32
    assert logps.tolist() == pytest.approx([0.0, -59904.0])
    logps.sum().backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", ["llama_tied", "gpt2", "gemma2_softcap", "granite_scaled"])
def test_a_head_in_chunks_gives_what_the_whole_head_gives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(name).eval()
    batch = packed(ROWS)
    results = []
    for most in (2**27, 258 * 3):
        monkeypatch.setattr(dpo_train.logprobs.packed, "MAX_LOGITS", most)
        with shared_prefixes(model):
            sums, means = packed_logps(model, model, batch)
            results.append((sums.detach(), means, gradients(model, sums.mean())))
    for one, other in zip(results[0][:2], results[1][:2], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
    assert_same_gradients(results[1][2], results[0][2])
    assert "forward" not in vars(model.get_output_embeddings())


def test_no_tensor_of_all_logits_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three rows of logits at a time: the largest tensor with the vocabulary's length has three rows."""
    model = make("llama").eval()
    monkeypatch.setattr(dpo_train.logprobs.packed, "MAX_LOGITS", 258 * 3)
    seen: list[int] = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple | list) else [out]:
                if isinstance(tensor, torch.Tensor) and tensor.dim() > 1 and tensor.shape[-1] == 258:
                    seen.append(tensor.numel() // 258)
            return out

    batch = packed(ROWS)
    with shared_prefixes(model), Watch():
        sums, _ = packed_logps(model, model, batch)
        sums.mean().backward()
    assert seen
    assert max(count for count in seen if count != 32) <= 3  # 32: the head's own weight, transposed


# ---- long segments ---------------------------------------------------------------------------------------------------


def attended_place_by_place(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, table: np.ndarray, window: int | None
) -> torch.Tensor:
    """What a place sees, by the meaning of the table alone: (1, T, heads, D)."""
    groups = query.shape[1] // key.shape[1]
    hidden = torch.ones(query.shape[2], query.shape[2], dtype=torch.bool)
    start = 0
    sights: list[list[int]] = []  # of the last token of each segment
    for length, parent, behind in table.tolist():
        before = [] if parent < 0 else sights[parent][: len(sights[parent]) - int(table[parent, 0]) + behind]
        for place in range(start, start + length):
            sight = [*before, *range(start, place + 1)]
            hidden[place, sight if window is None else sight[-window:]] = False
        sights.append(sight)
        start += length
    scores = query @ key.repeat_interleave(groups, 1).mT * query.shape[-1] ** -0.5
    weights = scores.masked_fill(hidden, float("-inf")).softmax(-1)
    return (weights @ value.repeat_interleave(groups, 1)).transpose(1, 2)


@pytest.mark.parametrize("window", [None, 1, 50, 96, 150, 1000])
@pytest.mark.parametrize("softcap", [None, 1e6], ids=["kernel", "written out"])
def test_long_segments_attend_as_place_by_place(softcap: float | None, window: int | None) -> None:
    """230, 97 and 120 tokens are computed in pieces, 1,030 in one; a branch of a branch sees both."""
    table = np.array([[230, -1, 0], [40, 0, 190], [97, 1, 30], [5, 2, 80], [1030, -1, 0], [120, 4, 1000], [9, 5, 120]])
    generator = torch.Generator().manual_seed(0)
    tensors = [
        torch.randn(1, heads, int(table[:, 0].sum()), 8, generator=generator, requires_grad=True) for heads in (4, 2, 2)
    ]
    expected = attended_place_by_place(*tensors, table, window)
    weights = torch.randn(expected.shape, generator=generator)
    gradients = torch.autograd.grad((expected * weights).sum(), tensors)
    found, _ = shared_prefix_attention(
        torch.nn.Module(), *tensors, None, segments=Segments(table), sliding_window=window, softcap=softcap
    )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-6)
    for one, other in zip(torch.autograd.grad((found * weights).sum(), tensors), gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


# ---- attention on CUDA, by its inputs --------------------------------------------------------------------------------


def varlen_attn(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cumulative_queries: torch.Tensor,
    cumulative_keys: torch.Tensor,
    most_queries: int,
    most_keys: int,
    *,
    scale: float | None,
    window_size: tuple[int, int],
    enable_gqa: bool,
) -> torch.Tensor:
    """What torch.nn.attention.varlen promises, written out: bottom-right causal, `window_size[0]` keys to the left."""
    assert enable_gqa == (query.shape[1] != key.shape[1])
    assert window_size[1] == 0
    groups = query.shape[1] // key.shape[1]
    parts = []
    for index in range(len(cumulative_queries) - 1):
        own = query[cumulative_queries[index] : cumulative_queries[index + 1]].float()
        keys, values = (
            tensor[cumulative_keys[index] : cumulative_keys[index + 1]].float().repeat_interleave(groups, dim=1)
            for tensor in (key, value)
        )
        assert len(own) <= most_queries
        assert len(keys) <= most_keys
        scores = torch.einsum("qhd,khd->hqk", own, keys) * (own.shape[-1] ** -0.5 if scale is None else scale)
        for row in range(len(own)):
            last = len(keys) - len(own) + row
            first = 0 if window_size[0] < 0 else max(0, last - window_size[0])
            scores[:, row, :first] = scores[:, row, last + 1 :] = float("-inf")
        parts.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1), values))
    return torch.cat(parts).to(query.dtype)


@pytest.mark.parametrize("window", [None, 3, 100])
def test_the_inputs_of_varlen_attention_say_what_the_segments_say(
    window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dpo_train.attention.kernels.varlen, "varlen_attn", varlen_attn)
    segments: Segments = packed(ROWS).segments
    tokens = int(segments.table[:, 0].sum())
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, heads, tokens, 8, generator=generator).half() for heads in (4, 2, 2))
    expected, _ = shared_prefix_attention(
        torch.nn.Module(), query.float(), key.float(), value.float(), None, segments=segments, sliding_window=window
    )
    found = dpo_train.attention.kernels._varlen_attention(query, key, value, segments, None, window)
    torch.testing.assert_close(found.float(), expected, rtol=2e-3, atol=2e-3)


# ---- the path of a run -----------------------------------------------------------------------------------------------


def test_the_signature_of_varlen_attention_is_the_one_that_is_called() -> None:
    from torch.nn.attention.varlen import varlen_attn as real

    parameters = inspect.signature(real).parameters
    assert list(parameters)[:7] == ["query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k"]
    assert {"scale", "window_size", "enable_gqa"} <= set(parameters)


class OwnForward(DPOTrainer):
    def concatenated_forward(self, model: Any, batch: Any) -> Any:
        return super().concatenated_forward(model, batch)


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("asked for", {"attention_path": "padded"}),
        ("its layers keep a state", {"model": lambda: make("mamba")}),
        (
            "its router loss would count a shared prompt once",
            {"model": lambda: make("qwen3_moe", output_router_logits=True)},
        ),
        ("dropout is on", {"model": lambda: make("gpt2"), "disable_dropout": False}),
        ("the data_collator is the user's", {"data_collator": DPODataCollatorWithPadding()}),
        ("preprocess_logits_for_metrics wants the logits", {"preprocess_logits_for_metrics": lambda logits, _: logits}),
        ("OwnForward has a concatenated_forward of its own", {"trainer": OwnForward}),
        ("a data set is iterable", {"train_dataset": lambda: make_pairs(8).to_iterable_dataset()}),
        (
            "its adapter learns prompts",
            {
                "model": lambda: get_peft_model(
                    make_tiny_model(), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
                )
            },
        ),
    ],
)
def test_what_cannot_share_prompts_is_padded_and_says_why(reason: str, changes: dict[str, Any], config: Config) -> None:
    changes = dict(changes)
    path = changes.pop("attention_path", "auto")
    trainer_class = changes.pop("trainer", DPOTrainer)
    model = changes.pop("model", make_tiny_model)()
    rows = changes.pop("train_dataset", lambda: make_pairs(8))()
    trainer = trainer_class(model, args=config(attention_path=path, max_steps=1), train_dataset=rows, **changes)
    assert trainer.padding_reason == reason
    trainer.train()
    if path == "auto":
        with pytest.raises(UsageError, match="attention_path is shared, and prompts cannot be shared: "):
            trainer_class(
                changes.get("model", lambda: model)(),
                args=config(attention_path="shared"),
                train_dataset=rows,
                **changes,
            )


def test_a_model_that_disagrees_on_a_real_batch_is_padded_and_trains_as_if_asked_for(
    config: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An attention that forgets the prompt passes every look at the configuration."""

    def forgetful(*args: Any, segments: Segments, **options: Any) -> Any:
        table = segments.table.copy()
        table[:, 2] = 0
        return shared_prefix_attention(*args, segments=Segments(table), **options)

    monkeypatch.setattr(dpo_train.attention.register, "NAME", "forgetful")
    dpo_train.attention.register.AttentionInterface.register("forgetful", forgetful)
    curves = []
    for path in ("auto", "padded"):
        trainer = DPOTrainer(make_tiny_model(), args=config(attention_path=path), train_dataset=make_pairs(12))
        trainer.train()
        curves.append([record["loss"] for record in trainer.state.log_history if "loss" in record])
        if path == "auto":
            assert str(trainer.padding_reason).startswith("its log-probabilities differ by ")
    assert "Prompts are not shared, each sequence is padded: its log-probabilities differ by" in caplog.text
    assert curves[0] == curves[1]


def test_the_comparison_of_the_paths_keeps_the_budget_of_a_micro_batch(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two rows, both sides of each padded to 110 tokens, would be 440."""
    rows = [
        {"prompt_ids": [30 + row] * 70, "chosen_ids": [10, 11] * 15, "rejected_ids": [12, 13] * 20} for row in range(3)
    ]
    computed: list[int] = []
    real = LlamaForCausalLM.forward

    @functools.wraps(real)
    def watching(self: Any, input_ids: torch.Tensor, **options: Any) -> Any:
        computed.append(input_ids.numel())
        return real(self, input_ids, **options)

    monkeypatch.setattr(LlamaForCausalLM, "forward", watching)
    args = config(max_tokens_per_microbatch=280, attention_path="shared")
    trainer = DPOTrainer(make_tiny_model(), args=args, train_dataset=dataset(rows))
    computed.clear()
    trainer.resolve_packing()
    assert trainer.padding_reason is None
    assert computed == [2 * (35 + 29 + 34), 4 * 70]


def test_outside_its_steps_the_model_keeps_its_own_attention(config: Config) -> None:
    model = make_tiny_model()
    before = model.config._attn_implementation
    trainer = DPOTrainer(model, args=config(), train_dataset=make_pairs(8), eval_dataset=make_pairs(4))
    trainer.train()
    trainer.evaluate()
    assert trainer.padding_reason is None
    assert model.config._attn_implementation == before
    assert model.generate(torch.tensor([[30, 31]]), max_new_tokens=3, do_sample=False).shape == (1, 5)
