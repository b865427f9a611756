"""Clean generated rows of the fault corpus.

They resemble defects: one-sided refusals, lists and addresses without a full stop, code with angle brackets, version
numbers, dates and order numbers, questions in six languages.
"""

import random
from typing import Any

Row = dict[str, Any]


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

#: Sentences in other languages, joined in any order.
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
#: Responses that resemble a defect but are clean.
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
    """Generator of clean texts from one seed; no two questions are equal."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.number = 0

    def pick(self, *options: Any) -> Any:
        return self.random.choice(options)

    def fill(self, template: str) -> str:
        """Return a template with random words in its fields."""
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

    def prose(self, minimum: int = 2) -> str:
        return " ".join(self.sentence() for _ in range(self.random.randint(minimum, minimum + 4)))

    def response(self) -> str:
        """Return prose, or in 40% of cases a text that resembles a defect."""
        if self.random.random() < 0.6:
            return self.prose()
        return self.fill(self.random.choice(TRAPS).replace("{prose}", self.prose()))

    def foreign(self, language: str) -> str:
        sentences = self.random.sample(FOREIGN[language], 3)
        return ("" if language == "ja" else " ").join(sentences)

    def row(self) -> Row:
        """Return a clean row of the source pairs."""
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
