"""Clean rows: dialogues, code, poems, tables, short answers, translations and look-alikes of faults."""

import json
from collections.abc import Callable

from planted.writer import Row, Writer, assistant, row, user

CODE = [
    "```python\ndef area(radius):\n    return 3.14159 * radius ** 2\n\nprint(area({n}))\n```",
    "```js\nconst list = [1, 2, 3].map(x => x * {n});\nconsole.log(`total: ${list.length}`);\n```",
    "```bash\ngit clone git@github.com:acme/widget-{n}.git\ncd widget-{n} && make install\n```",
    "```css\n@media (max-width: {n}0px) {\n  .card { color: #1a2b3c; margin: 0 0 12px 24px; }\n}\n```",
    "```sql\nSELECT name, COUNT(*) FROM orders WHERE id > {n} GROUP BY name;\n```",
    '```c\n#include <stdio.h>\nint main(void) { printf("%d\\n", {n}); return 0; }\n```',
    '```html\n<p class="note"><s>was {n} EUR</s> <b>now free</b></p>\n```',
    "```elixir\n[1, 2, {n}] |> Enum.map(&(&1 * 2)) |> Enum.sum()\n```",
    "```yaml\nuser: admin\nsystem: linux\nport: 80{n}\n```",
    "def f(x):\n    return x + {n}\n\nprint(f(2))",
    "```diff\n-    timeout = 3{n}\n+    timeout = 6{n}\n```",
    "```python\n@app.route('/v1/items/<int:item_id>')\ndef item(item_id):\n    return items[item_id]\n```",
]
NUMBERS = [
    "1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610",
    "ISBN 978-3-16-148410-0",
    "ISBN-10: 0-306-40615-2",
    "3.14159265358979323846264338327950288",
    "2 4 6 8 10 12 14 16 18 20 22 24",
    "192.0.2.1/24, mask 255.255.255.0",
    "10.1038/s41586-020-2649-2",
    "1234567 + 7654321 = 8888888",
    "17 + 25 + 38 + 47 = 127; 127 / 4 = 31.75",
    "2024-01-15 08:30:00, 2024-02-15 08:30:00, 2024-03-15 08:30:00",
    "commit 9fceb02d0ae598e95dc970b74767f19372d61af8",
    "550e8400-e29b-41d4-a716-446655440000",
    "(1, 2, 3), (4, 5, 6), (7, 8, 9)",
    "1000 2000 3000 4000 5000 6000 7000 8000",
    "48.858370, 2.294481",
    "v2.31.0, v2.31.1, v2.32.0-rc1",
    "RFC 2119, RFC 8174, RFC 3986; EN 60601-1-2:2015",
    "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
    "0 1 1 0 1 0 0 1 1 0 0 1 0 1 1 0",
    "$1,250,000.00 - $875,430.50 = $374,569.50",
]
MARKUP = [
    "### Instructions\n\n1. Mix the flour.\n2. Wait {n} minutes.\n3. Bake.",
    "## Setup\n\nRun `make`.\n\n### Response times\n\nUnder {n} ms.",
    "In HTML, `<s>` strikes text through and `<em>` stresses it.",
    "The operator `|>` pipes a value; `<|` applies a function from the right.",
    "Use `[a-z]{{n}}` for letters and `[^/]` for anything but a slash.",
    "In bash, write `[[ -n $x ]] && echo {n}`.",
    "**Note:** the guarantee ends after {n} months.",
    "System: Windows 11, {n} GB of memory\nBrowser: Firefox",
    "Q: How long does it take?\nA: About {n} minutes.",
    "I think <think> is not an HTML element, unlike <b>.",
    "The vector x = [1, {n}] and the set {a, b} are different things.",
]
SCRIPTS = [
    "ANNA: Did you bring the map?\nBEN: I thought you had it.\nANNA: Then we are lost.",
    "Waiter: Soup of the day?\nGuest: Only if it is hot.\nWaiter: Always.",
    "Doctor: Where does it hurt?\nPatient: Everywhere, since Monday.",
    "Interviewer: What drew you to the sea?\nCaptain: The silence.",
]
TITLES = [
    "Best regards,\n{name}",
    "😀👍🏽 👩‍👩‍👧",
    "https://www.example.org/wiki/{thing}?page={n}",
    "{n} %",
    "– {thing}",
    "a² + b² = c²",
    "*{thing}*",
    "“{thing}”",
    "{city} ({n})",
    "{thing}, {thing} & {thing}…",
    "→ {city}",
]


def plain(w: Writer) -> Row:
    return row(*w.pair())


def dialogue(w: Writer) -> Row:
    w.next_language()
    turns = [user(w.prompt())]
    for _ in range(w.random.randint(1, 3)):
        turns += [assistant(w.response()), user(w.prompt())]
    return {"prompt": turns, "chosen": [assistant(w.response())], "rejected": [assistant(w.response())]}


def code(w: Writer) -> Row:
    prompt, chosen, rejected = w.pair()
    blocks = w.random.sample(CODE, 2)
    return row(prompt, _with(w, chosen, blocks[0]), _with(w, rejected, blocks[1]))


def numbers(w: Writer) -> Row:
    prompt, chosen, rejected = w.pair()
    blocks = w.random.sample(NUMBERS, 2)
    return row(prompt, _with(w, chosen, blocks[0]), _with(w, rejected, blocks[1]))


def markup(w: Writer) -> Row:
    prompt, chosen, rejected = w.pair()
    return row(prompt, _with(w, chosen, w.random.choice(MARKUP)), rejected)


def script(w: Writer) -> Row:
    prompt, chosen, rejected = w.pair()
    return row(prompt, _with(w, chosen, w.random.choice(SCRIPTS)), rejected)


def poem(w: Writer) -> Row:
    prompt, _, _ = w.pair()
    lines = w.texts[w.language]["poem"]
    first, second = w.random.sample(range(len(lines) - 3), 2)
    verses = ["\n".join(lines[start : start + w.random.randint(2, 4)]) for start in (first, second)]
    return row(prompt, w.of("sentences") + "\n\n" + verses[0], verses[1])


def table(w: Writer) -> Row:
    prompt, chosen, rejected = w.pair()
    lines = [f"| {w.of('cities')} | {w.of('things')} | {w.random.randint(1, 99)} |" for _ in range(3)]
    return row(prompt, chosen + "\n\n" + "\n".join(["| a | b | c |", "|---|---|---|", *lines]), rejected)


def listing(w: Writer) -> Row:
    prompt, chosen, rejected = w.pair()
    bullet = w.random.choice(["- ", "* ", "• ", "1. "])
    items = "\n".join(bullet + text for text in w.random.sample(w.texts[w.language]["things"], 4))
    return row(prompt, chosen + "\n\n" + items, rejected)


def short(w: Writer) -> Row:
    prompt, _, _ = w.pair()
    chosen, rejected = w.random.sample(w.texts[w.language]["short"], 2)
    return row(prompt, chosen, rejected)


def ending(w: Writer) -> Row:
    """Return a row whose chosen ends without a period, as signatures, links and emojis do."""
    prompt, chosen, rejected = w.pair()
    return row(prompt, chosen + "\n\n" + w.fill(w.random.choice(TITLES)), rejected)


def casual(w: Writer) -> Row:
    """Return a row whose responses are chat messages without capitals and periods."""
    prompt, _, _ = w.pair()
    texts = [w.sentences(2).rstrip(".。").lower() for _ in range(2)]
    return row(prompt, texts[0], w.of("openers") + "\n" + texts[1] + w.random.choice(["", " :)", "!!", " 😀"]))


def translation(w: Writer) -> Row:
    w.next_language()
    target = w.other_language()
    languages = w.texts[w.language]["languages"]
    prompt = w.of("translate").replace("{language}", languages[target]).replace("{text}", w.sentences(2))
    return row(prompt, w.sentences(2, target), w.sentences(3, target))


def foreign_text(w: Writer) -> Row:
    """Return a question that quotes another language, answered in its own."""
    prompt, chosen, rejected = w.pair()
    return row(prompt + "\n\n" + w.sentences(1, w.other_language()), chosen, rejected)


def lookalike(w: Writer) -> Row:
    """Return harmless responses with words that refusals use."""
    prompt, _, _ = w.pair()
    texts = [w.of("lookalikes") + w.space + w.sentences(w.random.randint(1, 3)) for _ in range(2)]
    return row(prompt, *texts)


def one_refusal(w: Writer) -> Row:
    prompt, chosen, _ = w.pair()
    refusal = w.of("refusals") + w.space + w.of("reasons")
    return row(prompt, *w.random.sample([chosen, refusal], 2))


def accents(w: Writer) -> Row:
    """Return a row with rare but correct characters."""
    prompt, chosen, rejected = w.pair()
    words = [
        "São Paulo NÃO É GRÂNDE",
        "Âge d'or, à côté",
        "naïve café — “quoted”",
        "می‌خواهم",
        "Ünïcødé",
        "½ × ⅓ ≤ 5 °C",
        "Škoda, Łódź, Ğ",
        "שלום",
        "हिन्दी में",
        "ﬁne ligature",
        "x² ≈ √2",
        "👩🏽‍💻 and 🏳️‍🌈",
        "50 €",
    ]
    return row(prompt, chosen + "\n" + w.random.choice(words), rejected)


def proofreading(w: Writer) -> Row:
    w.next_language()
    text = w.sentences(2)
    return row(
        w.of("situations") + "\n\n" + text, text.replace(w.space or "，", w.space or "、", 1) + " ✓", w.response()
    )


def structured(w: Writer) -> Row:
    prompt, _, rejected = w.pair()
    value = {"city": w.of("cities"), "items": [w.of("things"), w.of("things")], "count": w.random.randint(1, 99)}
    return row(prompt, json.dumps(value, ensure_ascii=False, indent=2), rejected)


def quotation(w: Writer) -> Row:
    """Return a response that quotes a part of the question."""
    prompt, chosen, rejected = w.pair()
    return row(prompt, f"“{w.of('prompts')}” " + chosen, rejected)


def _with(w: Writer, text: str, block: str) -> str:
    alone = [block := block.replace("{n}", str(w.random.randint(3, 97)))] if "{n}" in block else []
    # Alone only if it has a number, so that no answer repeats by chance.
    return w.random.choice([f"{text}\n\n{block}", f"{text}\n\n{block}\n\n{w.sentences(1)}", *alone])


CLEAN: tuple[Callable[[Writer], Row], ...] = (
    plain, dialogue, code, numbers, markup, script, poem, table, listing, short, ending, casual, translation,
    foreign_text, lookalike, one_refusal, accents, proofreading, structured, quotation,
)  # fmt: skip
