"""A pair of two refusals."""

import re
from functools import cache
from typing import NamedTuple

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.records import PairTexts, PreferencePair, TextPair

#: Characters at the start of a response that are searched for a refusal.
OPENING = 160


class Refusals(NamedTuple):
    """Refusals in one language.

    Attributes:
        needles: strings of which every opening that `pattern` matches contains at least one, in lower case.
        pattern: matches a speaker who refuses, but not one who cannot do something else, as in "I can't wait".
    """

    needles: tuple[str, ...]
    pattern: str


def _pattern(*alternatives: str) -> str:
    return "|".join(alternatives)


#: Compiled on first use: convert imports this module, but never searches.
_compiled = cache(re.compile)


_SERVICE = (
    "help|assist|aid|do|provide|give|tell|answer|share|advi[sc]e|support|discuss|comply|write|create|generate|offer|judge"
    "|engage|fulfill?|continue|encourage|participate|take part|say|talk|speak|condone|allow|respond|proceed"
)
_RULES_EN = "(?:guidelines|policy|policies|programming|principles|rules|ethics|terms)"
#: Openings are searched in lower case, with straight apostrophes.
REFUSALS: dict[str, Refusals] = {
    "en": Refusals(
        ("not", "n't", "sorry", "unable", "efus", "eclin", "afraid", "say no", "inappropriate", "against"),
        _pattern(
            rf"\b(?:i|we)(?:'m| am|'re| are)? (?:\w+ )?"
            rf"(?:can't|cant|cannot|can not|won't|will not|unable to|not (?:able|allowed|going|willing) to"
            rf"|refuse to|decline to|(?:have to|must) decline|do(?:n't| not) (?:think i can|want to|feel comfortable))"
            rf"(?:,? in good conscience,?)?"
            rf"(?: (?:\w+ )?(?:{_SERVICE})(?:ing)?\b(?! but\b| (?:but )?\w+ing\b| myself| you how| how\b| enough)"
            rf"|\s*(?:[.,;!]|$))",
            r"^\W*sorry,? (?:but )?(?:no\b|(?:that|this)(?: is|'s) (?:beyond|out of|against|not something))",
            r"\bas an? (?:ai|language model)\b.{0,60}\b(?:not|n't|unable)",
            rf"\b(?:not|n't) something (?:that )?i (?:can|could|am able to|'m able to|will) (?:{_SERVICE})",
            rf"\bi(?:'d| would) (?:rather|prefer) not(?: to)? (?:{_SERVICE})",
            r"\bi (?:have to|must|will have to) (?:say no|refuse|pass)\b",
            r"\bit (?:would be|is|isn't|would not be) (?:inappropriate|unethical|irresponsible|appropriate) for me to\b",
            rf"\bmy {_RULES_EN} (?:do not|don't|prevent|prohibit|forbid)|\bagainst my {_RULES_EN}",
            r"\bi(?:'m| am) not comfortable\b",
        ),
    ),
    "de": Refusals(
        ("nicht", "kein", "ablehn", "lehne", "gegen meine"),
        _pattern(
            r"\bich\b[^.!?]{0,50}\b(?:nicht|keine?n?)\b[^.!?]{0,40}\b(?:helfen|weiterhelfen|behilflich|beantworten"
            r"|antworten|unterst\u00fctzen|geben|erf\u00fcllen|fortfahren|nachkommen|bereitstellen|beteiligen|erstellen|verfassen"
            r"|schreiben|tun|machen|anbieten|\u00e4u\u00dfern|in der lage)\b",
            r"\b(?:ich nicht verantworten|schreibe ich nicht|gebe ich keine?|beantworte (?:ich )?(?:es |das )?(?:ich )?nicht)\b",
            r"\bich (?:lehne\b[^.!?]{0,30}\bab|muss\b[^.!?]{0,40}\bablehnen)\b",
            r"\bich bin nicht (?:in der lage|bef\u00fcgt)",
            r"\bgegen meine (?:richtlinien|regeln|grunds\u00e4tze|prinzipien)",
            r"^\W*(?:sorry|tut mir leid|entschuldigung)[^.!?]{0,20}\bgeht leider nicht",
        ),
    ),
    "fr": Refusals(
        ("je ne", "je n'", "impossible", "refus", "d\u00e9clin", "encontre"),
        _pattern(
            r"\bje n(?:e |')(?:\w+ )?(?:peux|puis|pourrai|saurais|veux|vais|souhaite|suis|me sens)\b[^.!?]{0,30}\bpas?\b[^.!?]{0,40}"
            r"(?:aider|r\u00e9pondre|fournir|donner|participer|\u00e9crire|assister|continuer|cr\u00e9er|faire|proposer|accepter|partager|en mesure)",
            r"\bje ne (?:fournirai|donnerai|r\u00e9pondrai|participerai|\u00e9crirai|cr\u00e9erai|ferai) pas\b",
            r"\bje ne (?:peux|puis) pas\s*[.,!]",
            r"\bje ne suis pas (?:en mesure|autoris\u00e9)",
            r"\bil m'est impossible d",
            r"\bje (?:dois |me vois oblig\u00e9 de )?(?:refuse|d\u00e9cline)r?\b",
            r"\bje pr\u00e9f\u00e8re ne pas (?:r\u00e9pondre|parler|\u00e9crire|aborder)",
            r"\b(?:\u00e0 l'encontre de|contraire \u00e0) mes (?:r\u00e8gles|principes|directives|valeurs)",
        ),
    ),
    "es": Refusals(
        ("no ", "rechaz", "declin", "contra de mis"),
        _pattern(
            r"\bno (?:te |le |les |os |lo )?(?:puedo|podr\u00e9|voy a|me es posible|soy capaz de|estoy en condiciones de|me siento c\u00f3mod[oa])"
            r" (?:\w+ )?(?:ayud|asist|respond|contest|proporcion|ofrec|dar|cumpl|escrib|particip|hac|gener|compart|complac"
            r"|continu|atend|cre|facilit)",
            r"\blamento no poder\b",
            r"\b(?:debo|tengo que) (?:rechazar|declinar|negarme)",
            r"\bprefiero no (?:contestar|responder|hablar|escribir)",
            r"\bno es algo (?:con lo|en lo|que) (?:que )?(?:yo )?pueda",
            r"\ben contra de mis (?:reglas|normas|principios|directrices|pol\u00edticas)",
        ),
    ),
    "pt": Refusals(
        ("n\u00e3o", "recus"),
        _pattern(
            r"\bn\u00e3o (?:te |lhe |o )?(?:posso|poderei|vou|consigo|me \u00e9 poss\u00edvel|estou apto a)"
            r" (?:\w+ )?(?:ajud|auxili|respond|fornec|oferec|dar|cumpr|escrev|particip|faz|ger|compartilh|atend|cri|continu)",
            r"\b(?:devo|tenho de|tenho que) recusar|\bprefiro n\u00e3o (?:responder|falar)",
        ),
    ),
    "it": Refusals(
        ("non ", "rifiut"),
        _pattern(
            r"\bnon (?:ti |la |le |vi )?(?:posso|potr\u00f2|voglio|intendo|sono in grado di|mi \u00e8 possibile)"
            r" (?:\w+ )?(?:aiut|assist|rispond|forn|offr|dar|scriver|partecip|far|gener|condivid|soddisf|crear|continu)",
            r"\bdevo rifiutar|\bpreferisco non (?:rispondere|parlare)",
        ),
    ),
    "ru": Refusals(
        ("не ", "отказ", "противореч"),
        _pattern(
            r"\bне (?:могу|смогу|буду|вправе|в состоянии|готов[а]?)\b[^.!?]{0,30}\b(?:помо[чг]|ответ|отвеч|выполн|предостав|участв"
            r"|дава|дать|писать|написать|созда|обсужд|комментир|продолж|поддерж|делать|сделать|советовать\b)",
            r"\b(?:вынужден[аы]?|должен|должна|придётся) (?:\w+ )?отказ|\bя отказываюсь",
            r"\bне хотелось бы (?:\w+ ){0,3}(?:писать|отвечать|говорить|обсуждать)",
            r"\bне то, с чем я (?:могу|смогу)",
            r"\bпротиворечит мо(?:им|ей)\b",
        ),
    ),
    "zh": Refusals(
        ("不", "无法", "無法", "没办法", "沒辦法", "拒绝", "拒絕", "违反", "違反"),
        _pattern(
            r"我[^，。！？,他她]{0,8}(?:无法|無法|不能|不会|不會|不可以|没办法|沒辦法|不便|不方便)[^，。！？]{0,10}"
            r"(?:帮|幫|协助|協助|回答|提供|满足|滿足|参与|參與|支持|写|寫|继续|繼續|讨论|討論|给出|給出|做|完成|生成|创作|答复)",
            r"我(?:必须|必須|不得不|只能)?(?:拒绝|拒絕)|恕我?(?:无法|無法|不能)|我?帮不了你",
            r"(?:违反|違反)了?我的[^，。]{0,8}(?:规定|規定|政策|原则|準則|准则|指南)",
            r"^[^，。！？]{0,6}(?:抱歉|对不起|對不起|不好意思)[，,][^，。！？]{0,12}(?:不方便|无法|無法|不能)[^，。！？]{0,4}(?:讨论|討論|回答|提供|帮|幫)",
            r"我没办法回答|我不能继续",
        ),
    ),
    "ja": Refusals(
        ("ません", "かねます", "お断り", "に反する"),
        _pattern(
            r"(?:手伝い|答え|応え|回答|提供|対応|協力|支援|作成|伝え|実行|案内|返答|アドバイス)[^。！？]{0,10}"
            r"(?:できません|出来ません|かねます|られません)",
            r"(?:書け|手伝え|助けられ)ません|お断り(?:します|いたします|させて)",
            r"(?:ポリシー|ガイドライン|規約)に反(?:する|します)",
        ),
    ),
    "ko": Refusals(
        ("수 없", "거절", "어렵습니다"),
        _pattern(
            r"(?:도와|도움|답변|대답|제공|지원|작성|응|참여)[^.!?]{0,12}수 (?:가 )?없(?:습니다|어요)",
            r"거절(?:하겠|합니다|할게)|도와드리기 어렵습니다",
        ),
    ),
}


def is_refusal(response: str) -> bool:
    """Return True if a response opens with a refusal, in one of the languages of `REFUSALS`.

    >>> is_refusal("I'm sorry, but I can't help with that."), is_refusal("Sure. You can't go wrong with two eggs.")
    (True, False)
    >>> is_refusal("Dabei kann ich leider nicht helfen."), is_refusal("I can't help but smile.")
    (True, False)
    """
    opening = response[:OPENING].lower().replace("\u2019", "'")
    return any(
        any(map(opening.__contains__, refusals.needles)) and _compiled(refusals.pattern).search(opening) is not None
        for refusals in REFUSALS.values()
    )


def find(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    """Return a finding if both responses open with a refusal.

    >>> find(CHECK.example, CHECK.example.texts).message
    'chosen and rejected both open with a refusal.'
    """
    _, chosen, rejected = texts
    if is_refusal(chosen) and is_refusal(rejected):
        return Finding("rejected", "chosen and rejected both open with a refusal.")
    return None


CHECK = RowCheck(
    code="refusal_against_refusal",
    severity="warning",
    summary="both responses are refusals",
    hint="Such a pair teaches how to refuse, not when to refuse: check that there are only a few of them.",
    find=find,
    example=TextPair(prompt="Write my essay.", chosen="I'm sorry, I can't.", rejected="I won't do that."),
)
