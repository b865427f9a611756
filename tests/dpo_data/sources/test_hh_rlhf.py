"""hh-rlhf: every row is either exactly recoverable or refused with its reason, whatever it contains."""

import gzip
import itertools
import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dpo_data import convert, open_prepared
from dpo_data.dialogue import ASSISTANT_START as ASSISTANT
from dpo_data.dialogue import HUMAN_START as HUMAN
from dpo_data.dialogue import render_turns
from dpo_data.errors import InputError, RowError
from dpo_data.records import ConversationalPair, TextPair
from dpo_data.sources.hh_rlhf import _simple_prompt, adapt
from dpo_data.sources.source import SourceOptions

#: A folder with files of Anthropic/hh-rlhf: harmless-base/test.jsonl.gz as on the Hub, or its first 1,500 rows.
REAL_ROWS = os.environ.get("DPO_DATA_REAL_ROWS")
REAL_FILES = ("harmless-base-test-part1.jsonl.gz", "harmless-base/test.jsonl.gz")
HI = "\n\nHuman: Hi\n\nAssistant:"


def text_pair(chosen: object, rejected: object) -> tuple[str, str, str]:
    pair = adapt({"chosen": chosen, "rejected": rejected}, SourceOptions("text"))
    assert isinstance(pair, TextPair)
    return pair.texts


def refused(chosen: object, rejected: object, form: str = "text") -> tuple[str, str, str]:
    with pytest.raises(RowError) as caught:
        adapt({"chosen": chosen, "rejected": rejected}, SourceOptions(form))
    return caught.value.code, caught.value.field, caught.value.message


# Quirks.


def test_the_prompt_ends_with_the_last_assistant_marker():
    assert text_pair(HI + " Hello.", HI + " No.") == ("\n\nHuman: Hi\n\nAssistant:", " Hello.", " No.")


def test_shared_first_words_stay_in_the_responses():
    assert text_pair(HI + " I think so.", HI + " I thought not.") == (HI, " I think so.", " I thought not.")


def test_an_earlier_exchange_belongs_to_the_prompt():
    prompt = HI + " Yes?\n\nHuman: Who?\n\nAssistant:"
    assert text_pair(prompt + " Me.", prompt + " You.") == (prompt, " Me.", " You.")


def test_blank_lines_inside_a_turn_do_not_start_a_turn():
    prompt = "\n\nHuman: One.\n\nTwo.\n\n Three.\n\nAssistant:"
    assert text_pair(prompt + " A.\n\nB.", prompt + " C.\n\nD.\n\n") == (prompt, " A.\n\nB.", " C.\n\nD.\n\n")


@pytest.mark.parametrize(
    "body", [" Human: x", " a Human:", "\nHuman: x", " Assistant: x", "\n\n Human: x", "\n\nHuman : x"]
)
def test_role_names_inside_a_turn_do_not_start_a_turn(body):
    assert text_pair(HI + body, HI + " No.") == (HI, body, " No.")
    prompt = f"\n\nHuman:{body}\n\nAssistant:"
    assert text_pair(prompt + " Yes.", prompt + " No.") == (prompt, " Yes.", " No.")


def test_dialogues_that_differ_before_the_last_turn_are_refused():
    longer = HI + " Yes?\n\nHuman: Who?\n\nAssistant: Me."
    assert refused(longer, HI + " No.") == (
        "prompts_diverge",
        "chosen",
        "chosen and rejected differ from turn 2 on, and chosen has later Human turns.",
    )
    assert refused(HI + " No.", longer)[:2] == ("prompts_diverge", "rejected")
    other = HI + " Well?\n\nHuman: Who?\n\nAssistant: Me."
    assert refused(longer, other)[:2] == ("prompts_diverge", "chosen")


def test_dialogues_with_different_questions_are_refused():
    message = "chosen and rejected share no Human turn at the start."
    assert refused(HI + " A", "\n\nHuman: Ho\n\nAssistant: B") == ("prompts_diverge", "", message)


def test_dialogues_without_a_human_turn_are_refused():
    assert refused("\n\nAssistant: A", "\n\nAssistant: B")[:2] == ("prompts_diverge", "")


def test_two_assistant_turns_in_a_row_make_one_response():
    assert text_pair(HI + " Wait.\n\nAssistant: Yes.", HI + " No.") == (HI, " Wait.\n\nAssistant: Yes.", " No.")


def test_a_shared_assistant_turn_before_two_different_ones_is_prompt():
    prompt = HI + " Wait.\n\nAssistant:"
    assert text_pair(prompt + " Yes.", prompt + " No.") == (prompt, " Yes.", " No.")


def test_two_human_turns_in_a_row_stay_in_the_prompt():
    prompt = "\n\nHuman: Hi\n\nHuman: Ho\n\nAssistant:"
    assert text_pair(prompt + " Yes.", prompt + " No.") == (prompt, " Yes.", " No.")


def test_a_side_that_is_a_prefix_of_the_other_keeps_its_last_turn_as_its_response():
    longer = HI + " Yes.\n\nAssistant: And no."
    assert text_pair(HI + " Yes.", longer) == (HI, " Yes.", " Yes.\n\nAssistant: And no.")
    assert text_pair(HI + " Yes", HI + " Yes, sir") == (HI, " Yes", " Yes, sir")
    assert refused(HI + " Yes.", HI + " Yes.\n\nHuman: Bye\n\nAssistant: Bye")[:2] == ("prompts_diverge", "rejected")


def test_identical_sides_are_split_at_their_last_reply():
    assert text_pair(HI + " Yes.", HI + " Yes.") == (HI, " Yes.", " Yes.")


def test_an_empty_final_reply_is_an_empty_response():
    assert text_pair(HI, HI + " No.") == (HI, "", " No.")
    assert text_pair(HI + " Yes? \n\nHuman: Oh\n\nAssistant:", HI + " Yes? \n\nHuman: Oh\n\nAssistant: x")[1] == ""


def test_whitespace_at_both_ends_is_kept():
    assert text_pair(HI + " Yes. \n", HI + "  No.\t") == (HI, " Yes. \n", "  No.\t")


@pytest.mark.parametrize("bad", ["Hi", "", "\nHuman: Hi", " " + HI + " a", "Intro" + HI + " a"])
def test_a_text_that_does_not_start_with_a_turn_is_refused(bad):
    message = '{} does not start with a "Human:" turn after a blank line.'
    assert refused(bad, HI + " a") == ("not_a_dialogue", "chosen", message.format("chosen"))
    assert refused(HI + " a", bad) == ("not_a_dialogue", "rejected", message.format("rejected"))


def test_a_dialogue_that_ends_with_the_human_has_no_response():
    assert refused(HI + " a\n\nHuman: Bye", HI + " b") == ("no_response", "chosen", "chosen ends with a Human turn.")
    assert refused(HI + " a", "\n\nHuman: Hi") == ("no_response", "rejected", "rejected ends with a Human turn.")


def test_fields_that_are_missing_or_not_strings_are_named():
    with pytest.raises(RowError) as caught:
        adapt({"chosen": HI, "id": 1}, SourceOptions("text"))
    assert str(caught.value) == (
        "rejected is missing; the row has chosen, id. [missing_field]\n"
        "  Complete the row in the raw file, or remove it."
    )
    assert refused(None, HI) == ("missing_field", "chosen", "chosen is null.")
    assert refused(HI, ["x"]) == ("wrong_type", "rejected", "rejected is list, not a string.")
    with pytest.raises(RowError, match="the row has no fields"):
        adapt({}, SourceOptions("text"))


def test_messages_are_refused_if_they_would_not_give_back_the_raw_string():
    assert refused("\n\nHuman:Hi\n\nAssistant: a", "\n\nHuman:Hi\n\nAssistant: b", "conversational") == (
        "not_recoverable",
        "chosen",
        'chosen has no space after a "Human:".',
    )
    assert refused(HI + " a", HI + "b", "conversational")[:2] == ("not_recoverable", "rejected")


def test_red_team_attempts_are_refused_as_a_file(tmp_path):
    path = tmp_path / "red_team_attempts.jsonl"
    row = {"transcript": HI + " a", "min_harmlessness_score_transcript": -1.5, "rating": 4.0, "num_params": "52B"}
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(InputError) as caught:
        convert("hh-rlhf", [path], output=tmp_path / "out")
    assert str(caught.value) == (
        f"{tmp_path.name}/red_team_attempts.jsonl: red-team-attempts has single transcripts with harm ratings, not "
        "preference pairs.\n"
        "  Leave this file out, and convert the other folders of hh-rlhf."
    )
    assert not (tmp_path / "out").exists()


# Any two strings.

PIECES = st.sampled_from([" ", "\n", "\n\n", "a", "b", "é", "Human:", "Assistant:", HUMAN, ASSISTANT])
STRINGS = st.lists(PIECES, max_size=8).map("".join)
TURNS = st.lists(st.tuples(st.sampled_from([HUMAN, ASSISTANT]), STRINGS.map(lambda text: " " + text)), max_size=3).map(
    lambda turns: "".join(speaker + text for speaker, text in turns)
)


@st.composite
def transcripts(draw: st.DrawFn) -> tuple[str, str]:
    """Generate two strings: usually dialogues with a shared beginning, sometimes anything."""
    if draw(st.integers(0, 9)) == 0:
        return draw(STRINGS), draw(STRINGS)
    beginning = HUMAN + " " + draw(STRINGS) + draw(TURNS) + draw(st.sampled_from(["", ASSISTANT]))
    return beginning + draw(TURNS), beginning + draw(TURNS)


def marker_ends(transcript: str) -> list[tuple[str, int]]:
    """Return speaker and end of each role marker, by searching from one to the next."""
    found, position = [], 0
    while True:
        starts = {m: transcript.find(m, position) for m in (HUMAN, ASSISTANT) if transcript.find(m, position) >= 0}
        if not starts:
            return found
        marker = min(starts, key=lambda m: starts[m])
        position = starts[marker] + len(marker)
        found.append((marker, position))


def response_start(chosen: str, rejected: str) -> int | str:
    """Return the definition: where the text of the last shared Assistant turn starts, or the code of the refusal."""
    for transcript in (chosen, rejected):
        if not transcript.startswith((HUMAN, ASSISTANT)):
            return "not_a_dialogue"
        if marker_ends(transcript)[-1][0] == HUMAN:
            return "no_response"
    common = set(marker_ends(chosen)) & set(marker_ends(rejected))
    starts = [end for marker, end in common if marker == ASSISTANT and chosen[:end] == rejected[:end]]
    start = max(starts, default=0)
    if start <= len(ASSISTANT):  # there is no Human turn
        return "prompts_diverge"
    if any(marker == HUMAN and end > start for side in (chosen, rejected) for marker, end in marker_ends(side)):
        return "prompts_diverge"
    return start


@settings(max_examples=250, deadline=None)
@given(transcripts())
@example((HI + " a", HI + " b"))
@example((HI, HI))
@example((HI + " a" + ASSISTANT, HI + " a" + ASSISTANT + " b"))
@example((ASSISTANT + " a", ASSISTANT + " b"))
def test_any_two_strings_are_split_as_defined_or_refused(both):
    chosen, rejected = both
    expected = response_start(chosen, rejected)
    if isinstance(expected, str):
        assert refused(chosen, rejected)[0] == expected
    else:
        assert text_pair(chosen, rejected) == (chosen[:expected], chosen[expected:], rejected[expected:])
        # Both sides are split at the same position, so each raw string comes back byte for byte.
        assert text_pair(chosen, rejected)[0] + text_pair(chosen, rejected)[2] == rejected


@settings(max_examples=200, deadline=None)
@given(TURNS, STRINGS, STRINGS)
def test_the_fast_path_agrees_with_the_definition_for_every_row_it_handles(turns, chosen, rejected):
    chosen, rejected = HI + turns + ASSISTANT + chosen, HI + turns + ASSISTANT + rejected
    assert len(_simple_prompt(chosen, rejected)) in (0, response_start(chosen, rejected))


def test_the_fast_path_handles_a_regular_row():
    assert _simple_prompt(HI + " a", HI + " b") == HI
    assert _simple_prompt(HI, HI + " b") == HI


@settings(max_examples=150, deadline=None)
@given(transcripts())
def test_messages_give_back_the_raw_strings_of_rows_that_are_not_refused(both):
    chosen, rejected = both
    expected = response_start(chosen, rejected)
    turns = [text for side in both for text in re.split("\n\n(?:Human|Assistant):", side)[1:]]
    if isinstance(expected, str) or not all(text.startswith(" ") for text in turns):
        # The text form keeps every byte, so this is the only additional reason.
        assert refused(chosen, rejected, "conversational")[0] == (
            expected if isinstance(expected, str) else "not_recoverable"
        )
        return
    pair = adapt({"chosen": chosen, "rejected": rejected}, SourceOptions("conversational"))
    assert isinstance(pair, ConversationalPair)
    for response, raw in ((pair.chosen, chosen), (pair.rejected, rejected)):
        assert render_turns((m.role, m.content) for m in [*pair.prompt, *response]) == raw
    assert render_turns((m.role, m.content) for m in pair.prompt) == chosen[: expected - len(ASSISTANT)]


# Real rows.


@pytest.fixture(scope="module")
def real_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 1,500 rows of harmless-base/test."""
    if not REAL_ROWS:
        pytest.skip("set DPO_DATA_REAL_ROWS to a folder with the files of Anthropic/hh-rlhf to test its real rows")
    source = next(path for path in (Path(REAL_ROWS, name) for name in REAL_FILES) if path.is_file())
    folder = tmp_path_factory.mktemp("real") / "hh-rlhf"
    folder.mkdir()
    with gzip.open(source, "rb") as lines, gzip.open(folder / REAL_FILES[0], "wb") as first:
        first.writelines(itertools.islice(lines, 1500))
    return folder / REAL_FILES[0]


@pytest.fixture(scope="module")
def real_rows(real_file: Path) -> dict[int, dict[str, str]]:
    """The real rows by line number."""
    with gzip.open(real_file, "rt", encoding="utf-8", newline="\n") as lines:
        return {number: json.loads(line) for number, line in enumerate(lines, 1)}


#: Rows whose chosen ends with "Assistant:" and no reply.
EMPTY_REPLIES = {87, 517, 926, 1104}


@pytest.mark.parametrize("form", ["text", "conversational"])
def test_every_real_row_is_exactly_recoverable_or_quarantined_for_its_empty_reply(real_file, real_rows, form, tmp_path):
    assert len(real_rows) == 1500
    manifest = convert("hh-rlhf", [real_file], output=tmp_path / "out", form=form)
    kept = {}
    for batch in open_prepared(tmp_path / "out").batches("test"):
        for row in batch.to_pylist():
            file, _, line = row["origin"].rpartition(":")
            assert file == f"{real_file.parent.name}/{real_file.name}"
            kept[int(line)] = row
    for line, row in kept.items():
        for side in ("chosen", "rejected"):
            if form == "text":
                assert row["prompt"] + row[side] == real_rows[line][side], line
            else:
                messages = [(m["role"], m["content"]) for m in row["prompt"] + row[side]]
                assert render_turns(messages) == real_rows[line][side], line
    quarantine = (tmp_path / "out" / "quarantine" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    reasons = {row["line"]: (row["code"], row["field"]) for row in map(json.loads, quarantine)}
    assert reasons == dict.fromkeys(EMPTY_REPLIES, ("empty_response", "chosen"))
    assert all(real_rows[line]["chosen"].rstrip().endswith("\n\nAssistant:") for line in EMPTY_REPLIES)
    assert kept.keys() | reasons.keys() == real_rows.keys()
    assert (manifest.rows_read, manifest.pairs, manifest.quarantined) == (1500, 1496, 4)
