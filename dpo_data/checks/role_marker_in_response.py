"""A response with a line that starts like the turn of another speaker."""

import re

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.checks.columns import Suspects, TextColumns
from dpo_data.checks.text import responses
from dpo_data.records import PairTexts, PreferencePair, TextPair

MARKERS = ("Human:", "Assistant:", "User:", "System:")
#: Not the "System:" of a list such as "System: Linux", "Browser: Firefox".
AT_LINE_START = re.compile(r"^[ \t]*(Human:|Assistant:|User:|System:(?![^\n]*\n[ \t]*\w+:))", re.MULTILINE)

#: Names of the two speakers in the most frequent languages of chat data, in lower case.
ROLES = (
    *("human", "user", "assistant", "ai", "ai assistant", "bot", "chatbot", "chatgpt", "gpt", "claude", "model"),
    *("mensch", "benutzer", "benutzerin", "nutzer", "nutzerin", "assistent", "assistentin", "ki"),
    *("utilisateur", "utilisatrice", "humain", "assistante", "ia"),
    *("usuario", "usuaria", "humano", "humana", "asistente"),
    *("usu\u00e1rio", "utilizador", "assistente", "utente", "umano"),
    *("gebruiker", "mens", "u\u017cytkownik", "cz\u0142owiek", "asystent"),
    *("kullan\u0131c\u0131", "asistan", "pengguna", "asisten"),
    *("пользователь", "человек", "ассистент", "помощник", "бот", "ии", "користувач", "людина", "асистент"),
    *("用户", "用戶", "使用者", "助手", "助理", "人类", "人類", "机器人", "機器人", "人工智能"),
    *("ユーザー", "ユーザ", "アシスタント", "人間", "ボット", "사용자", "어시스턴트", "인간"),
    *("المستخدم", "المساعد", "उपयोगकर्ता", "सहायक"),
)  # fmt: skip
_ROLE = "|".join(map(re.escape, sorted(ROLES, key=len, reverse=True)))
#: A role with a colon, in brackets or as a heading, plain or in bold.
DECORATED = re.compile(
    rf"^[ \t]*(?:(?:[*_]{{1,3}}|\#{{1,4}} ?|[\[(<])*(?:{_ROLE})[*_\])>]*\s?[:：]"
    rf"|\[(?:{_ROLE})\]|\#{{1,4}} ?(?:{_ROLE})[ \t]*$|<\|?(?:{_ROLE})\|?>)",
    re.IGNORECASE | re.MULTILINE,
)
CODE_BLOCK = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def find(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    """Return a finding if a line of a response starts with the name of a role and a colon.

    >>> find(CHECK.example, CHECK.example.texts).message
    'rejected has a line that starts with "Human:".'
    >>> pair = TextPair(prompt="Hi", chosen="Hello", rejected="A robot said to a Human: hello")
    >>> find(pair, pair.texts)
    """
    for field, response in responses(texts):
        # Substring search first: it is nearly always enough, at a tenth of the cost of the regular expression.
        if ":" in response and any(map(response.__contains__, MARKERS)) and (match := AT_LINE_START.search(response)):
            return Finding(field, f'{field} has a line that starts with "{match[1]}".')
    return None


def suspects(columns: TextColumns) -> Suspects:
    """Return the rows with a marker in a response, wherever it is."""
    return columns.chosen.contains(*MARKERS) | columns.rejected.contains(*MARKERS)


def find_decorated(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    r"""Return a finding also for markers in lower case, bold or brackets, and in other languages; code blocks pass.

    >>> pair = TextPair(prompt="Hola", chosen="Buenas.", rejected="Buenas.\n**Usuario:** gracias")
    >>> find_decorated(pair, pair.texts).message
    'rejected has a line that starts with "**Usuario:".'
    """
    if finding := find(pair, texts):
        return finding
    for field, response in responses(texts):
        if match := DECORATED.search(CODE_BLOCK.sub("", response) if "```" in response else response):
            return Finding(field, f'{field} has a line that starts with "{match[0].strip()}".')
    return None


CHECK = RowCheck(
    code="role_marker_in_response",
    severity="warning",
    summary="a line of a response starts with a role marker",
    hint="The response may run on into the next turn, which the model would learn to do: check the row.",
    find=find,
    suspects=suspects,
    example=TextPair(prompt="Who are you?", chosen="A robot.", rejected="A robot.\nHuman: And who made you?"),
    find_deep=find_decorated,
)
