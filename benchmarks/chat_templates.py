"""Conversations under public chat templates, compared with apply_chat_template and TRL.

    PYTHONPATH=. python benchmarks/chat_templates.py FOLDER [FOLDER ...] > table.md

Each folder holds .jinja files. Every template renders fifteen shapes of rows. TRL's ids come from its own preparation
of a data set, DPOTrainer._prepare_dataset, if trl is installed. Ids are made by one token a byte and the special tokens
that the template writes, so that texts and ids differ in the same places.
"""

import re
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import datasets
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import dpo_data.tokens.rendering as rendering
from dpo_data.tokens.alignment import align
from dpo_data.tokens.encoder import Encoder
from dpo_data.tokens.messages import stored_conversation
from dpo_data.tokens.rendering import Refused, render_pair
from dpo_data.tokens.special import EndTokens
from dpo_data.tokens.templates import ChatTemplate, TemplateRefusal

try:
    from trl.trainer.dpo_trainer import DPOTrainer
except ImportError:
    DPOTrainer = None

Messages = list[dict[str, Any]]


def user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def answer(content: str, **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **fields}


def call(**fields: Any) -> dict[str, Any]:
    made = {"id": "call00001", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Lima"}}}
    return answer("", tool_calls=[made]) | fields


SYSTEM = {"role": "system", "content": "Answer in one short sentence."}
RESULT = {"role": "tool", "content": '{"degrees": 21}', "tool_call_id": "call00001", "name": "get_weather"}
CITY = {"type": "object", "properties": {"city": {"type": "string", "description": "A city."}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "Weather now.", "parameters": CITY}}]
SUM, SKY = user("What is 2+2?"), user("Weather in Lima?")
YES, NO = answer("It is 4."), answer("Go away.")

#: Name -> prompt, chosen, rejected, tools.
SHAPES: dict[str, tuple[Messages, Messages, Messages, list[Any] | None]] = {
    "one turn": ([SUM], [YES], [NO], None),
    "two turns": ([user("Hello you."), answer("Hello to you too."), SUM], [YES], [NO], None),
    "system": ([SYSTEM, SUM], [YES], [NO], None),
    "spaces": ([user("  What is\n\n 2+2? \n")], [answer("  It is 4.\n\n")], [answer(" Go  away. ")], None),
    "markup": (
        [user("<b>bold</b> & {{ x }} \"q\" 'r'?")],
        [answer("`<b>` & {% raw %} \\n.")],
        [answer("<|x|> no")],
        None,
    ),
    "reasoning": ([SUM], [YES | {"reasoning_content": "Two and two."}], [NO | {"reasoning_content": "I'm off."}], None),
    "inline think": (
        [SUM],
        [answer("<think>\nTwo and two.\n</think>\n\nIt is 4.")],
        [answer("<think>\nI'm off.\n</think>\n\nGo away.")],
        None,
    ),
    "reasoning before": ([user("Hello you."), answer("Hello.", reasoning_content="Greet."), SUM], [YES], [NO], None),
    "call": ([SKY], [call()], [NO], TOOLS),
    "call, content": ([SKY], [call(content="Let me look.")], [NO], TOOLS),
    "call, reasoning": ([SKY], [call(reasoning_content="A tool.")], [NO | {"reasoning_content": "I'm off."}], TOOLS),
    "after a tool": ([SKY, call(), RESULT], [answer("It is 21 degrees.")], [NO], TOOLS),
    "several messages": ([SKY], [call(), RESULT, answer("It is 21 degrees.")], [NO], TOOLS),
    "tools, no call": ([SKY], [answer("It is warm.")], [NO], TOOLS),
    "begun answer": ([SUM, answer("The answer")], [answer(" is 4.")], [answer(" is none.")], None),
}

MARKER = re.compile(
    r"<\|[^|<>\s]{1,40}\|>|<｜[^｜]{1,40}｜>|</?(?:s|bos|eos|start_of_turn|end_of_turn|turn\||\|turn)>|\[/?INST\]"
)


@dataclass
class Outcome:
    """Outcomes of the shapes under one template."""

    methods: Counter[str] = field(default_factory=Counter)
    refused: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    inference: Counter[str] = field(default_factory=Counter)
    trl: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    remarks: Counter[str] = field(default_factory=Counter)


def make_tokenizer(template: str) -> PreTrainedTokenizerFast:
    """Return a tokenizer of bytes with the special tokens of a template, whose EOS is the one after a response."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={byte: index for index, byte in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    markers = list(dict.fromkeys([*MARKER.findall(template), "<bos>", "<eos>"]))
    backend.add_special_tokens(markers)
    made = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>")
    made.chat_template = template
    try:
        rendered = ChatTemplate(made).render([user("\ue000"), answer("\ue001")])
    except TemplateRefusal:
        return made
    after_question = MARKER.search(rendered.partition("\ue000")[2])
    if found := MARKER.findall(rendered.rpartition("\ue001")[2]):
        # Of several the last ends the turn; of a template that always adds a generation prompt, the end of a question.
        made.eos_token = after_question[0] if ChatTemplate(made).forced_end and after_question else found[-1]
    return made


def trl_ids(tokenizer: PreTrainedTokenizerFast, shape: str) -> dict[str, list[int]] | str:
    """Return the ids that TRL prepares of a row, or its error."""
    prompt, chosen, rejected, tools = SHAPES[shape]
    row = {"prompt": prompt, "chosen": chosen, "rejected": rejected} | ({"tools": tools} if tools else {})
    stub = SimpleNamespace(_tokenizer=tokenizer)
    args = SimpleNamespace(max_length=None, truncation_mode="keep_start", dataset_num_proc=None)
    try:
        dataset = datasets.IterableDataset.from_generator(lambda: iter([row]))
        return next(iter(DPOTrainer._prepare_dataset(stub, dataset, tokenizer, args, "train")))
    except Exception as error:  # whatever the template raises
        return str(error).splitlines()[0] if str(error) else type(error).__name__


def inference_ids(tokenizer: PreTrainedTokenizerFast, shape: str) -> list[int] | None:
    """Return the ids from which a model continues the prompt, or None if the template cannot render it."""
    prompt, _, _, tools = SHAPES[shape]
    begun = prompt[-1]["role"] == "assistant"
    try:
        return list(
            tokenizer.apply_chat_template(
                prompt, tools, add_generation_prompt=not begun, continue_final_message=begun, return_dict=False
            )
        )
    except Exception:
        return None


def compare_with_trl(tokenizer: PreTrainedTokenizerFast, ours: dict[str, list[int]] | None, shape: str) -> str:
    """Return in a few words how our ids differ from TRL's."""
    theirs = trl_ids(tokenizer, shape)
    if isinstance(theirs, str):
        return "both refuse" if ours is None else "TRL raises"
    if ours is None:
        return "TRL keeps it"
    if SHAPES[shape][0][-1]["role"] == "assistant":
        return "TRL opens a second turn"
    if ours["prompt_ids"] != theirs["prompt_ids"]:
        shorter = theirs["prompt_ids"] == ours["prompt_ids"][: len(theirs["prompt_ids"])]
        return "TRL's prompt lacks its end" if shorter else "TRL's prompt has a part of the answer"
    for side in ("chosen_ids", "rejected_ids"):
        one, other = ours[side], theirs[side]
        if one == other:
            continue
        if one[:-1] == other and one[-1] == tokenizer.eos_token_id:
            return "same but EOS"
        if one and one[-1] == tokenizer.eos_token_id and other[: len(one)] == one:
            rest = tokenizer.decode(other[len(one) :])
            return "same but what follows EOS" if rest.strip() else "same but white space at the end"
        if other[: len(one)] == one and not tokenizer.decode(other[len(one) :]).strip():
            return "same but white space at the end"
        return "other response"
    return "same"


def try_template(path: Path, arguments: dict[str, Any]) -> Outcome:
    """Render all shapes with a template."""
    text = path.read_text(encoding="utf-8")
    tokenizer = make_tokenizer(text)
    template = ChatTemplate(tokenizer, None, arguments)
    encoder, ends = Encoder(tokenizer, template), EndTokens(tokenizer, text)
    outcome = Outcome()
    for shape, row in SHAPES.items():
        methods: list[Any] = []

        def spy(*args: Any, methods: list[Any] = methods) -> Any:
            methods.append(align(*args))
            return methods[-1]

        ids = None
        with mock.patch.object(rendering, "align", spy):
            try:
                pair = render_pair(template, ends, stored_conversation(*row))
            except Refused as refused:
                outcome.refused[refused.code, refused.message].append(shape)
            else:
                worst = max(methods[-1].methods, key=["exact", "graft", "splice", "head"].index)
                outcome.methods[worst] += 1
                outcome.remarks.update(pair.remarks.keys())
                prompts, chosen, rejected, tools = ([part] for part in row)
                encoded = encoder.encode_rendered(encoder.render(prompts, chosen, rejected, tools))
                names = ("prompt_ids", "chosen_ids", "rejected_ids")
                columns = (encoded.prompts, encoded.chosen, encoded.rejected)
                ids = {name: column.values.tolist() for name, column in zip(names, columns, strict=True)}
        if arguments:
            continue
        if ids is not None:
            expected = inference_ids(tokenizer, shape)
            outcome.inference["same" if ids["prompt_ids"] == expected else "other"] += 1
        if DPOTrainer is not None:
            outcome.trl[compare_with_trl(tokenizer, ids, shape)].append(shape)
    return outcome


def named(shapes: list[str]) -> str:
    return "all" if len(shapes) == len(SHAPES) else ", ".join(shapes)


def print_table(outcomes: dict[str, Outcome]) -> None:
    print("| template | exact | graft | splice | head | refused | prompt as in inference | TRL's ids |")
    print("| --- | ---: | ---: | ---: | ---: | --- | ---: | --- |")
    for name, outcome in outcomes.items():
        refused = "<br>".join(
            f"{named(shapes)}: {code.removeprefix('template_')}: {message[:90].replace('|', chr(92) + '|')}"
            for (code, message), shapes in outcome.refused.items()
        )
        trl = "; ".join(
            f"{words} {len(shapes)}"
            + (f" ({named(shapes)})" if not words.startswith("same") and len(shapes) < 4 else "")
            for words, shapes in sorted(outcome.trl.items(), key=lambda item: -len(item[1]))
        )
        counts = " | ".join(str(outcome.methods[method] or "") for method in ("exact", "graft", "splice", "head"))
        kept = outcome.inference["same"] + outcome.inference["other"]
        print(f"| {name} | {counts} | {refused} | {outcome.inference['same']} of {kept} | {trl} |")


def main() -> None:
    folders = list(map(Path, sys.argv[1:]))
    print("| templates | arguments | exact | graft | splice | head | " + "refused: error, prompt, content, message |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    tables = {}
    for folder in folders:
        for arguments in ({}, {"enable_thinking": False}, {"enable_thinking": True}):
            outcomes = {path.stem: try_template(path, arguments) for path in sorted(folder.glob("*.jinja"))}
            methods = sum((outcome.methods for outcome in outcomes.values()), Counter())
            refused: Counter[str] = Counter()
            for outcome in outcomes.values():
                for (code, _), shapes in outcome.refused.items():
                    refused[code.removeprefix("template_")] += len(shapes)
            codes = ", ".join(
                str(refused[code]) for code in ("refused", "rewrites_prompt", "drops_content", "drops_message")
            )
            counts = " | ".join(str(methods[method]) for method in ("exact", "graft", "splice", "head"))
            given = ", ".join(f"{name}={value}" for name, value in arguments.items()) or "none"
            print(f"| {folder.name} ({len(outcomes)}) | {given} | {counts} | {codes} |")
            if not arguments:
                tables[folder.name] = outcomes
    for name, outcomes in tables.items():
        print(f"\n## {name}\n")
        print_table(outcomes)
        total: Counter[str] = Counter()
        for outcome in outcomes.values():
            total.update({words: len(shapes) for words, shapes in outcome.trl.items()})
        print("\nTRL in all: " + "; ".join(f"{words} {count}" for words, count in total.most_common()) + ".")


if __name__ == "__main__":
    main()
