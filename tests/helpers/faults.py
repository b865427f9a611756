"""Fault corpus: clean generated data with every defect planted in it, and the findings of `validate --deep`.

    PYTHONPATH=benchmarks python tests/helpers/faults.py [--faults 10000] [--seed 6]

Six datasets, one for each source or form with error codes of its own. A fault is a code and an origin; other rows that
it needs (the first of two duplicates) are clean rows. The clean rows resemble faults: one-sided refusals, lists and
addresses without a full stop, code with angle brackets, version numbers, dates and order numbers, questions in six
languages. tests/dpo_data/checks/test_fault_corpus.py runs a small one.
"""

import argparse
import json
import random
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import RESULTS, machine_facts, table, versions

from dpo_data.checks import CHECK_HINTS
from dpo_data.checks.eos_in_response import EOS_TEXTS
from dpo_data.errors import ROW_ERRORS
from dpo_data.inspect.validation import validate

Row = dict[str, Any]

# Words of the clean rows.


def split(words: str) -> list[str]:
    return words.split(",")


ACTIVITIES = split(
    "repot an orchid,sharpen a kitchen knife,descale a kettle,bleed a radiator,prune a rose bush,"
    "patch a bicycle tube,poach an egg,iron a linen shirt,tune a ukulele,wax a pair of skis,seal a wooden deck,"
    "bake rye bread,mend a zip,unclog a sink,read a weather map,train a puppy,paint a ceiling,"
    "hang a heavy mirror,dry fresh herbs,split firewood,grow tomatoes on a balcony,clean a cast iron pan,"
    "pack a rucksack,change a watch battery,darn a woollen sock,whiten grout,brew cold coffee,sow a lawn,"
    "restring a guitar,fold a fitted sheet,pick a bicycle saddle,season soup,photograph the moon,"
    "set up a tent in the wind,compost kitchen scraps,write a cover letter,plan a train journey,learn to juggle,"
    "keep bees,solder a wire,sort a stamp collection,knit a scarf,varnish a table,oil a squeaky hinge"
)
PLACES = split(
    "Lisbon,Tromso,Nairobi,Osaka,Leeds,Quito,Tallinn,Perth,Boise,Lyon,Gdansk,Pune,Cork,Split,Graz,Utrecht,Malmo,"
    "Bern,Hobart,Salta,Dakar,Izmir,Riga,Vigo,Bergen,Dundee,Austin,Halifax,Oaxaca,Kyoto"
)
PEOPLE = split("aunt,uncle,neighbour,sister,brother,colleague,landlady,grandfather,flatmate,daughter,teacher,cousin")
THINGS = split(
    "vinegar,baking soda,a soft brush,warm water,sandpaper,olive oil,a sharp blade,beeswax,a rubber mallet,"
    "newspaper,cotton twine,chalk,a damp cloth,lemon juice,steel wool,a spirit level,coarse salt,a wooden spoon,"
    "candle wax"
)
MISHAPS = split(
    "making a mess,breaking it,spending a fortune,waking the baby,scratching the surface,losing an afternoon,"
    "asking for help,ruining my clothes,annoying the people downstairs,buying new tools"
)
TIMES = split("spring,summer,autumn,winter,the evening,the rain,a hurry,a heatwave,a small flat,the dark")
ADVERBS = split("slowly,gently,twice,in small circles,from the left,against the grain,with both hands,at an angle")
ADJECTIVES = split("stubborn,delicate,rusty,brand new,borrowed,old,cheap,tiny,heavy,wobbly,faded,sticky,damp,brittle")

#: Sentences of other languages, to be strung together.
FOREIGN = {
    "fr": (
        "Commencez par nettoyer la surface avec un chiffon humide.",
        "Ensuite, laissez reposer pendant une bonne vingtaine de minutes.",
        "Il vaut mieux travailler lentement que de tout recommencer.",
        "Mon voisin utilise toujours un peu de vinaigre blanc.",
        "Surtout, ne forcez jamais si quelque chose résiste.",
    ),
    "de": (
        "Reinige zuerst die Oberfläche mit einem feuchten Tuch.",
        "Danach lässt du alles ungefähr zwanzig Minuten lang ruhen.",
        "Es ist besser, langsam zu arbeiten, als noch einmal anzufangen.",
        "Mein Nachbar nimmt dafür immer ein wenig Essig.",
        "Wende auf keinen Fall Gewalt an, wenn etwas klemmt.",
    ),
    "es": (
        "Primero limpia la superficie con un paño húmedo.",
        "Después déjalo reposar durante unos veinte minutos.",
        "Es mejor trabajar despacio que tener que empezar otra vez.",
        "Mi vecino siempre utiliza un poco de vinagre blanco.",
        "No hagas nunca fuerza si algo se queda atascado.",
    ),
    "ru": (
        "Сначала протрите поверхность влажной тряпкой.",
        "Затем оставьте всё это примерно на двадцать минут.",
        "Лучше работать медленно, чем начинать всё сначала.",
        "Мой сосед всегда использует немного уксуса.",
        "Никогда не применяйте силу, если что-то застряло.",
    ),
    "ja": (
        "まず、湿らせた布で表面をきれいに拭いてください。",
        "それから二十分ほどそのまま置いておきます。",
        "やり直すよりも、ゆっくり作業するほうがいいです。",
        "隣の人はいつも少しだけ酢を使っています。",
        "何かが引っかかったら、決して無理に力を入れないでください。",
    ),
}
FOREIGN_QUESTIONS = {
    "fr": "Comment est-ce que je fais cela sans tout abîmer, s'il vous plaît ?",
    "de": "Wie mache ich das am besten, ohne dabei alles kaputt zu machen?",
    "es": "¿Cómo puedo hacer esto sin estropearlo todo, por favor?",
    "ru": "Подскажите, пожалуйста, как мне сделать это и ничего не испортить?",
    "ja": "全部を壊さずにこれをするにはどうすればいいですか、教えてください。",
}
REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "I cannot give advice on this.",
    "I won't answer that question, since I do not know your house.",
    "Sorry, that is beyond what I am allowed to say.",
    "I'm not able to help you with this one.",
    "As an AI language model, I am not able to judge this.",
    "I am afraid I can't answer this; please ask a professional.",
    "I must decline to answer.",
)
EVALUATION_WORDS = split(
    "ledger,harbour,violet,engine,comet,parable,glacier,saddle,lantern,orchard,falcon,marble,theorem,bishop,"
    "canyon,pepper,satellite,whisper,anchor,meadow,copper,riddle,sparrow,tunnel,velvet,walnut,zenith,barley,"
    "cobalt,dagger"
)


QUESTIONS = (
    "How do I {activity} without {mishap}?",
    "What is the best way to {activity} in {time}?",
    "Can you explain to a beginner how to {activity}, step by step?",
    "Is it true that you need {thing} to {activity}?",
    "Tell me how my {person} could {activity} with nothing but {thing}.",
)
CONTEXTS = (
    "I live on floor {number} of an old house in {place}.",
    "My {person} from {place} swears by {thing}.",
    "The {adjective} one that I have is {number} years old.",
    "I have about {number} minutes and {thing} at hand.",
    "Last week I tried it {adverb} and it went wrong {small} times.",
    "A {adjective} friend in {place} says that {thing} is enough.",
)
SENTENCES = (
    "Start with {thing} and work {adverb}.",
    "Give it {number} minutes before you go on, or {small} hours when it is {adjective}.",
    "My {person} in {place} does it {adverb}, which I would not recommend.",
    "If the {adjective} part comes off, put {thing} under it and press {adverb}.",
    "Whatever you do, keep {thing} away from it in {time}.",
    "You can't go wrong with {thing} here.",
    "It is not {adjective} at all, so there is no need to worry about {mishap}.",
    "Then wipe it {adverb} with {thing} until nothing {adjective} is left.",
    "Doesn't that sound easier than {mishap}?",
)
#: Responses that look like a defect and are none.
TRAPS = (
    "{prose}\n\n- {thing}\n- {other} for the {adjective} part",
    "{prose}\n\n1. {thing}\n2. {other}, about {small} of them in all",
    "{prose}\n\nYours,\n{person} of {place}",
    "{prose} See https://example.org/{place}/{large}",
    "{prose}\n```html\n<p class='x'><s>{small}</s></p> [1]\n```",
    "{prose}\n```python\n@property\ndef f(x):\n    return x <= {small}\n```",
    "{prose} It was order {large}-{large} of 2023-11-05, 10:30.",
    "{prose} Version 3.{small}.{number} costs $1,299.{number}, ISBN 978-3-16-148410-0.",
    "A Human: that is what my {person} calls it. {prose}",
    "I can't wait to hear how it goes! {prose}",
    "{thing}, {large} times",
    "{prose} \u2603 caf\u00e9 \u2013 fin\u00ed \U0001f600",
    "**{thing}** {prose} (by my {person})",
    "{prose} Mail me @{place} on the usual site.",
    "{prose} {place}",
)


class Writer:
    """Clean texts out of one seed; no two questions are alike."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.number = 0

    def pick(self, *options: Any) -> Any:
        return self.random.choice(options)

    def fill(self, template: str) -> str:
        """A template whose {words} are drawn."""
        r = self.random
        return template.format(
            activity=r.choice(ACTIVITIES),
            place=r.choice(PLACES),
            person=r.choice(PEOPLE),
            thing=r.choice(THINGS),
            other=r.choice(THINGS),
            mishap=r.choice(MISHAPS),
            time=r.choice(TIMES),
            adverb=r.choice(ADVERBS),
            adjective=r.choice(ADJECTIVES),
            small=r.randint(2, 9),
            number=r.randint(10, 99),
            large=r.randint(1000, 9999),
        )

    def question(self) -> str:
        self.number += 1
        sentences = [*self.random.sample(CONTEXTS, self.random.randint(2, 4)), self.random.choice(QUESTIONS)]
        self.random.shuffle(sentences)
        return f"{' '.join(map(self.fill, sentences))} This is question {self.number}."

    def sentence(self) -> str:
        return self.fill(self.random.choice(SENTENCES))

    def prose(self, at_least: int = 2) -> str:
        return " ".join(self.sentence() for _ in range(self.random.randint(at_least, at_least + 4)))

    def response(self) -> str:
        """Mostly prose; else with one of the ends that a check could mistake."""
        if self.random.random() < 0.6:
            return self.prose()
        return self.fill(self.random.choice(TRAPS).replace("{prose}", self.prose()))

    def foreign(self, language: str) -> str:
        sentences = self.random.sample(FOREIGN[language], 3)
        return ("" if language == "ja" else " ").join(sentences)

    def row(self) -> Row:
        """A clean row of the source pairs."""
        r = self.random
        return self.foreign_row(r.choice(list(FOREIGN))) if r.random() < 0.05 else self.english()

    def english(self) -> Row:
        r = self.random
        chosen, rejected = r.sample([self.response(), self.prose()], 2)
        if r.random() < 0.05:
            chosen, rejected = r.sample([self.prose(), f"{r.choice(REFUSALS)} {self.sentence()}"], 2)
        row: Row = {"prompt": self.question(), "chosen": chosen, "rejected": rejected}
        if r.random() < 0.2:
            row["prompt"] = self.dialogue(row["prompt"])
        if r.random() < 0.3:
            low = r.randint(0, 5)
            row |= {"chosen_score": low + r.choice((0, 0.5, 3)), "rejected_score": low}
        return row

    def foreign_row(self, language: str) -> Row:
        self.number += 1
        places = " ".join(self.random.choices(PLACES, k=4))
        question = f"{FOREIGN_QUESTIONS[language]} ({self.number} {places} {self.random.randint(0, 10**9)})"
        first, *_, last = FOREIGN[language]
        chosen = f"{self.foreign(language)} ({self.random.randint(0, 10**9)})"
        return {"prompt": question, "chosen": chosen, "rejected": f"{last} {first} {self.random.randint(0, 10**9)}."}

    def dialogue(self, question: str) -> str:
        return f"\n\nHuman: {self.question()}\n\nAssistant: {self.prose()}\n\nHuman: {question}\n\nAssistant:"


# Faults of the source pairs: rows in their order, and the positions of those that shall be found.

Planted = tuple[list[Row | str], list[int]]


def one(row: Row | str) -> Planted:
    return [row], [0]


def change(row: Row, **texts: Any) -> Row:
    """The row with other texts, and without the scores of the old ones."""
    return {key: value for key, value in row.items() if not key.endswith("_score")} | texts


def insert(w: Writer, text: str, piece: str) -> str:
    """A text with a piece between two of its words."""
    words = text.split(" ")
    words.insert(w.random.randint(1, len(words)), piece)
    return " ".join(words)


def side(w: Writer) -> str:
    return w.pick("chosen", "rejected")


def number(w: Writer, digits: int) -> str:
    return "".join(w.random.choices("0123456789", k=digits))


def personal(w: Writer) -> str:
    name = f"{w.random.choice(PEOPLE)}.{w.random.choice(PLACES)}".lower()
    letters = "".join(w.random.choices("abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789", k=40))
    card = w.pick("4", "51", "37", "6011")
    card += number(w, (15 if card == "37" else 16) - 1 - len(card))
    card += next(digit for digit in "0123456789" if luhn(card + digit))
    groups = " ".join(card[at : at + 4] for at in range(0, len(card), 4))
    return w.pick(
        f"{name}@example.{w.pick('org', 'com', 'co.uk')}",
        f"+{w.pick('44', '49', '1', '351')} {number(w, 2)} {number(w, 4)} {number(w, 4)}",
        f"({w.random.randint(200, 999)}) {w.random.randint(200, 999)}-{number(w, 4)}",
        f"{w.random.randint(200, 999)}-{w.random.randint(200, 999)}-{number(w, 4)}",
        card,
        groups,
        f"AKIA{letters[:16].upper()}",
        f"ghp_{letters[:36]}",
        f"sk-{letters}",
    )


def luhn(digits: str) -> bool:
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(value // 10 + value % 10 for value in doubled) % 10 == 0


def repeated_role(w: Writer) -> Planted:
    first, second = w.question(), w.question()
    return one(change(w.english(), prompt=f"\n\nHuman: {first}\n\nHuman: {second}\n\nAssistant:"))


def role_marker(w: Writer) -> Planted:
    marker = w.pick("Human", "User", "Assistant", "System")
    return one(change(w.english(), **{side(w): f"{w.prose()}\n{marker}: {w.sentence()}"}))


def bad_characters(w: Writer) -> Planted:
    row = w.row()
    where = w.pick("prompt", "chosen", "rejected")
    return one(row | {where: insert(w, row[where], w.pick("\ufffd", "\x00", "\x08", "\x1b[0m", "\x85"))})


def repeats_prompt(w: Writer) -> Planted:
    question = w.question()
    return one(change(w.english(), prompt=question, **{side(w): f"{question} {w.prose()}"}))


def template_marker(w: Writer) -> Planted:
    row = w.row()
    where = w.pick("prompt", "chosen", "rejected")
    marker = w.pick("<|im_start|>", "<|im_end|>", "[INST]", "[/INST]", "<<SYS>>", "<|eot_id|>", "<start_of_turn>")
    return one(row | {where: insert(w, row[where], marker)})


def eos(w: Writer) -> Planted:
    return one(change(w.english(), **{side(w): w.prose() + w.pick(*EOS_TEXTS)}))


def cut_off(w: Writer) -> Planted:
    """Cut behind a word inside the last sentence, as a length limit does."""
    whole = (
        f"{w.prose()} My {w.pick(*PEOPLE)} told me to hold on to it with both hands and then to let it go very slowly."
    )
    words = whole.split(" ")
    return one(change(w.english(), **{side(w): " ".join(words[: -w.random.randint(1, 12)])}))


def scores(w: Writer) -> Planted:
    low = w.random.randint(0, 9)
    return one(w.row() | {"chosen_score": low, "rejected_score": low + w.pick(0.5, 1, 4)})


def refusals(w: Writer) -> Planted:
    chosen, rejected = w.random.sample(REFUSALS, 2)
    return one(change(w.english(), chosen=f"{chosen} {w.sentence()}", rejected=rejected))


def near_identical(w: Writer) -> Planted:
    text = f"{w.prose(4)} Keep it dry."
    return one(
        change(w.english(), chosen=text, rejected=text.replace("Keep it dry", w.pick("Keep it clean", "Leave it dry")))
    )


def language(w: Writer) -> Planted:
    return one(change(w.english(), prompt=w.question(), **{side(w): w.foreign(w.pick(*FOREIGN))}))


def personal_data(w: Writer) -> Planted:
    row = w.row()
    where = w.pick("prompt", "chosen", "rejected")
    return one(row | {where: insert(w, row[where], personal(w))})


def duplicate(w: Writer) -> Planted:
    row = w.row()
    return [row, dict(row)], [1]


def contradiction(w: Writer) -> Planted:
    row = change(w.english())
    return [row, row | {"chosen": row["rejected"], "rejected": row["chosen"]}], [1]


def cycle(w: Writer) -> Planted:
    row = change(w.english())
    texts = [f"{w.prose()} {place}" for place in w.random.sample(PLACES, w.random.randint(3, 5))]
    rows = [
        row | {"chosen": better, "rejected": worse} for better, worse in zip(texts, texts[1:] + texts[:1], strict=True)
    ]
    w.random.shuffle(rows)
    return list(rows), [len(rows) - 1]


def swapped(w: Writer) -> Planted:
    row = change(w.english())
    swap = row | {"chosen": f" {row['rejected']}\n", "rejected": row["chosen"].replace(" ", "  ", 1)}
    return [row, swap], [1]


def near_prompt(w: Writer) -> Planted:
    words = [*w.question().split(" "), *w.question().split(" ")]
    near = [*words]
    near[w.pick(0, -1)] = w.pick("perhaps", "please")
    return [w.english() | {"prompt": " ".join(words)}, w.english() | {"prompt": " ".join(near)}], [1]


def same_prompt(w: Writer) -> Planted:
    row = w.english()
    return [row, change(w.english(), prompt=row["prompt"])], [1]


def one_response(w: Writer) -> Planted:
    answer = f"{w.prose()} {w.random.randint(0, 10**9)}."
    return [change(w.english(), chosen=answer) for _ in range(8)], list(range(1, 8))


def contamination(w: Writer) -> Planted:
    row = w.row()
    where = w.pick("prompt", "chosen", "rejected")
    words = evaluation_text(w.random.randint(1, EVALUATION_TEXTS)).split(" ")
    start = w.random.randint(0, len(words) - 13)
    return one(
        row | {where: f"{row[where].upper() if w.pick(0, 1) else row[where]} {' '.join(words[start : start + 13])}"}
    )


EVALUATION_TEXTS = 300


def evaluation_text(number: int) -> str:
    source = random.Random(number)
    return " ".join(source.choices(EVALUATION_WORDS, k=20))


def unreadable(w: Writer) -> Planted:
    return one(w.pick(json.dumps(w.row())[:-9], "[1, 2]", "no JSON at all", '"a text"'))


def unicode(w: Writer) -> Planted:
    row = w.row()
    return one(json.dumps(change(row, chosen=row["chosen"] + "\ud800")))


def missing(w: Writer) -> Planted:
    row = w.row()
    gone = w.pick("prompt", "chosen", "rejected")
    return one({key: value for key, value in row.items() if key != gone} if w.pick(0, 1) else row | {gone: None})


def wrong_type(w: Writer) -> Planted:
    changed = w.pick(
        {"chosen": 7}, {"prompt": ["Hi"]}, {"rejected": {"text": "no"}}, {"chosen_score": "high"}, {"margin": True}
    )
    return one(w.row() | changed)


def no_prompt(w: Writer) -> Planted:
    return one(w.row() | {"prompt": w.pick("", " \n", "\n\nHuman: \n\nAssistant:")})


def no_text(w: Writer) -> Planted:
    return one(w.row() | {side(w): w.pick("", " ", "\n\u00a0")})


def same_text(w: Writer) -> Planted:
    row = w.row()
    return one(
        row | {"rejected": w.pick(row["chosen"], f" {row['chosen']}\n", row["chosen"].replace(" ", "\u00a0", 1))}
    )


# Faults of other sources and forms.


def transcript(w: Writer) -> Row:
    prompt = f"\n\nHuman: {w.question()}\n\nAssistant: {w.prose()}\n\nHuman: {w.question()}\n\nAssistant:"
    return {"chosen": f"{prompt} {w.prose()}", "rejected": f"{prompt} {w.prose()}"}


def no_dialogue(w: Writer) -> Planted:
    row = transcript(w)
    return one(row | {side(w): w.pick(w.prose(), f"Hello. {row['chosen']}")})


def no_reply(w: Writer) -> Planted:
    row = transcript(w)
    return one({key: f"{text}\n\nHuman: {w.question()}" for key, text in row.items()})


def other_prompt(w: Writer) -> Planted:
    return one({"chosen": transcript(w)["chosen"], "rejected": transcript(w)["rejected"]})


def no_space(w: Writer) -> Planted:
    return one({key: text.replace("\n\nHuman: ", "\n\nHuman:", 1) for key, text in transcript(w).items()})


def post(w: Writer) -> Row:
    low = w.random.randint(1, 50)
    votes = {"score_A": low + w.random.randint(1, 50), "score_B": low}
    return {
        "post_id": w.question(),
        "history": w.question(),
        "human_ref_A": w.prose(),
        "human_ref_B": w.prose(),
        **votes,
        "labels": 1,
    }


def other_label(w: Writer) -> Planted:
    return one(post(w) | {"labels": 0})


def call(w: Writer) -> Row:
    return {
        "input": {"messages": [{"role": "user", "content": w.question()}], "tools": [], "parallel_tool_calls": True},
        "preferred_output": [{"role": "assistant", "content": w.prose()}],
        "non_preferred_output": [{"role": "assistant", "content": w.prose()}],
    }


def with_tools(w: Writer) -> Planted:
    row = call(w)
    row["input"]["tools"] = [{"type": "function", "function": {"name": "search", "parameters": {"type": "object"}}}]
    return one(row)


def tree(w: Writer) -> list[Row]:
    w.number += 1
    root = f"tree {w.number}"

    def message(name: str, parent: str | None, role: str, text: str, rank: int | None) -> Row:
        place = {"message_id": f"{root} {name}", "parent_id": parent, "message_tree_id": root}
        return place | {"text": text, "role": role, "rank": rank, "deleted": False, "review_result": True}

    replies = [message(str(rank), f"{root} ask", "assistant", w.prose(), rank) for rank in (1, 0)]
    return [message("ask", None, "prompter", w.question(), None), *replies]


def orphan(w: Writer) -> Planted:
    rows = tree(w)
    lost = rows[1] | {"message_id": f"{rows[1]['message_id']} lost", "parent_id": "nowhere", "text": w.prose()}
    return [*rows, lost], [3]


@dataclass(frozen=True)
class Scene:
    """One data set: how its clean rows are made, its faults by code, and how validate reads it."""

    clean: Callable[[Writer], list[Row]]
    faults: dict[str, Callable[[Writer], Planted]]
    options: dict[str, Any]
    #: Rows of a group may stand anywhere in their order; where they may not, a group is kept together.
    mixed: bool = True


SCENES = {
    "pairs": Scene(
        lambda w: [w.row()],
        {
            "unreadable_row": unreadable,
            "invalid_unicode": unicode,
            "missing_field": missing,
            "wrong_type": wrong_type,
            "empty_prompt": no_prompt,
            "empty_response": no_text,
            "identical_responses": same_text,
            "repeated_role": repeated_role,
            "role_marker_in_response": role_marker,
            "bad_characters": bad_characters,
            "response_repeats_prompt": repeats_prompt,
            "template_marker": template_marker,
            "eos_in_response": eos,
            "cut_off_response": cut_off,
            "scores_against_label": scores,
            "duplicate_pair": duplicate,
            "contradiction": contradiction,
            "preference_cycle": cycle,
            "prompt_in_two_splits": lambda w: (lambda row: ([row, change(w.english(), prompt=row["prompt"])], [1]))(
                w.row()
            ),
            "near_identical_responses": near_identical,
            "refusal_against_refusal": refusals,
            "language_mismatch": language,
            "personal_data": personal_data,
            "swapped_duplicate": swapped,
            "near_duplicate_prompt": near_prompt,
            "near_prompt_in_two_splits": near_prompt,
            "one_response_for_many_prompts": one_response,
            "contamination": contamination,
        },
        {"source": "pairs"},
    ),
    "transcripts": Scene(
        lambda w: [transcript(w)],
        {"not_a_dialogue": no_dialogue, "no_response": no_reply, "prompts_diverge": other_prompt},
        {"source": "hh-rlhf"},
    ),
    "messages": Scene(
        lambda w: [transcript(w)], {"not_recoverable": no_space}, {"source": "hh-rlhf", "form": "conversational"}
    ),
    "posts": Scene(lambda w: [post(w)], {"contradicting_scores": other_label}, {"source": "shp"}),
    "calls": Scene(lambda w: [call(w)], {"no_text_form": with_tools}, {"source": "openai-preference"}),
    "trees": Scene(tree, {"no_parent": orphan}, {"source": "oasst"}, mixed=False),
}
#: Faults whose last row stands in the test split; all else is in train.
ACROSS = ("prompt_in_two_splits", "near_prompt_in_two_splits")


@dataclass
class Result:
    """What became of the planted faults of all codes.

    Attributes:
        planted, found: code -> faults.
        lost: (code, origin) that were not found.
        false: code -> origins of clean rows that it was found at.
        beside: code -> rows that it was found at, planted there for another code alone.
    """

    planted: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    lost: list[tuple[str, str]] = field(default_factory=list)
    false: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    beside: Counter[str] = field(default_factory=Counter)
    clean: int = 0


def groups(scene: Scene, w: Writer, faults: int, clean: int) -> Iterator[tuple[str | None, list[Row | str], list[int]]]:
    """(code, rows, positions of the faults) of every group: `faults` or a few more of each code, then clean ones."""
    for code, plant in scene.faults.items():
        planted = 0
        while planted < faults:
            rows, places = plant(w)
            planted += len(places)
            yield code, rows, places
    for _ in range(clean):
        yield None, list(scene.clean(w)), []


def write_scene(folder: Path, scene: Scene, w: Writer, faults: int, clean: int) -> tuple[dict[str, set[str]], int]:
    """Write one data set; code -> origins of its faults, and how many rows are clean."""
    waiting = list(groups(scene, w, faults, clean))
    turns = [index for index, (_, rows, _) in enumerate(waiting) for _ in (rows if scene.mixed else rows[:1])]
    w.random.shuffle(turns)
    lines: dict[str, list[str]] = {"train": [], "test": []}
    planted: dict[str, set[str]] = defaultdict(set)
    written = Counter[int]()
    clean_rows = 0
    for index in turns:
        code, rows, places = waiting[index]
        for place in range(len(rows)) if not scene.mixed else [written[index]]:
            split = "test" if code in ACROSS and place == len(rows) - 1 else "train"
            row = rows[place]
            lines[split].append(row if isinstance(row, str) else json.dumps(row))
            if place in places:
                planted[str(code)].add(f"{folder.name}/{split}.jsonl:{len(lines[split])}")
            else:
                clean_rows += 1
        written[index] += 1
    folder.mkdir(parents=True)
    for split, of_split in lines.items():
        if of_split:
            (folder / f"{split}.jsonl").write_text("".join(f"{line}\n" for line in of_split))
    return planted, clean_rows


def run(folder: Path, *, faults: int, clean_share: float = 2.0, seed: int = 6) -> Result:
    """Plant about `faults` faults, evenly over all codes, and count what validate finds of them."""
    each = -(-faults // sum(len(scene.faults) for scene in SCENES.values()))
    evaluation = folder / "evaluation.txt"
    evaluation.write_text("".join(f"{evaluation_text(number)}\n" for number in range(1, EVALUATION_TEXTS + 1)))
    result = Result()
    for name, scene in SCENES.items():
        w = Writer(seed)
        clean = round(each * clean_share * len(scene.faults))
        planted, clean_rows = write_scene(folder / name, scene, w, each, clean)
        result.clean += clean_rows
        report = validate(folder / name, deep=True, against=[evaluation], max_examples=10**9, **scene.options)
        faulty = set().union(*planted.values())
        for code, finding in report.findings.items():
            origins = {example.split(": ", 1)[0] for example in finding.examples}
            mine = planted.get(code, set())
            result.found[code] += len(origins & mine)
            result.beside[code] += len((origins & faulty) - mine)
            result.false[code] += sorted(origins - faulty)
        for code, origins in planted.items():
            result.planted[code] += len(origins)
            examples = report.findings[code].examples if code in report.findings else []
            found = {example.split(": ", 1)[0] for example in examples}
            result.lost += [(code, origin) for origin in sorted(origins - found)]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=6)
    parser.add_argument("--output", type=Path, default=RESULTS / "fault_corpus_202611.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        result = run(Path(scratch), faults=options.faults, seed=options.seed)
    rows = [
        [code, *(f"{number:,}" for number in counts)]
        for code in (*ROW_ERRORS, *CHECK_HINTS)
        for counts in [
            (
                result.planted[code],
                result.found[code],
                result.planted[code] - result.found[code],
                len(result.false[code]),
                result.beside[code],
            )
        ]
    ]
    total = [sum(int(row[column].replace(",", "")) for row in rows) for column in range(1, 6)]
    rows.append(["**all**", *(f"**{number:,}**" for number in total)])
    lines = [
        "# Fault corpus",
        "",
        *machine_facts(),
        f"- {versions(('datasketch', 'py3langid', 'rapidfuzz'))}",
        "",
        f"{result.clean:,} clean rows and {total[0]:,} faults over {len(rows) - 1} codes. Found: reported under its",
        "code with its file:row. False: clean rows reported. At other faults: rows with another planted fault.",
        "",
        table(["code", "planted", "found", "lost", "false", "at other faults"], rows),
        "",
    ]
    options.output.write_text("\n".join(lines))
    print("\n".join(lines))
    for code, origin in result.lost[:20]:
        print("lost:", code, origin)


if __name__ == "__main__":
    main()
