"""Models and references whose numbers depend on how sequences are batched are padded."""

from collections.abc import Callable
from typing import Any

import datasets
import numpy as np
import pytest
import torch
import transformers
from architectures import COMMON, make
from naive import naive_logps
from prefix_rows import dataset
from toys import VOCAB_SIZE, make_pairs, make_tiny_model
from transformers import Gemma4Config, Gemma4ForConditionalGeneration, Phi3Config, Phi3ForCausalLM

from dpo_data.errors import UsageError
from dpo_train import DPOConfig, DPOTrainer
from dpo_train.logprobs import packed
from dpo_train.logprobs.head import ChunkedHead
from dpo_train.trainer.metrics import COLUMNS

Config = Callable[..., DPOConfig]

#: References that cannot compute packed sequences.
REFERENCES: dict[str, Callable[[], Any]] = {
    "bloom": lambda: transformers.BloomForCausalLM(
        transformers.BloomConfig(vocab_size=VOCAB_SIZE, hidden_size=32, n_layer=2, n_head=2, initializer_range=0.3)
    ),
    "mamba": lambda: make("mamba"),
    "gptj": lambda: transformers.GPTJForCausalLM(
        transformers.GPTJConfig(vocab_size=VOCAB_SIZE, n_embd=32, n_layer=2, n_head=2, rotary_dim=4, n_positions=128)
    ),
    "longrope": lambda: longrope(),
}


def longrope() -> Any:
    torch.manual_seed(0)
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "long_factor": [4.0] * 4,
        "short_factor": [1.0] * 4,
        "original_max_position_embeddings": 32,
        "factor": 4.0,
    }
    sizes = {"max_position_embeddings": 128, "original_max_position_embeddings": 32, "initializer_range": 0.2}
    return Phi3ForCausalLM(Phi3Config(**COMMON | sizes, rope_parameters=rope))


def mixed_lengths() -> datasets.Dataset:
    """Return 30 short pairs and two whose prompts have 60 tokens."""
    rows = make_pairs(32).select_columns(["prompt_ids", "chosen_ids", "rejected_ids"]).to_list()
    for row in (rows[15], rows[31]):
        row["prompt_ids"] = (row["prompt_ids"] * 60)[:60]
    return dataset(rows)


def test_a_model_whose_positions_depend_on_the_longest_sequence_is_padded(config: Config) -> None:
    args = config(max_steps=8, learning_rate=0.0)
    trainer = DPOTrainer(longrope(), longrope(), args=args, train_dataset=mixed_lengths())
    trainer.train()
    assert "next to a longer sequence" in str(trainer.padding_reason)
    losses = [record["loss"] for record in trainer.state.log_history if "loss" in record]
    assert losses == pytest.approx([np.log(2)] * 8, abs=1e-5)


@pytest.mark.parametrize("name", REFERENCES)
def test_a_reference_that_cannot_share_prompts_is_padded(name: str, config: Config) -> None:
    rows = mixed_lengths()
    torch.manual_seed(0)
    reference = REFERENCES[name]()
    trainer = DPOTrainer(make_tiny_model(), reference, args=config(eval_strategy="no"), eval_dataset=rows)
    trainer.evaluate()
    assert str(trainer.padding_reason).startswith("the reference cannot share prompts: ")
    if name != "longrope":  # whose values depend on the batch
        assert trainer.evaluated is not None
        got = trainer.evaluated[:, COLUMNS.index("reference_logps/chosen")]
        np.testing.assert_allclose(got, naive_logps(reference.eval(), rows, "chosen"), rtol=1e-4)
    shared = DPOTrainer(make_tiny_model(), REFERENCES[name](), args=config(attention_path="shared"), eval_dataset=rows)
    with pytest.raises(UsageError, match="prompts cannot be shared: the reference cannot share prompts"):
        shared.evaluate()


OWN = {"vocab_size_per_layer_input": VOCAB_SIZE, "hidden_size_per_layer_input": 8, "num_kv_shared_layers": 0}
TEXT = COMMON | OWN | {"final_logit_softcapping": 2.0, "sliding_window": 16}


def gemma4() -> Any:
    return Gemma4ForConditionalGeneration(Gemma4Config(text_config=TEXT, vision_config=None, audio_config=None))


def gemma3n() -> Any:
    """The language model: the multimodal one needs the package timm for its images."""
    sizes = {"laurel_rank": 4, "altup_num_inputs": 2, "layer_types": ["sliding_attention", "full_attention"]}
    text = transformers.Gemma3nTextConfig(**TEXT | sizes, activation_sparsity_pattern=[0.0, 0.0])
    return transformers.Gemma3nForCausalLM(text)


GEMMAS: dict[str, Callable[[], Any]] = {"gemma4": gemma4, "gemma3n": gemma3n}


def gemma(name: str) -> Any:
    torch.manual_seed(0)
    model = GEMMAS[name]()
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.data.normal_(0, 0.2)
    return model


@pytest.mark.parametrize("name", GEMMAS)
@pytest.mark.parametrize("plain", [False, True], ids=["known soft cap", "unknown soft cap"])
def test_a_soft_cap_of_the_language_model_inside_a_multimodal_one_is_applied_in_chunks(
    plain: bool, name: str, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    if plain:
        monkeypatch.setattr(packed, "has_plain_logits", lambda _: True)
    else:
        monkeypatch.setattr(packed, "MAX_LOGITS", VOCAB_SIZE * 8)
        monkeypatch.setattr(packed, "MAX_LOGITS_WITHOUT_BACKWARD", VOCAB_SIZE * 8)
    pairs = make_pairs(16)
    trainer = DPOTrainer(gemma(name), args=config(learning_rate=0.0), train_dataset=pairs, eval_dataset=pairs)
    trainer.train()
    trainer.evaluate()
    if plain:
        assert "in chunks" in str(trainer.padding_reason)
    assert trainer.evaluated is not None
    for column in ("logps/chosen", "reference_logps/chosen"):
        got = trainer.evaluated[:, COLUMNS.index(column)]
        np.testing.assert_allclose(got, naive_logps(gemma(name).eval(), pairs, "chosen"), rtol=1e-4)


@pytest.mark.parametrize("name", ["llama", "llama_tied", "gemma2_softcap", "granite_scaled"])
def test_the_head_of_a_big_vocabulary_is_computed_in_chunks_where_its_logits_are_the_models(
    name: str, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than 128 positions of 2^17 logits are computed in chunks."""
    chunks: list[int] = []
    real = ChunkedHead._chunk

    def recording(self: ChunkedHead, hidden: torch.Tensor, *args: Any) -> Any:
        chunks.append(len(hidden))
        return real(self, hidden, *args)

    monkeypatch.setattr(ChunkedHead, "_chunk", recording)
    pairs = make_pairs(32)
    args = config(max_steps=1, per_device_train_batch_size=4, per_device_eval_batch_size=32)
    trainer = DPOTrainer(make(name, vocab_size=2**17), args=args, train_dataset=pairs, eval_dataset=pairs)
    expected = naive_logps(trainer.model.eval(), pairs, "chosen")
    trainer.evaluate()
    assert trainer.padding_reason is None
    assert (128 in chunks) is name.startswith("llama")
    assert trainer.evaluated is not None
    for column in ("logps/chosen", "reference_logps/chosen"):
        np.testing.assert_allclose(trainer.evaluated[:, COLUMNS.index(column)], expected, rtol=1e-4)
