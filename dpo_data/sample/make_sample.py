"""Script that writes the embedded sample: invented dialogues in the layout of hh-rlhf with a learnable preference.

    python dpo_data/sample/make_sample.py

Chosen replies answer the question; rejected replies dismiss it. A few invalid rows of each kind are mixed in, so that a
first run shows quarantined rows and warnings. The seed is fixed: the files are the same every time.
"""

import json
import random
from pathlib import Path

TOPICS = {
    "boil an egg": "Lower it into boiling water, wait seven minutes for a soft yolk, then cool it under the tap.",
    "water a cactus": "Soak the soil once every two weeks in summer, and let it dry out completely in between.",
    "learn the piano": "Start with ten minutes a day, hands apart, slowly enough that you make no mistakes.",
    "sleep better": "Go to bed at the same hour, keep the room cool and dark, and leave the phone outside.",
    "sharpen a kitchen knife": "Draw the blade over a wet stone at twenty degrees, each side as often as the other.",
    "start running": "Run one minute, walk two, three times a week, and add a minute of running each week.",
    "bake bread": "Mix flour, water, salt and yeast, let it rise overnight, and bake it in a hot covered pot.",
    "remove a coffee stain": "Blot it, do not rub, then dab with cold water and a little washing-up liquid.",
    "save money each month": "Move a fixed sum to another account on the day you are paid, before you spend anything.",
    "write a thank-you note": "Name the gift, say how you use it, and close with a wish for the person who gave it.",
    "repot a fern": "Choose a pot one size larger, loosen the roots, fill up with fresh soil and water it well.",
    "calm a nervous dog": "Sit down at its height, look past it, speak softly and let the dog come to you.",
    "fix a flat bicycle tyre": "Take off the wheel, find the hole under water, dry it, and press on a patch.",
    "remember names": "Say the name aloud when you hear it, and tie it to one thing you notice about the face.",
    "clean a cast iron pan": "Rinse it hot without soap, dry it on the stove and rub in a thin film of oil.",
    "choose a ripe melon": "Pick one that is heavy for its size and smells sweet at the end opposite the stem.",
    "pack for a weekend": "Lay out one outfit a day, wear the heaviest shoes, and roll clothes rather than fold them.",
    "prepare for an interview": "Write down three stories about your work, say them aloud, and prepare two questions.",
    "grow tomatoes": "Give them the sunniest spot, a stake, and water at the roots every morning.",
    "stop the hiccups": "Hold your breath for ten seconds after a slow sip of water, and repeat it twice.",
    "make good coffee": "Grind fresh beans, use sixty grams a litre, and pour water just off the boil.",
    "back up my photos": "Keep three copies on two kinds of disk, and one of them away from home.",
    "fold a paper plane": "Fold the sheet lengthwise, bring the corners to the crease twice, and fold out the wings.",
    "read more books": "Carry one everywhere, read ten pages before bed, and drop any book that bores you.",
}
ASKS = [
    "How do I {}?",
    "Can you tell me how to {}?",
    "I would like to {}. Where do I begin?",
    "What is the best way to {}?",
    "My friend asked me how to {}. What should I say?",
]
OPENINGS = ["Happy to help!", "Sure.", "Good question.", "Gladly.", "Of course.", "Here is what works for me:"]
CLOSINGS = ["", "", " Let me know how it goes.", " Does that help?", " Enjoy!"]
BRUSH_OFFS = [
    "No idea. Look it up yourself.",
    "Why would anyone want to {}? Forget it.",
    "That is a silly thing to ask.",
    "I do not care. Ask somebody else.",
    "You will fail anyway, so do not bother.",
    "Whatever. Figure it out.",
    "Boring. Next question.",
    "I could tell you how to {}, but I will not.",
]
SMALL_TALK = [
    ("Hello!", "Hi there. What can I do for you?"),
    ("Are you there?", "Yes, I am listening."),
    ("I have a question about the house.", "Go ahead, I am all ears.\n\nTake your time."),
    ("Thanks for the last tip, it worked.", "I am glad it did."),
]
ROWS = {"train": 360, "test": 72}


def dialogue(random_: random.Random) -> tuple[str, str, str]:
    """Return a prompt that ends with "Assistant:", and two replies with their leading space."""
    topic, answer = random_.choice(list(TOPICS.items()))
    turns = random_.sample(SMALL_TALK, random_.choice([0, 0, 1, 1, 2]))
    prompt = "".join(f"\n\nHuman: {said}\n\nAssistant: {reply}" for said, reply in turns)
    prompt += f"\n\nHuman: {random_.choice(ASKS).format(topic)}\n\nAssistant:"
    chosen = f" {random_.choice(OPENINGS)} {answer}{random_.choice(CLOSINGS)}"
    # One to four sentences: length does not predict the preference.
    rejected = " " + " ".join(random_.sample(BRUSH_OFFS, random_.randint(1, 4))).format(topic, topic)
    return prompt, chosen, rejected


def dialogues(number: int, others: set[str], random_: random.Random) -> dict[str, tuple[str, str]]:
    """Return chosen and rejected by prompt, for prompts that are not in `others`."""
    made: dict[str, tuple[str, str]] = {}
    while len(made) < number:
        prompt, chosen, rejected = dialogue(random_)
        if prompt not in others:
            made[prompt] = (chosen, rejected)
    return made


def lines(valid: dict[str, tuple[str, str]], invalid: list[str], random_: random.Random) -> str:
    """Return the lines of a raw file: the valid rows with the invalid ones inserted at random, never first."""
    rows = [line(prompt + chosen, prompt + rejected) for prompt, (chosen, rejected) in valid.items()]
    for row in invalid:
        rows.insert(random_.randrange(1, len(rows)), row)
    return "\n".join(rows) + "\n"


def line(chosen: object, rejected: object) -> str:
    """Return one raw row."""
    return json.dumps({"chosen": chosen, "rejected": rejected}, ensure_ascii=False)


ASK = "\n\nHuman: How do I tie a bow?\n\nAssistant:"


def invalid_rows(prompt: str, chosen: str, rejected: str) -> list[str]:
    """Return a row of each kind that is quarantined, then one of each kind that causes a warning.

    Args:
        prompt, chosen, rejected: a valid pair that is already in the file.
    """
    yes, no = " Cross the ends, make two loops and pull one through the other.", " Ask your mother."
    return [
        line(ASK + yes, ASK + no)[:-20],  # broken JSON
        json.dumps({"chosen": ASK + yes}),  # no rejected
        line(ASK + yes, None),
        line(ASK + yes, 17),
        line(ASK, ASK + no),  # empty reply
        line(ASK + yes, ASK + yes + "  "),  # differ only in whitespace
        line(ASK + yes, "\n\nHuman: How do I tie a tie?\n\nAssistant:" + no),  # another prompt
        line("How do I tie a bow? " + yes, "How do I tie a bow? " + no),  # not a transcript
        line(ASK + yes + "\n\nHuman: Thanks!", ASK + no),  # ends with a Human turn
        line("\n\nHuman: \n\nAssistant:" + yes, "\n\nHuman: \n\nAssistant:" + no),  # empty question
        json.dumps({"chosen": ASK + yes + " \ud83d", "rejected": ASK + no}),  # half an emoji
        line(prompt + chosen, prompt + rejected),  # the first row again
        line(prompt + rejected, prompt + chosen),  # and its contradiction
        line(ASK + yes + "\nHuman: And a reef knot?", ASK + no),
        line(ASK + " Hold on.\n\nAssistant:" + yes, ASK + no),
        line(ASK + " Like th\ufffds.", ASK + no + "!"),
        line(ASK + " How do I tie a bow? Cross the ends, and so on.", ASK + no + "!!"),
    ]


def main() -> None:
    """Write both files to the folder of this script."""
    random_ = random.Random(2023)  # noqa: S311
    train = dialogues(ROWS["train"], set(), random_)
    test = dialogues(ROWS["test"], set(train), random_)
    prompt, (chosen, rejected) = next(iter(train.items()))
    leaked = line(prompt + " Gladly." + chosen, prompt + rejected)
    files = {
        "train": lines(train, invalid_rows(prompt, chosen, rejected), random_),
        "test": lines(test, [line(ASK, ASK + " Hm."), leaked], random_),
    }
    for name, text in files.items():
        (Path(__file__).parent / f"{name}.jsonl").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
