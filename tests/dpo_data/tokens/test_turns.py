"""Truncation by turns: prompts lose their oldest turns, and are rendered again by the chat template."""

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from plain_turns import Seam, plain_cut
from token_caches import decoded, pair, rows_of
from transformers import PreTrainedTokenizerFast

from dpo_data import convert
from dpo_data.errors import RowError, UsageError
from dpo_data.inspect.search import show
from dpo_data.tokens.build import ConversationColumns, encode_conversations, truncate_pairs
from dpo_data.tokens.cache import find_tokens, tokenize
from dpo_data.tokens.encoder import Encoder
from dpo_data.tokens.manifest import Remark
from dpo_data.tokens.options import token_options
from dpo_data.tokens.turns import split_into_turns

#: One letter a role, and nothing between turns: with one token a byte, lengths can be read off the texts.
LETTERS = (
    "{% for m in messages %}[{{ m.role[0] }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[a]{% endif %}"
)
CHATML = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def message(role: str, content: str, **fields: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **fields}


SYSTEM = message("system", "sys")
TURNS = [message("user", "one"), message("assistant", "two"), message("user", "three"), message("assistant", "four")]
#: 43 bytes: [s]sys[u]one[a]two[u]three[a]four[u]five[a]; the responses have 4 and 3 tokens with EOS.
ROW = {
    "prompt": [SYSTEM, *TURNS, message("user", "five")],
    "chosen": [message("assistant", "yes")],
    "rejected": [message("assistant", "no")],
}


@pytest.fixture
def conversations(make_prepared):
    """Return a function that prepares conversations."""
    return lambda *rows, **options: make_prepared(rows or [ROW], form="conversational", overwrite=True, **options)


@pytest.fixture
def letters(byte_tokenizer) -> PreTrainedTokenizerFast:
    """One token a byte, and one letter a role."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer.backend_tokenizer, eos_token="</s>", pad_token="<pad>"
    )
    tokenizer.chat_template = LETTERS
    return tokenizer


# Turns.


def roles_of(turns: list[list[dict[str, Any]]]) -> list[list[str]]:
    return [[one["role"] for one in turn] for turn in turns]


def test_a_turn_is_a_user_message_with_all_that_follows_it():
    roles = ["user", "user", "assistant", "tool", "assistant", "user", "assistant", "system", "user"]
    system, turns = split_into_turns([message(role, "") for role in roles])
    assert system == []
    assert roles_of(turns) == [
        ["user", "user", "assistant", "tool", "assistant"],
        ["user", "assistant", "system"],
        ["user"],
    ]


def test_leading_system_messages_stay_or_are_the_first_turn():
    prompt = [message(role, "") for role in ("system", "developer", "assistant", "user")]
    system, turns = split_into_turns(prompt)
    assert (roles_of([system]), roles_of(turns)) == ([["system", "developer"]], [["assistant"], ["user"]])
    system, turns = split_into_turns(prompt, keep_system=False)
    assert (system, roles_of(turns)) == ([], [["system", "developer"], ["assistant"], ["user"]])


# What is kept.


@pytest.mark.parametrize(
    ("max_length", "prompt", "dropped"),
    [
        (47, "[s]sys[u]one[a]two[u]three[a]four[u]five[a]", 0),
        (46, "[s]sys[u]three[a]four[u]five[a]", 1),  # 31 of 42 tokens: those of a turn that does not fit stay unused
        (35, "[s]sys[u]three[a]four[u]five[a]", 1),
        (34, "[s]sys[u]five[a]", 2),
        (20, "[s]sys[u]five[a]", 2),
        (19, "[s]sys[u]ive[a]", 2),  # the last turn alone is too long: it loses its first tokens
        (14, "[s]sys[u]]", 2),
        (13, "u]five[a]", 2),  # 9 tokens, of which the system message would leave none
    ],
)
def test_the_oldest_turns_are_dropped_until_the_prompt_fits(conversations, letters, max_length, prompt, dropped):
    cache = tokenize(conversations(), tokenizer=letters, max_length=max_length)
    assert decoded(cache, letters) == [(prompt, "yes</s>", "no</s>")]
    counts = cache.manifest.splits["train"]
    assert counts.turns_dropped == dropped
    assert counts.prompts_cut == (dropped > 0)
    assert counts.prompts_cut_between_turns == (dropped > 0 and max_length >= 20)
    assert counts.prompt_tokens_cut == 43 - len(prompt)
    assert counts.remarks.get("system_cut") == (Remark(pairs=1, quote="") if max_length == 13 else None)


def test_responses_are_cut_only_where_the_prompt_leaves_no_room(conversations, letters):
    # A quarter of 20 is 5 for the prompt, whose system message is dropped with a remark; 15 are left for 21.
    long = ROW | {"chosen": [message("assistant", "y" * 20)]}
    cache = tokenize(conversations(long), tokenizer=letters, max_length=20)
    assert decoded(cache, letters) == [("ve[a]", "y" * 15, "no</s>")]
    # A prompt of at most a quarter of the maximum stays whole.
    short = long | {"prompt": [message("user", "hi")]}
    cache = tokenize(conversations(short, name="short"), tokenizer=letters, max_length=40)
    assert decoded(cache, letters) == [("[u]hi[a]", "y" * 20 + "</s>", "no</s>")]


def test_without_the_system_message_it_is_dropped_first(conversations, letters):
    cache = tokenize(conversations(), tokenizer=letters, max_length=46, keep_system=False)
    assert decoded(cache, letters)[0][0] == "[u]one[a]two[u]three[a]four[u]five[a]"
    assert cache.manifest.splits["train"].turns_dropped == 1
    assert cache.manifest.options.keep_system is False
    cache = tokenize(conversations(), tokenizer=letters, max_length=19, keep_system=False)
    assert decoded(cache, letters)[0][0] == "[u]five[a]"


def test_max_prompt_length_limits_the_prompt_of_a_pair_that_is_too_long(conversations, letters):
    options = {"tokenizer": letters, "truncation_unit": "turn", "max_prompt_length": 20}
    assert decoded(tokenize(conversations(), max_length=47, **options), letters)[0][0].startswith("[s]sys[u]one")
    assert decoded(tokenize(conversations(), max_length=46, **options), letters)[0][0] == "[s]sys[u]five[a]"


def test_a_prompt_that_ends_in_the_beginning_of_a_response_keeps_it(conversations, letters):
    row = {
        "prompt": [*TURNS, message("user", "five"), message("assistant", "I say ")],
        "chosen": [message("assistant", "yes")],
        "rejected": [message("assistant", "no")],
    }
    cache = tokenize(conversations(row), tokenizer=letters, max_length=30)
    assert decoded(cache, letters) == [("[u]five[a]I say ", "yes</s>", "no</s>")]


def test_a_response_that_the_template_renders_otherwise_after_fewer_turns_is_rendered_again(conversations, letters):
    letters.chat_template = LETTERS.replace(
        "{% endfor %}", "{% if loop.last and m.role == 'assistant' %}#{{ messages | length }}{% endif %}{% endfor %}"
    )
    cache = tokenize(conversations(), tokenizer=letters, max_length=40)
    assert decoded(cache, letters) == [("[s]sys[u]three[a]four[u]five[a]", "yes#5</s>", "no#5</s>")]


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("{% if messages | length < 6 %}{{ raise_exception('Too few.') }}{% endif %}", "Too few"),
        (
            "{% if messages | length < 6 %}{% set messages = messages[1:] %}{% endif %}",
            'the content of message 1 of the prompt (system) is not in the rendered text: "sys"',
        ),
    ],
)
def test_prompts_that_the_template_refuses_without_their_oldest_turns_lose_tokens(
    conversations, letters, condition, message
):
    letters.chat_template = condition + LETTERS
    cache = tokenize(conversations(), tokenizer=letters, max_length=34)
    # The last 30 tokens.
    assert decoded(cache, letters) == [("a]two[u]three[a]four[u]five[a]", "yes</s>", "no</s>")]
    counts = cache.manifest.splits["train"]
    assert (counts.turns_dropped, counts.prompts_cut, counts.prompts_cut_between_turns) == (0, 1, 0)
    assert counts.remarks["turn_cut_refused"] == Remark(pairs=1, quote=message)


# As the plain implementation does it.

WORDS = st.text(st.sampled_from("hello there, two\n"), min_size=1, max_size=12).filter(
    lambda text: text.strip() == text
)
MESSAGES = st.builds(message, st.sampled_from(["user", "user", "assistant"]), WORDS)


@st.composite
def rows(draw: st.DrawFn) -> dict[str, Any]:
    system = draw(st.lists(st.builds(message, st.just("system"), WORDS), max_size=1))
    prompt = [*system, *draw(st.lists(MESSAGES, max_size=6)), message("user", draw(WORDS))]
    return {
        "prompt": prompt,
        "chosen": [message("assistant", draw(WORDS) + "!")],
        "rejected": [message("assistant", draw(WORDS))],
    }


@pytest.fixture(scope="module", params=["bos", "metaspace", "letters"])
def tokenizer(request, make_tokenizer):
    if request.param == "letters":
        return make_tokenizer(template=LETTERS)
    return make_tokenizer(template=CHATML, eos_token="<|im_end|>", **{request.param: True})


@given(row=rows(), max_length=st.integers(8, 90), keep_system=st.booleans(), share=st.sampled_from([None, 2, 4]))
def test_ids_are_those_of_the_plain_implementation(tokenizer, row, max_length, keep_system, share):
    max_prompt_length = share and max_length // share
    options = token_options(
        max_length=max_length, max_prompt_length=max_prompt_length, truncation_unit="turn", keep_system=keep_system
    ).for_form("conversational")
    encoder = Encoder(tokenizer)
    encoded = encode_conversations(encoder, ConversationColumns(*([row[side]] for side in row)), options)
    cut = truncate_pairs(encoded, options, encoder.bos_token_id)
    prompt, chosen, rejected = (side.values.tolist() for side in (cut.prompts, cut.chosen, cut.rejected))
    plain = {"max_prompt_length": max_prompt_length, "keep_system": keep_system}
    try:
        expected = plain_cut(tokenizer, row, max_length, joint="▁" in tokenizer.get_vocab(), **plain)
    except Seam:
        assume(False)
    turns = encoded.turn_cuts[0].turns if encoded.turn_cuts else 0
    assert (prompt, chosen, rejected, turns) == expected
    assert len(prompt) + max(len(chosen), len(rejected)) <= max_length


# Options.


def test_turns_are_the_default_for_conversations(conversations, letters):
    options = tokenize(conversations(), tokenizer=letters, max_length=34).manifest.options
    assert (options.truncation_unit, options.keep_system, options.truncation_mode) == ("turn", None, "keep_end")


@pytest.mark.parametrize(
    "options",
    [
        {"truncation_unit": "token"},
        {"truncation_mode": "keep_end"},
        {"max_prompt_length": 30},
        {"truncation_mode": "keep_start"},
    ],
)
def test_tokens_are_cut_where_people_compare_with_trl(conversations, letters, options):
    cache = tokenize(conversations(), tokenizer=letters, max_length=34, **options)
    assert cache.manifest.options.truncation_unit is None
    start = options.get("truncation_mode") == "keep_start"
    prompt = "[s]sys[u]one[a]two[u]three[a]f" if start else "a]two[u]three[a]four[u]five[a]"
    assert decoded(cache, letters) == [(prompt, "yes</s>", "no</s>")]


def test_keys_do_not_depend_on_turns_where_nothing_is_cut_by_them(conversations, make_prepared, letters):
    chats, text = conversations(name="chats"), make_prepared([pair("Hi", " a", " b")])
    key = tokenize(chats, tokenizer=letters, truncation_unit="token").manifest.key
    assert tokenize(chats, tokenizer=letters, truncation_mode="keep_end").manifest.key == key
    assert tokenize(chats, tokenizer=letters).manifest.key != key
    for options in ({"max_length": None}, {"on_overlong": "drop"}, {"on_overlong": "fail"}):
        keys = {
            tokenize(chats, tokenizer=letters, truncation_unit=unit, **options).manifest.key
            for unit in (None, "turn", "token")
        }
        assert len(keys) == 1, options
    assert (
        tokenize(text, tokenizer=letters).manifest.key
        == tokenize(text, tokenizer=letters, truncation_unit="token").manifest.key
    )


def test_keeping_the_system_message_is_said_in_one_way(conversations, letters):
    chats = conversations()
    kept = tokenize(chats, tokenizer=letters, max_length=34)
    assert find_tokens(chats, tokenizer=letters, max_length=34, truncation_unit="turn", keep_system=True) == kept
    assert find_tokens(chats, tokenizer=letters, max_length=34, keep_system=False) is None


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"truncation_unit": "turn", "truncation_mode": "keep_start"},
            "truncation_unit=turn: drops the oldest turns of a prompt, but keep_start keeps them.\n"
            "  Leave truncation_mode= out, or give truncation_unit=token.",
        ),
        (
            {"truncation_unit": "token", "keep_system": True},
            "keep_system=True: has no effect without truncation by turns.\n"
            "  Give truncation_unit=turn, or leave it out.",
        ),
        (
            {"max_prompt_length": 9, "keep_system": False},
            "keep_system=False: has no effect without truncation by turns.\n"
            "  Give truncation_unit=turn, or leave it out.",
        ),
        ({"truncation_unit": "turns"}, "truncation_unit=turns: choose from token, turn.\n  Did you mean turn?"),
    ],
)
def test_options_that_contradict_each_other_are_refused(conversations, letters, options, text):
    with pytest.raises(UsageError) as refusal:
        tokenize(conversations(), tokenizer=letters, **options)
    assert str(refusal.value) == text


@pytest.mark.parametrize("options", [{"truncation_unit": "turn"}, {"keep_system": False}, {"keep_system": True}])
def test_turns_of_text_are_refused(make_prepared, letters, options):
    [(name, value)] = options.items()
    with pytest.raises(UsageError, match=f"{name}={value}: is for conversational data, and this is text"):
        tokenize(make_prepared([pair("Hi", " a", " b")]), tokenizer=letters, **options)


def test_on_overlong_fail_still_stops_at_the_first_pair(conversations, letters):
    with pytest.raises(RowError, match="47 tokens, over max_length=34"):
        tokenize(conversations(), tokenizer=letters, max_length=34, on_overlong="fail")


# Where it is seen.


def test_show_has_the_prompt_that_training_sees_and_what_it_lost(conversations, letters):
    chats = conversations()
    cache = tokenize(chats, tokenizer=letters, max_length=40)
    tokens = show(chats, row="0", tokenizer=letters, max_length=40).tokens
    assert tokens.kept_ids() == rows_of(cache)[0]
    assert tokens.cache == cache.manifest.key
    assert "".join(token.text for token in tokens.prompt) == "[s]sys[u]one[a]two[u]three[a]four[u]five[a]"
    lost = "".join(token.text for token in tokens.prompt if not token.kept)
    assert sorted(lost) == sorted("[u]one[a]two")


def test_parquet_and_jsonl_give_the_same_ids(tmp_path, write_rows, letters):
    calls = [[{"function": {"name": "f", "arguments": arguments}}] for arguments in ({"city": "Lima"}, {"x": 1})]
    letters.chat_template = LETTERS.replace(
        "{% endfor %}", "{{ m.tool_calls | tojson if m.tool_calls }}{% endfor %}", 1
    )
    rows = [
        ROW | {"prompt": [SYSTEM, TURNS[0], message("assistant", "", tool_calls=call), message("tool", "ok"), *TURNS]}
        for call in calls
    ]
    rows = [row | {"prompt": [*row["prompt"], message("user", "five")]} for row in rows]
    raw = write_rows(tmp_path / "rows.jsonl", rows)
    table = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows), table)
    found = []
    for number, source in enumerate((raw, table)):
        convert("pairs", [source], output=tmp_path / str(number), form="conversational")
        cache = tokenize(tmp_path / str(number), tokenizer=letters, max_length=60)
        assert cache.manifest.splits["train"].turns_dropped == 2
        found.append(rows_of(cache))
    assert found[0] == found[1]


# On the command line.


@pytest.fixture
def model(letters, tmp_path):
    letters.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_the_summary_says_what_was_cut(conversations, model, dpo_data):
    prepared = conversations(ROW, ROW | {"prompt": [*TURNS, message("user", "x" * 60)]})
    code, output, _ = dpo_data("tokenize", prepared, "-t", model, "--max-length", 40)
    assert code == 0
    assert "max length 40, keep_end, by turns" in output
    assert "Truncated: 2 prompts (3 turns dropped, 1 prompt cut within a turn)." in " ".join(output.split())


def test_keep_start_with_turns_is_a_usage_error(conversations, model, dpo_data):
    words = ("-t", model, "--truncation-unit", "turn", "--truncation-mode", "keep_start")
    for command in ("tokenize", "show"):
        code, _, error = dpo_data(command, conversations(), *words, *(["0"] if command == "show" else []))
        assert code == 2
        assert "--truncation-unit turn: drops the oldest turns of a prompt, but keep_start keeps them." in error


def test_no_keep_system_reaches_tokenize_and_show(conversations, model, dpo_data):
    prepared = conversations()
    words = ("-t", model, "--max-length", 46, "--no-keep-system", "--json")
    code, output, _ = dpo_data("tokenize", prepared, *words)
    manifest = json.loads(output)["manifest"]
    assert (code, manifest["options"]["keep_system"]) == (0, False)
    code, output, _ = dpo_data("show", prepared, "0", *words)
    assert json.loads(output)["tokens"]["cache"] == manifest["key"]


def test_convert_refuses_turns_for_text_before_it_converts(tmp_path, write_rows, model, dpo_data):
    raw = write_rows(tmp_path / "rows.jsonl", [pair("Hi ", "a", "b")])
    words = ("convert", "pairs", "-i", raw, "-o", tmp_path / "out", "-f", "text", "-t", model)
    code, _, error = dpo_data(*words, "--truncation-unit", "turn")
    assert code == 2
    assert "--truncation-unit turn: is for conversational data, and this is text." in error
    assert not (tmp_path / "out").exists()
