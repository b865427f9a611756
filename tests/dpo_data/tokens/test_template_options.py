"""Token caches of conversations: arguments and date of the chat template, remarks, and the limit on refusals."""

import datetime
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from token_caches import decoded, dropped, pair, rows_of

from dpo_data import convert
from dpo_data.errors import TooManyInvalid, UsageError
from dpo_data.inspect.search import show
from dpo_data.tokens.cache import find_tokens, tokenize
from dpo_data.tokens.manifest import Remark

TURNS = (
    "{% for m in messages %}[{{ m.role }}] {{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
DATED = "{{ strftime_now('%d %b %Y') }}|" + TURNS
THINKING = TURNS.replace("[assistant] {%", "[assistant] {{ '' if enable_thinking is false else '<think>' }}{%")
STRICT = "{% if messages[0].content == 'no' %}{{ raise_exception('No means no') }}{% endif %}" + TURNS


def conversation(question: str, chosen: str = "It is 4.", rejected: str = "Go away.") -> dict:
    return {
        "prompt": [{"role": "user", "content": question}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }


ROWS = [conversation("hello there"), conversation("who are you?")]


@pytest.fixture
def conversations(make_prepared):
    """Return a function that prepares conversations."""
    return lambda rows=ROWS, **options: make_prepared(rows, form="conversational", **options)


# Arguments of the template.


def test_arguments_decide_the_ids_and_are_part_of_manifest_and_key(conversations, make_tokenizer):
    prepared, tokenizer = conversations(), make_tokenizer(template=THINKING)
    plain = tokenize(prepared, tokenizer=tokenizer)
    quick = tokenize(prepared, tokenizer=tokenizer, chat_template_kwargs={"enable_thinking": False})
    assert plain.manifest.key != quick.manifest.key
    assert quick.manifest.options.chat_template_kwargs == {"enable_thinking": False}
    assert decoded(quick, tokenizer)[0] == ("[user] hello there</s>[assistant] ", "It is 4.</s>", "Go away.</s>")
    assert find_tokens(prepared, tokenizer=tokenizer, chat_template_kwargs={"enable_thinking": False}) == quick
    assert find_tokens(prepared, tokenizer=tokenizer) == plain


def test_what_is_left_out_of_prompts_is_counted_and_quoted_once(conversations, make_tokenizer):
    cache = tokenize(conversations(), tokenizer=make_tokenizer(template=THINKING))
    assert cache.manifest.splits["train"].remarks == {
        "prompt_end_left_out": Remark(pairs=2, quote='"<think>"'),
    }


def test_arguments_that_the_template_does_not_use_are_remarked(conversations, make_tokenizer):
    cache = tokenize(conversations(), tokenizer=make_tokenizer(template=TURNS), chat_template_kwargs={"thinkin": True})
    assert cache.manifest.splits["train"].remarks == {"arguments_unused": Remark(pairs=2, quote="thinkin")}


@pytest.mark.parametrize("options", [{"chat_template_kwargs": {"a": 1}}, {"template_date": "2024-07-06"}])
def test_options_of_a_template_are_refused_for_text(make_prepared, byte_tokenizer, options):
    prepared = make_prepared([pair("Hi", " a", " b")])
    with pytest.raises(UsageError, match=f"{next(iter(options))}= is for conversational data, and this is text"):
        tokenize(prepared, tokenizer=byte_tokenizer, **options)


# Dates.


class Tomorrow(datetime.date):
    @classmethod
    def today(cls):
        return cls.fromordinal(super().today().toordinal() + 1)


def test_the_date_of_the_first_cache_is_that_of_all_later_ones(conversations, make_tokenizer, monkeypatch):
    prepared, tokenizer = conversations(), make_tokenizer(template=DATED)
    today = datetime.date.today()
    first = tokenize(prepared, tokenizer=tokenizer)
    assert first.manifest.options.date == today.isoformat()
    assert decoded(first, tokenizer)[0][0].startswith(f"{today:%d %b %Y}|[user] hello there")
    monkeypatch.setattr("datetime.date", Tomorrow)
    assert tokenize(prepared, tokenizer=tokenizer).hit
    assert tokenize(prepared, tokenizer=tokenizer, max_length=20).manifest.options.date == today.isoformat()
    shown = show(prepared, row="0", tokenizer=tokenizer)
    assert shown.tokens.cache == first.manifest.key
    assert shown.tokens.kept_ids() == tuple(rows_of(first)[0])


def test_rows_that_come_later_get_the_date_of_the_first(conversations, make_tokenizer, monkeypatch):
    tokenizer = make_tokenizer(template=DATED)
    first = tokenize(conversations(), tokenizer=tokenizer)
    monkeypatch.setattr("datetime.date", Tomorrow)
    more = tokenize(conversations([*ROWS, conversation("And now?")], overwrite=True), tokenizer=tokenizer)
    assert not more.hit
    assert more.manifest.options.date == first.manifest.options.date
    assert rows_of(more)[:2] == rows_of(first)


def test_a_date_can_be_given(conversations, make_tokenizer):
    prepared, tokenizer = conversations(), make_tokenizer(template=DATED)
    given = tokenize(prepared, tokenizer=tokenizer, template_date="2024-07-06")
    assert decoded(given, tokenizer)[0][0].startswith("06 Jul 2024|")
    assert tokenize(prepared, tokenizer=tokenizer, template_date=datetime.date(2024, 7, 6)).hit
    assert tokenize(prepared, tokenizer=tokenizer).hit  # the date of the first cache
    assert not tokenize(prepared, tokenizer=tokenizer, template_date="2025-01-01").hit


def test_a_template_without_a_date_has_the_same_key_on_every_day(conversations, make_tokenizer, monkeypatch):
    prepared, tokenizer = conversations(), make_tokenizer(template=TURNS)
    assert tokenize(prepared, tokenizer=tokenizer).manifest.options.date is None
    monkeypatch.setattr("datetime.date", Tomorrow)
    assert tokenize(prepared, tokenizer=tokenizer).hit


@pytest.mark.parametrize(
    ("date", "message"),
    [
        ("06.07.2024", "template_date=06.07.2024: must be a day, as in"),
        ("2024-07-06", "the chat template writes no date"),
    ],
)
def test_a_date_that_is_none_or_that_the_template_does_not_write_is_refused(
    conversations, make_tokenizer, date, message
):
    with pytest.raises(UsageError, match=message):
        tokenize(conversations(), tokenizer=make_tokenizer(template=TURNS), template_date=date)


# Refusals.


def test_more_refused_pairs_than_the_limit_allows_make_no_cache_and_say_why(conversations, make_tokenizer):
    prepared = conversations([*ROWS, conversation("no"), conversation("nothing", "No.")])
    tokenizer = make_tokenizer(template=STRICT)
    with pytest.raises(TooManyInvalid) as refusal:
        tokenize(prepared, tokenizer=tokenizer, max_invalid=0.2)
    assert str(refusal.value) == (
        f"{prepared}: the chat template refuses 1 of 4 pairs, more than max_invalid=0.2 allows; no token cache was "
        "made.\n"
        "  template_refused (1): the template raises an error: No means no\n"
        "  Give a template that renders them with chat_template=, or raise max_invalid=."
    )
    assert list(prepared.glob("tokens/*")) == []


def test_refused_pairs_under_the_limit_are_dropped_with_the_templates_own_message(conversations, make_tokenizer):
    prepared = conversations([*ROWS, conversation("no")])
    cache = tokenize(prepared, tokenizer=make_tokenizer(template=STRICT), max_invalid=0.4)
    counts = cache.manifest.splits["train"]
    assert (counts.pairs, counts.dropped) == (2, {"template_refused": 1})
    assert counts.refusals == {"template_refused": "No means no"}
    [line] = dropped(cache)
    assert (line["origin"], line["reason"], line["message"]) == (
        "raw/pairs.jsonl:3",
        "template_refused",
        "No means no",
    )


def test_a_cache_over_the_limit_is_not_found_either(conversations, make_tokenizer):
    prepared, tokenizer = conversations([*ROWS, conversation("no")]), make_tokenizer(template=STRICT)
    tokenize(prepared, tokenizer=tokenizer, max_invalid=1.0)
    with pytest.raises(TooManyInvalid, match="refuses 1 of 3 pairs"):
        tokenize(prepared, tokenizer=tokenizer)
    assert tokenize(prepared, tokenizer=tokenizer, max_invalid=1.0).hit


def test_pairs_that_are_dropped_for_other_reasons_do_not_count_as_refused(make_prepared, byte_tokenizer):
    prepared = make_prepared([pair("Hello there", " a", " b"), pair("Hi", " same words", " same other")])
    cache = tokenize(prepared, tokenizer=byte_tokenizer, max_length=5, max_invalid=0)
    assert cache.manifest.splits["train"].dropped == {"equal_responses": 1}


def test_a_limit_that_is_no_share_is_refused(conversations, make_tokenizer):
    with pytest.raises(UsageError, match=r"max_invalid=1\.5: must be between 0 and 1"):
        tokenize(conversations(), tokenizer=make_tokenizer(template=TURNS), max_invalid=1.5)


# On the command line.


@pytest.fixture
def model(make_tokenizer, tmp_path):
    """Return a function that saves a tokenizer with a chat template, and returns its folder."""

    def save(template: str, **options: object):
        make_tokenizer(template=template, **options).save_pretrained(tmp_path / "model")
        return tmp_path / "model"

    return save


def test_the_summary_says_what_the_template_was_given_and_left_out(conversations, model, dpo_data):
    code, output, _ = dpo_data("tokenize", conversations(), "-t", model(THINKING))
    assert code == 0
    assert '2 pairs: the prompts are without "<think>", which the template writes for generation' in " ".join(
        output.split()
    )


def test_arguments_are_json_or_text_and_may_come_as_one_object(conversations, model, dpo_data):
    words = ("--chat-template-kwargs", "enable_thinking=false", "--chat-template-kwargs", '{"a": [1], "b": "x y"}')
    code, output, _ = dpo_data("tokenize", conversations(), "-t", model(THINKING), *words, "--json")
    assert code == 0
    assert json.loads(output)["manifest"]["options"]["chat_template_kwargs"] == {
        "enable_thinking": False,
        "a": [1],
        "b": "x y",
    }


def test_an_argument_without_a_value_is_a_usage_error(conversations, model, dpo_data):
    code, _, error = dpo_data("tokenize", conversations(), "-t", model(TURNS), "--chat-template-kwargs", "fast")
    assert code == 2
    assert "--chat-template-kwargs fast: must be NAME=VALUE, as in enable_thinking=false." in error


def test_too_many_refusals_exit_with_status_1(conversations, model, dpo_data):
    prepared = conversations([conversation("no")])
    code, output, error = dpo_data("tokenize", prepared, "-t", model(STRICT))
    assert (code, output) == (1, "")
    assert "refuses 1 of 1 pairs, more than --max-invalid 0.05 allows" in error
    assert "No means no" in error
    code, output, _ = dpo_data("tokenize", prepared, "-t", model(STRICT), "--max-invalid", "100%")
    assert code == 0
    assert "1 pairs of train dropped: template_refused: No means no" in output


def test_convert_refuses_template_options_before_it_reads_anything(tmp_path, write_rows, model, dpo_data):
    raw = write_rows(tmp_path / "rows.jsonl", ROWS)
    output = tmp_path / "out"
    words = ("convert", "pairs", "-i", raw, "-o", output, "-f", "conversational", "-t", model(TURNS))
    code, _, error = dpo_data(*words, "--template-date", "2024-07-06")
    assert code == 2
    assert "--template-date 2024-07-06: the chat template writes no date." in error
    assert not output.exists()


def test_convert_keeps_the_prepared_folder_if_the_template_refuses_too_many(tmp_path, write_rows, model, dpo_data):
    raw = write_rows(tmp_path / "rows.jsonl", [conversation("no")])
    output = tmp_path / "out"
    words = ("convert", "pairs", "-i", raw, "-o", output, "-f", "conversational", "-t", model(STRICT), "--json")
    code, printed, error = dpo_data(*words)
    assert code == 1
    assert json.loads(printed)["tokens"] is None
    assert "No means no" in error
    assert (output / "manifest.json").exists()


def test_text_with_a_chat_model_is_said_in_one_line(make_prepared, model, dpo_data):
    code, output, _ = dpo_data("tokenize", make_prepared([pair("Hello", " a", " b")]), "-t", model(TURNS))
    assert code == 0
    assert "The pairs are text, so the tokenizer's chat template is not used" in " ".join(output.split())


def test_seams_are_explained(make_prepared, model, dpo_data):
    code, output, _ = dpo_data("tokenize", make_prepared([pair("say hel", "lo", " what")]), "-t", model(""))
    assert code == 0
    assert "1 response begins at a seam: tokenized together, the end of the prompt" in " ".join(output.split())


def test_validate_warns_of_refusals_up_to_the_limit_and_fails_beyond_it(conversations, model, dpo_data):
    twenty = [conversation(f"Question {number}") for number in range(19)] + [conversation("no")]
    few, many = conversations(twenty, name="few"), conversations([*ROWS, conversation("no")], name="many")
    code, output, _ = dpo_data("validate", few, "-t", model(STRICT), "--json")
    finding = json.loads(output)["findings"]["template_refused"]
    assert (code, finding["severity"], finding["rows"]) == (0, "warning", 1)
    assert finding["examples"] == ["raw/pairs.jsonl:20: No means no"]
    code, output, _ = dpo_data("validate", many, "-t", model(STRICT), "--json")
    assert (code, json.loads(output)["findings"]["template_refused"]["severity"]) == (1, "error")


def test_show_has_the_templates_own_message(conversations, model, dpo_data):
    code, output, _ = dpo_data("show", conversations([conversation("no")]), "0", "-t", model(STRICT))
    assert code == 0
    assert "Training does not use this pair: template_refused." in output
    assert "The chat template: No means no" in output


def test_a_template_file_that_is_not_utf8_is_an_input_error(conversations, model, dpo_data, tmp_path):
    (tmp_path / "utf16.jinja").write_bytes(b"\xff\xfe{\0")
    code, _, error = dpo_data(
        "tokenize", conversations(), "-t", model(TURNS), "--chat-template", tmp_path / "utf16.jinja"
    )
    assert code == 2
    assert error.startswith(f"Error: {tmp_path}/utf16.jinja: cannot be read: ")


# Tools, from the raw file to the ids.


def test_tools_and_calls_from_jsonl_and_parquet_give_the_same_ids(tmp_path, write_rows, make_tokenizer):
    def row(tool: str, **arguments: str) -> dict:
        properties = {name: {"type": "string"} for name in arguments}
        parameters = {"type": "object", "properties": properties, "required": list(arguments)}
        call = {"id": "c1", "type": "function", "function": {"name": tool, "arguments": arguments}}
        return {
            "input": {
                "messages": [{"role": "user", "content": f"Use {tool}."}],
                "tools": [{"type": "function", "function": {"name": tool, "parameters": parameters}}],
            },
            "preferred_output": [{"role": "assistant", "content": None, "tool_calls": [call]}],
            "non_preferred_output": [{"role": "assistant", "content": "I would rather not."}],
        }

    rows = [row("weather", city="Lima"), row("search", query="cats")]
    write_rows(tmp_path / "rows.jsonl", rows)
    text = pa.string()
    kind = pa.struct({"type": text})
    properties = pa.struct({"city": kind, "query": kind})
    parameters = pa.struct({"type": text, "properties": properties, "required": pa.list_(text)})
    tool = pa.struct({"type": text, "function": pa.struct({"name": text, "parameters": parameters})})
    arguments = pa.struct({"city": text, "query": text})
    call = pa.struct({"id": text, "type": text, "function": pa.struct({"name": text, "arguments": arguments})})
    message = {"role": text, "content": text}
    # Named here, because older versions of pyarrow sort the keys of objects when they infer the schema.
    schema = pa.schema(
        {
            "input": pa.struct({"messages": pa.list_(pa.struct(message)), "tools": pa.list_(tool)}),
            "preferred_output": pa.list_(pa.struct(message | {"tool_calls": pa.list_(call)})),
            "non_preferred_output": pa.list_(pa.struct(message)),
        }
    )
    pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "rows.parquet")
    calls = "{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}"
    tokenizer = make_tokenizer(
        template="{{ tools | tojson }}" + TURNS.replace("{{ m.content }}", "{{ m.content }}" + calls)
    )
    texts = []
    for name in ("jsonl", "parquet"):
        convert("openai-preference", [tmp_path / f"rows.{name}"], output=tmp_path / name, form="conversational")
        texts.append(decoded(tokenize(tmp_path / name, tokenizer=tokenizer), tokenizer))
    assert texts[0] == texts[1]
    prompt, chosen, rejected = texts[0][1]
    assert prompt == (
        '[{"type": "function", "function": {"name": "search", "parameters": {"type": "object", "properties": {"query": '
        '{"type": "string"}}, "required": ["query"]}}}][user] Use search.</s>[assistant] '
    )
    assert chosen == '{"name": "search", "arguments": {"query": "cats"}}</s>'
    assert rejected == "I would rather not.</s>"
