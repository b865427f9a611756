"""The constructor and the methods of TRL's DPOTrainer."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from toys import make_pairs, make_tiny_model, make_tiny_tokenizer
from transformers import EarlyStoppingCallback, LlamaForCausalLM, PreTrainedTokenizerFast

from dpo_data.errors import UsageError
from dpo_train import DPOConfig, DPODataCollatorWithPadding, DPOTrainer

Config = Callable[..., DPOConfig]

SEED_EXAMPLE = {
    "prompt": [
        "hello",
        "how are you",
        "What is your name?",
        "What is your name?",
        "Which is the best programming language?",
        "Which is the best programming language?",
        "Which is the best programming language?",
    ],
    "chosen": [
        "hi nice to meet you",
        "I am fine",
        "My name is Mary",
        "My name is Mary",
        "Python",
        "Python",
        "Java",
    ],
    "rejected": [
        "leave me alone",
        "I am not fine",
        "Whats it to you?",
        "I dont have a name",
        "Javascript",
        "C++",
        "C++",
    ],
}


@pytest.fixture
def text_pairs() -> datasets.Dataset:
    return datasets.Dataset.from_dict(SEED_EXAMPLE)


def final_loss(trainer: DPOTrainer) -> float:
    trainer.train()
    return float(next(record["loss"] for record in reversed(trainer.state.log_history) if "loss" in record))


def test_the_constructor_has_the_arguments_of_trl_in_order_with_their_defaults() -> None:
    parameters = list(inspect.signature(DPOTrainer.__init__).parameters.values())[1:]
    assert [(parameter.name, parameter.default) for parameter in parameters][:19] == [
        ("model", None),
        ("ref_model", None),
        ("beta", 0.1),
        ("args", None),
        ("data_collator", None),
        ("label_pad_token_id", -100),
        ("padding_value", 0),
        ("truncation_mode", "keep_end"),
        ("train_dataset", None),
        ("eval_dataset", None),
        ("tokenizer", None),
        ("model_init", None),
        ("callbacks", None),
        ("optimizers", (None, None)),
        ("preprocess_logits_for_metrics", None),
        ("max_length", None),
        ("max_prompt_length", None),
        ("peft_config", None),
        ("disable_dropout", True),
    ]


# ---- data ------------------------------------------------------------------------------------------------------------


def test_the_example_of_trl_trains_with_its_repeated_prompts(
    tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, config: Config, text_pairs: datasets.Dataset
) -> None:
    trainer = DPOTrainer(
        tiny_model,
        make_tiny_model(),
        args=config(max_steps=10),
        beta=0.1,
        train_dataset=text_pairs,
        tokenizer=tiny_tokenizer,
    )
    assert len(trainer.train_dataset) == 7
    assert final_loss(trainer) < 0.6


def test_text_is_tokenized_to_a_prompt_and_responses_with_eos(
    tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, config: Config, text_pairs: datasets.Dataset
) -> None:
    rows = DPOTrainer(tiny_model, args=config(), train_dataset=text_pairs, tokenizer=tiny_tokenizer).train_dataset
    assert tiny_tokenizer.decode(rows[1]["prompt_ids"]) == "how are you"
    assert tiny_tokenizer.decode(rows[1]["chosen_ids"]) == "I am fine<eos>"
    assert tiny_tokenizer.decode(rows[1]["rejected_ids"]) == "I am not fine<eos>"


@pytest.mark.parametrize(("mode", "kept"), [("keep_end", " language?"), ("keep_start", "Which is t")])
def test_a_long_prompt_is_truncated_at_the_chosen_end(
    tiny_model: LlamaForCausalLM,
    tiny_tokenizer: PreTrainedTokenizerFast,
    config: Config,
    text_pairs: datasets.Dataset,
    mode: str,
    kept: str,
) -> None:
    trainer = DPOTrainer(
        tiny_model,
        args=config(),
        train_dataset=text_pairs,
        tokenizer=tiny_tokenizer,
        truncation_mode=mode,
        max_length=30,
        max_prompt_length=10,
    )
    assert tiny_tokenizer.decode(trainer.train_dataset[4]["prompt_ids"]) == kept


def test_conversations_are_rendered_with_the_chat_template(
    tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, config: Config
) -> None:
    tiny_tokenizer.chat_template = (
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    row = {
        "prompt": [{"role": "user", "content": "hello"}],
        "chosen": [{"role": "assistant", "content": "hi"}],
        "rejected": [{"role": "assistant", "content": "no"}],
    }
    trainer = DPOTrainer(
        tiny_model, args=config(), train_dataset=datasets.Dataset.from_list([row]), tokenizer=tiny_tokenizer
    )
    assert tiny_tokenizer.decode(trainer.train_dataset[0]["prompt_ids"]) == "[user]hello[assistant]"
    assert tiny_tokenizer.decode(trainer.train_dataset[0]["chosen_ids"]) == "hi<eos>"


def test_extra_columns_are_ignored(
    tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, config: Config, text_pairs: datasets.Dataset
) -> None:
    extra = text_pairs.add_column("note", ["x"] * 7)
    final_loss(DPOTrainer(tiny_model, args=config(), train_dataset=extra, tokenizer=tiny_tokenizer))


def test_missing_columns_are_refused_listing_the_existing_ones(
    tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, config: Config, text_pairs: datasets.Dataset
) -> None:
    with pytest.raises(UsageError) as caught:
        DPOTrainer(
            tiny_model,
            args=config(),
            train_dataset=text_pairs.rename_column("rejected", "worse"),
            tokenizer=tiny_tokenizer,
        )
    assert str(caught.value).startswith("the training set: no column rejected; it has prompt, chosen, worse.")


def test_text_without_tokenizer_is_refused(
    tiny_model: LlamaForCausalLM, config: Config, text_pairs: datasets.Dataset
) -> None:
    with pytest.raises(UsageError, match=r"text needs DPOTrainer\(tokenizer=\.\.\.\)"):
        DPOTrainer(tiny_model, args=config(), train_dataset=text_pairs)


def test_a_tokenizer_without_end_of_sequence_is_refused(
    tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, config: Config, text_pairs: datasets.Dataset
) -> None:
    tiny_tokenizer.eos_token = None
    with pytest.raises(UsageError, match="no end-of-sequence token"):
        DPOTrainer(tiny_model, args=config(), train_dataset=text_pairs, tokenizer=tiny_tokenizer)


def test_a_tokenizer_without_padding_token_works(
    tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, config: Config, text_pairs: datasets.Dataset
) -> None:
    tiny_tokenizer.pad_token = None
    final_loss(DPOTrainer(tiny_model, args=config(), train_dataset=text_pairs, tokenizer=tiny_tokenizer))


def test_truncation_options_are_refused_for_tokenized_data(
    tiny_model: LlamaForCausalLM, config: Config, pairs: datasets.Dataset
) -> None:
    with pytest.raises(UsageError, match="tokenized already, so max_length has no effect"):
        DPOTrainer(tiny_model, args=config(), train_dataset=pairs, max_length=10)


def test_a_prepared_folder_is_a_dataset(
    tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, config: Config, prepared: Path
) -> None:
    trainer = DPOTrainer(
        tiny_model, args=config(), train_dataset=prepared, eval_dataset=str(prepared), tokenizer=tiny_tokenizer
    )
    assert (len(trainer.train_dataset) + len(trainer.eval_dataset)) == 40
    final_loss(trainer)
    assert "eval_loss" in trainer.evaluate()


def test_an_iterable_dataset_trains_like_the_rows_it_yields(
    tiny_tokenizer: PreTrainedTokenizerFast, config: Config, text_pairs: datasets.Dataset
) -> None:
    args = config(train_sampling_strategy="sequential", max_steps=2, per_device_train_batch_size=3)
    sources = (text_pairs, text_pairs.to_iterable_dataset())
    losses = [
        final_loss(DPOTrainer(make_tiny_model(), args=args, train_dataset=source, tokenizer=tiny_tokenizer))
        for source in sources
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_several_evaluation_sets_have_separate_metrics(tiny_model: LlamaForCausalLM, config: Config) -> None:
    sets = {"easy": make_pairs(3), "hard": make_pairs(4, seed=1)}
    metrics = DPOTrainer(tiny_model, make_tiny_model(1), args=config(), eval_dataset=sets).evaluate()
    assert metrics["eval_easy_rewards/margins"] != metrics["eval_hard_rewards/margins"]


def test_a_list_is_refused_with_a_hint_to_make_a_dataset(tiny_model: LlamaForCausalLM, config: Config) -> None:
    with pytest.raises(UsageError, match=r"this is a list\.\n  datasets\.Dataset\.from_list"):
        DPOTrainer(tiny_model, args=config(), train_dataset=[{"prompt": "a"}])


# ---- collator --------------------------------------------------------------------------------------------------------


def test_padding_values_have_no_effect(config: Config, pairs: datasets.Dataset) -> None:
    losses = [
        final_loss(DPOTrainer(make_tiny_model(), None, 0.1, config(), None, label, value, train_dataset=pairs))
        for label, value in ((-100, 0), (-1, 57))
    ]
    assert losses[0] == losses[1]


def test_a_custom_data_collator_gets_the_original_rows(
    tiny_model: LlamaForCausalLM, config: Config, pairs: datasets.Dataset
) -> None:
    seen = []

    def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        seen.extend(row["origin"] for row in rows)
        return DPODataCollatorWithPadding()(rows)

    final_loss(DPOTrainer(tiny_model, args=config(max_steps=3), data_collator=collate, train_dataset=pairs))
    assert sorted(seen) == sorted(pairs["origin"])


# ---- the reference ---------------------------------------------------------------------------------------------------


def test_the_model_as_its_own_reference_is_refused(tiny_model: LlamaForCausalLM, config: Config) -> None:
    with pytest.raises(UsageError, match="ref_model is the model itself"):
        DPOTrainer(tiny_model, tiny_model, args=config())


def test_without_ref_model_the_initial_policy_is_the_reference(config: Config, pairs: datasets.Dataset) -> None:
    with_copy, without = (
        final_loss(DPOTrainer(make_tiny_model(), reference, args=config(), train_dataset=pairs))
        for reference in (make_tiny_model(), None)
    )
    assert with_copy == without


def test_models_are_loaded_from_their_path(model_folder: Path, config: Config, pairs: datasets.Dataset) -> None:
    trainer = DPOTrainer(str(model_folder), str(model_folder), args=config(), train_dataset=pairs)
    assert final_loss(trainer) < 0.75


def test_model_init_provides_the_policy(config: Config, pairs: datasets.Dataset) -> None:
    trainer = DPOTrainer(model_init=make_tiny_model, args=config(), train_dataset=pairs)
    expected = DPOTrainer(make_tiny_model(), args=config(), train_dataset=pairs)
    assert final_loss(trainer) == final_loss(expected)


def test_active_dropout_is_named_if_policy_and_reference_disagree(
    config: Config, pairs: datasets.Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    model = make_tiny_model()
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    trainer = DPOTrainer(model, args=config(max_steps=1), train_dataset=pairs, disable_dropout=False)
    trainer.train()
    assert "policy and reference should agree" in caplog.text
    assert "dropout is on in the policy" in caplog.text


def test_a_small_beta_ignores_the_reference(config: Config, pairs: datasets.Dataset) -> None:
    """As beta approaches 0, the loss approaches ln 2 for any reference."""
    losses = [
        DPOTrainer(make_tiny_model(), make_tiny_model(seed), 1e-6, config(), eval_dataset=pairs).evaluate()["eval_loss"]
        for seed in (1, 2)
    ]
    assert losses == pytest.approx([0.693147, 0.693147], abs=1e-4)


# ---- methods ---------------------------------------------------------------------------------------------------------


def test_concatenated_inputs_puts_chosen_first_and_pads_to_one_length(
    tiny_model: LlamaForCausalLM, config: Config
) -> None:
    trainer = DPOTrainer(tiny_model, None, 0.1, config(), None, -1, 9)
    batch = trainer.data_collator([{"prompt_ids": [5], "chosen_ids": [6], "rejected_ids": [7, 8]}])
    inputs = {name: tensor.tolist() for name, tensor in trainer.concatenated_inputs(batch).items()}
    assert inputs == {
        "concatenated_input_ids": [[5, 6, 9], [5, 7, 8]],
        "concatenated_attention_mask": [[1, 1, 0], [1, 1, 1]],
        "concatenated_labels": [[-1, 6, -1], [-1, 7, 8]],
    }


def test_dpo_loss_returns_losses_and_detached_rewards(tiny_model: LlamaForCausalLM, config: Config) -> None:
    """Log-ratios 1 and -1, beta 0.5: rewards 0.5 and -0.5, loss -log s(1) = 0.3133; reference-free: 3 - 2, the same."""
    policy = [torch.tensor([value], requires_grad=True) for value in (-3.0, -5.0)]
    reference = [torch.tensor([-4.0]), torch.tensor([-4.0])]
    losses, chosen, rejected = DPOTrainer(tiny_model, None, 0.5, config()).dpo_loss(*policy, *reference)
    torch.testing.assert_close(losses, torch.tensor([0.3133]), rtol=0, atol=1e-4)
    assert (chosen.item(), rejected.item()) == (0.5, -0.5)
    assert losses.requires_grad
    assert not chosen.requires_grad


def test_reference_free_changes_the_loss_but_not_the_rewards(tiny_model: LlamaForCausalLM, config: Config) -> None:
    """Policy margin 2, reference margin 4, beta 0.5: -log s(1) without the reference, -log s(-1) with it."""
    logps = [torch.tensor([value]) for value in (-3.0, -5.0, -2.0, -6.0)]
    trainer = DPOTrainer(tiny_model, None, 0.5, config())
    free, with_reference = trainer.dpo_loss(*logps, reference_free=True), trainer.dpo_loss(*logps)
    torch.testing.assert_close(
        torch.cat([free[0], with_reference[0]]), torch.tensor([0.3133, 1.3133]), rtol=0, atol=1e-4
    )
    assert (free[1].item(), free[2].item()) == (with_reference[1].item(), with_reference[2].item()) == (-0.5, 0.5)


def test_get_batch_metrics_prefixes_evaluation(
    tiny_model: LlamaForCausalLM, config: Config, pairs: datasets.Dataset
) -> None:
    trainer = DPOTrainer(tiny_model, args=config(), train_dataset=pairs)
    batch = trainer.data_collator([trainer.train_dataset[0]])
    loss, metrics = trainer.get_batch_metrics(tiny_model, batch)
    _, evaluation = trainer.get_batch_metrics(tiny_model, batch, "eval")
    assert loss.item() == pytest.approx(0.6931, abs=1e-4)
    assert {f"eval_{name}": value for name, value in metrics.items()} == evaluation
    assert "rewards/margins" in metrics


def test_get_batch_samples_generates_texts_with_policy_and_reference(
    tiny_model: LlamaForCausalLM, tiny_tokenizer: PreTrainedTokenizerFast, config: Config, text_pairs: datasets.Dataset
) -> None:
    trainer = DPOTrainer(tiny_model, args=config(), train_dataset=text_pairs, tokenizer=tiny_tokenizer, max_length=60)
    batch = trainer.data_collator([trainer.train_dataset[row] for row in (0, 4)])
    policy_texts, reference_texts = trainer.get_batch_samples(trainer.model, batch)
    for texts in (policy_texts, reference_texts):
        assert texts[0].startswith("hello")
        assert texts[1].startswith("Which is the best programming language?")
        assert len(texts[0]) > len("hello")


def test_an_overridden_dpo_loss_with_the_signature_of_trl_is_used(config: Config, pairs: datasets.Dataset) -> None:
    class Constant(DPOTrainer):
        def dpo_loss(  # type: ignore[override]
            self, policy_chosen_logps: Any, policy_rejected_logps: Any, reference_chosen_logps: Any,
            reference_rejected_logps: Any, reference_free: bool = False,
        ) -> Any:  # fmt: skip
            return policy_chosen_logps * 0 + 7, policy_chosen_logps.detach(), policy_rejected_logps.detach()

    assert Constant(make_tiny_model(), args=config(), eval_dataset=pairs).evaluate()["eval_loss"] == 7


def test_an_overridden_concatenated_forward_is_used(config: Config, pairs: datasets.Dataset) -> None:
    class Shifted(DPOTrainer):
        def concatenated_forward(self, model: Any, batch: Any) -> Any:
            chosen, rejected, *logits = super().concatenated_forward(model, batch)
            return (chosen + 1 if model is self.model else chosen, rejected, *logits)

    metrics = Shifted(make_tiny_model(), args=config(), eval_dataset=pairs).evaluate()
    assert metrics["eval_rewards/margins"] == pytest.approx(0.1, abs=1e-5)


def test_logits_are_preprocessed_before_their_metrics(
    tiny_model: LlamaForCausalLM, config: Config, pairs: datasets.Dataset
) -> None:
    def three(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        assert logits.shape[:2] == labels.shape
        return torch.full_like(logits, 3.0)

    trainer = DPOTrainer(tiny_model, args=config(), eval_dataset=pairs, preprocess_logits_for_metrics=three)
    assert trainer.evaluate()["eval_logits/chosen"] == 3


def test_early_stopping_works_on_a_metric_of_evaluation(
    tiny_model: LlamaForCausalLM, config: Config, pairs: datasets.Dataset, tmp_path: Path
) -> None:
    args = config(
        max_steps=20,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        save_total_limit=1,
        learning_rate=0.0,
        load_best_model_at_end=True,
        metric_for_best_model="rewards/margins",
    )
    stop = EarlyStoppingCallback(early_stopping_patience=2)
    trainer = DPOTrainer(tiny_model, args=args, train_dataset=pairs, eval_dataset=pairs, callbacks=[stop])
    trainer.train()
    assert trainer.state.global_step == 3


def test_tokenizer_and_processing_class_are_aliases(tiny_model: LlamaForCausalLM, config: Config) -> None:
    tokenizer = make_tiny_tokenizer()
    assert DPOTrainer(tiny_model, args=config(), processing_class=tokenizer).tokenizer is tokenizer
    with pytest.raises(UsageError, match="tokenizer= and processing_class= are aliases; pass only one"):
        DPOTrainer(tiny_model, args=config(), tokenizer=tokenizer, processing_class=make_tiny_tokenizer())


def test_an_overridden_get_batch_metrics_is_refused_because_training_does_not_call_it(
    config: Config, tiny_model: LlamaForCausalLM
) -> None:
    class Own(DPOTrainer):
        def get_batch_metrics(self, *args: Any, **kwargs: Any) -> Any:
            return super().get_batch_metrics(*args, **kwargs)

    with pytest.raises(UsageError, match=r"get_batch_metrics is overridden, but .*\n  Override dpo_loss"):
        Own(tiny_model, args=config(), train_dataset=make_pairs(4))
