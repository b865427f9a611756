"""Random keys, card numbers and account numbers in the formats of their issuers; none of them is real."""

import base64
import json
import string
from collections.abc import Callable
from random import Random

ALPHANUMERIC = string.ascii_letters + string.digits


def _some(alphabet: str, count: int, random: Random) -> str:
    return "".join(random.choices(alphabet, k=count))


def _jwt(random: Random) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    head, body = part({"alg": "HS256", "typ": "JWT"}), part({"sub": _some(string.digits, 10, random), "name": "Kim"})
    return f"{head}.{body}.{_some(ALPHANUMERIC, 43, random)}"


def _card(random: Random) -> str:
    """Return a card number with a correct Luhn digit, in groups of four or as one number."""
    digits = random.choice(["4", "51", "55", "6011"])
    digits += _some(string.digits, 15 - len(digits), random)
    total = sum(sum(divmod(int(digit) * (2 - place % 2), 10)) for place, digit in enumerate(digits))
    digits += str(-total % 10)
    separator = random.choice([" ", "-", ""])
    return separator.join(digits[start : start + 4] for start in range(0, 16, 4))


def _private_key(random: Random) -> str:
    kind = random.choice(["RSA ", "EC ", "OPENSSH ", ""])
    lines = "\n".join(_some(ALPHANUMERIC + "+/", 64, random) for _ in range(3))
    return f"-----BEGIN {kind}PRIVATE KEY-----\n{lines}\n-----END {kind}PRIVATE KEY-----"


def _iban(random: Random) -> str:
    account = _some(string.digits, 18, random)
    check = 98 - int(account + "131400") % 97  # D = 13, E = 14
    iban = f"DE{check:02d}{account}"
    return random.choice([iban, " ".join(iban[start : start + 4] for start in range(0, 22, 4))])


KEYS: dict[str, Callable[[Random], str]] = {
    "github": lambda random: random.choice(["ghp_", "gho_", "ghs_"]) + _some(ALPHANUMERIC, 36, random),
    "github fine-grained": lambda random: (
        f"github_pat_{_some(ALPHANUMERIC, 22, random)}_{_some(ALPHANUMERIC, 59, random)}"
    ),
    "gitlab": lambda random: "glpat-" + _some(ALPHANUMERIC + "-_", 20, random),
    "stripe": lambda random: random.choice(["sk_live_", "rk_live_"]) + _some(ALPHANUMERIC, 24, random),
    "sendgrid": lambda random: f"SG.{_some(ALPHANUMERIC, 22, random)}.{_some(ALPHANUMERIC, 43, random)}",
    "aws": lambda random: "AKIA" + _some(string.ascii_uppercase + "234567", 16, random),
    "aws secret": lambda random: "aws_secret_access_key = " + _some(ALPHANUMERIC + "/+", 40, random),
    "openai": lambda random: random.choice(["sk-", "sk-proj-"]) + _some(ALPHANUMERIC, 48, random),
    "slack": lambda random: (
        f"xoxb-{_some(string.digits, 12, random)}-{_some(string.digits, 12, random)}-{_some(ALPHANUMERIC, 24, random)}"
    ),
    "hugging face": lambda random: "hf_" + _some(string.ascii_letters, 34, random),
    "google": lambda random: "AIza" + _some(ALPHANUMERIC + "-_", 35, random),
    "jwt": _jwt,
    "private key": _private_key,
    "card": _card,
    "card again": _card,
    "iban": _iban,
}
