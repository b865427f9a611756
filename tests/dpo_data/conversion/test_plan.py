"""Options are checked before anything is read."""

from dataclasses import fields

import pytest
from conversions import refusal

from dpo_data import SOURCES, convert
from dpo_data.conversion.plan import Arguments, ConvertArguments, make_plan
from dpo_data.errors import UsageError, argument
from dpo_data.pairing import PairingArguments, PairingPolicy


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "nope"}, f"nope: there is no such source.\n  Sources: {', '.join(SOURCES)}."),
        ({"form": "chat"}, "form=chat: choose from auto, text, conversational."),
        ({"on_error": "skip"}, "on_error=skip: choose from quarantine, stop."),
        ({"split": "dev"}, "split=dev: choose from train, test."),
        (
            {"split": "train", "test_fraction": 0.1},
            "split= and test_fraction= both decide the split of a row. Pass only one of them.",
        ),
        ({"test_fraction": 1.0}, "test_fraction=1.0: must be at least 0 and less than 1."),
        ({"test_fraction": -0.1}, "test_fraction=-0.1: must be at least 0 and less than 1."),
        ({"max_invalid": 5.0}, "max_invalid=5.0: must be between 0 and 1 (0% and 100%)."),
        ({"limit": 0}, "limit=0: must be at least 1."),
        ({"sample": True}, "sample=True reads the embedded sample, and inputs= other files. Pass only one of them."),
        ({"source": "hh-rlhf", "mapping": {"prompt": "q"}}, None),
    ],
)
def test_options_that_contradict_are_refused_before_anything_is_read(tmp_path, options, message):
    found = refusal(UsageError, tmp_path / "none.jsonl", output=tmp_path / "out", **options)
    expected = (
        "mapping= does not apply to hh-rlhf, whose columns are fixed.\n  Use the source `pairs` for other tables."
    )
    assert found == (message or expected)
    assert not (tmp_path / "out").exists()


def test_a_source_without_hub_files_needs_inputs(tmp_path):
    assert refusal(UsageError, output=tmp_path / "out") == "pairs reads your own files.\n  Name them: inputs=FILE."
    message = "pairs has no embedded sample.\n  hh-rlhf has one."
    assert refusal(UsageError, output=tmp_path / "out", sample=True) == message


def test_the_arguments_of_convert_are_those_of_the_plan_and_of_the_pairing_policy():
    own = {field.name for field in fields(Arguments)}
    policy = set(PairingPolicy.model_fields)
    assert own.isdisjoint(policy)
    assert own | policy == set(ConvertArguments.__annotations__)
    assert policy == set(PairingArguments.__annotations__)


def test_an_argument_that_convert_does_not_have_is_a_type_error(tmp_path):
    with pytest.raises(TypeError, match="unexpected keyword argument 'chat'"):
        convert("pairs", tmp_path / "a.jsonl", output=tmp_path / "out", chat=True, form="text")


def test_the_arguments_of_the_pairing_policy_are_recorded_with_its_defaults():
    plan = make_plan("nectar", "a.jsonl", pairing="all", min_margin=None, max_pairs_per_prompt=3)
    assert plan.job.policy == PairingPolicy(pairing="all", max_pairs_per_prompt=3)
    assert plan.options.pairing == plan.job.policy
    assert make_plan("hh-rlhf", "a.jsonl").options.pairing is None


def test_one_input_needs_no_list():
    assert make_plan("pairs", "a.jsonl").inputs == make_plan("pairs", ["a.jsonl"]).inputs == ["a.jsonl"]


def test_only_sources_with_an_embedded_sample_suggest_it_where_the_hub_cannot_be_reached():
    local = f"Read a local copy: {argument('inputs', 'FILE')}."
    sample = f"Or try the embedded sample: {argument('sample', True)}."
    assert make_plan("hh-rlhf").unreachable_hint == f"{local} {sample}"
    assert "sample" not in make_plan("nectar").unreachable_hint
    assert "sample" not in make_plan("hh-rlhf", "hf://datasets/me/mine/a.jsonl").unreachable_hint
