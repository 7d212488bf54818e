"""Whether a text says that its writer never saw the image, or declines to say anything about it.

Such a text beside an empty list is no claim of a clean image. Models say it in the language of the prompt, so each
language that they often answer in has its words here: those for a picture, those for not seeing or not having it, and
those for "no" right in front of a picture. Words for a fault between them make it another sentence ("I see no fault
in the image").
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from schemas.answer.text import is_refusal

ADJECTIVES = r"(?:(?:visible|obvious|apparent|clear|noticeable|significant|major|other|such|real) )*"
NOUN = (
    r"(?:defects?|art[ei]facts?|misalignments?|issues?|problems?|errors?|flaws?|anomal(?:y|ies)|glitch(?:es)?"
    r"|inconsistenc(?:y|ies))"
)
NOUNS = rf"{ADJECTIVES}{NOUN}(?: (?:(?:or|and|nor) )?{ADJECTIVES}{NOUN}){{0,3}}"
"""What is wrong with an image, in English."""
NOT = r"(?:do not|don['’]t|did not|didn['’]t|cannot|can['’]t|can not|could not|couldn['’]t)"
FIND = r"(?:see|find|detect|spot|notice|identify|observe)"

_FINDS_NOTHING = re.compile(
    rf"\s*i {NOT} {FIND} (?:any {NOUNS}\b|anything (?:wrong|off|odd|amiss|missing|unusual|incorrect|broken)\b)",
    re.IGNORECASE,
)
"""Begins as a refusal does, and is none."""

_SIGHT = r"(?:image|picture|photo)"
_VIEW = r"(?:see|view|access|open|load|display|process|analy[sz]e|inspect|evaluate|assess)"
_GIVEN = r"(?:provided|attached|uploaded|included|shared|visible|given|received|found|sent)"
_ENGLISH = re.compile(
    r"\b(?:can(?:no|['’]?)t|can not|could(?:n['’]?t| not)|unable to|not able to|do(?:n['’]?t| not))"
    rf" (?:\w+ ){{0,2}}?(?:{_VIEW}|have)"
    r" (?:the|this|that|your|an|any)? ?(?:\w+ )?(?:image|picture|photo)s?\b"
    r"(?! (?:defects?|art[ei]facts?|issues?|flaws?|problems?|errors?))"
    rf"|\bno {_SIGHT} (?:is |was |has been )?(?:{_GIVEN}|there)"
    rf"|\b{_SIGHT} (?:is|was|has|did|does|could)(?:n['’]?t| not)(?: been| be)?"
    rf" (?:{_GIVEN}|load(?:ed)?|accessible|available|seen)"
    rf"|\b(?:is|was|['’]s|see|have|got) no (?:\w+ )?{_SIGHT}s?(?= here\b|\s*[.,;:!]|\s*$)"
    rf"|(?:\b(?:not|never)|n['’]t) (?:been )?(?:given|receive|received|got|provided(?: with)?|sent|shown)"
    rf" (?:an?|any|the|your) (?:\w+ )?{_SIGHT}"
    rf"|\b(?:please|kindly|need you to|(?:can|could|would) you)(?: \w+)? (?:re-?)?"
    rf"(?:provide|upload|attach|share|send|include) (?:\w+ ){{0,3}}?(?:{_SIGHT}|it\b)"
    rf"|\bforgot(?:ten)? to (?:attach|upload|include|provide|send|share)\b"
    rf"|\b{_SIGHT}s? (?:\w+ ){{0,3}}?failed to (?:load|upload|open|render|display)"
    rf"|\b{_SIGHT} (?:appears|seems|is|looks)(?: to be)? (?:\w+ or )?"
    r"(?:missing|corrupt(?:ed)?|unavailable|inaccessible|unreadable)(?=\s*[.,;:!]|\s*$)"
    rf"|(?:\b(?:lack|without|not have|no)|n['’]t have) (?:the |any )?(?:ability|capability|access|means|way|tools?)"
    rf" (?:to {_VIEW}|of seeing) (?:\w+ ){{0,2}}?(?:{_SIGHT}|visual)"
    rf"|(?:\b(?:lack|without|not have|no)|n['’]t have) (?:any |the )?(?:access to (?:the|this|your|any) {_SIGHT}"
    r"|(?:vision|visual|image) (?:capabilit|input|access|understanding))"
    r"|\btext[- ]only (?:model|ai|assistant)"
    rf"|\bwithout (?:seeing |being able to see )?(?:the|an|any) (?:actual )?{_SIGHT},? (?:i|it|no|nothing)\b"
    rf"|\bonly (?:see|have|received?|get|got) (?:a |the )?(?:\w+ )?(?:placeholder|text|prompt|caption|description)\b"
    r"|\b(?:violat\w+|against) (?:\w+ ){0,3}?(?:polic(?:y|ies)|guidelines)\b",
    re.IGNORECASE,
)
_SIGHTS = ("image", "picture", "photo", "text-only", "text only", "placeholder", "polic", "guideline", "forgot")
_DENIALS = (
    *("not ", "n't", "n’t", "unable", "cant", "couldnt", "dont", "isnt", "wasnt", "hasnt", "didnt", "doesnt", "never"),
    *("no ", "provide", "upload", "attach", "share", "send", "include", "failed", "without", "lack", "only"),
    *("missing", "corrupt", "unavailable", "inaccessible", "unreadable", "violat", "against"),
)
"""One of each stands in every text that `_ENGLISH` finds; the pattern takes a millisecond on a long trace."""


@dataclass(frozen=True)
class _Language:
    """The words of a language: patterns for pictures, for not seeing or having one, for "no", and for faults."""

    hints: tuple[str, ...]
    """One of them stands, in small letters, in every text that speaks of a picture."""
    sight: str
    unseen: str
    none: str
    fault: str

    def pattern(self) -> re.Pattern[str]:
        between = rf"(?:(?!{self.fault})[^.!?。！？\n]){{0,40}}?"
        return re.compile(
            rf"(?:{self.unseen}){between}(?:{self.sight})(?!{between}(?:{self.fault}))"
            rf"|(?:{self.sight}){between}(?:{self.unseen})|(?:{self.none})(?:{self.sight})(?!{between}(?:{self.fault}))",
            re.IGNORECASE,
        )


_LANGUAGES: Sequence[_Language] = (
    _Language(  # German
        ("bild", "foto", "grafik"),
        r"\b(?:bild(?:es|er|s)?|fotos?|grafik)\b",
        r"\bnicht (?:\w+ ){0,2}?(?:sehen|sehe|anzeigen|öffnen|laden|ansehen|betrachten|analysieren|verarbeiten"
        r"|zugreifen|sichtbar|vorhanden|verfügbar|angehängt|hochgeladen|beigefügt|übermittelt|geladen|mitgeschickt)\b"
        r"|\bkeinen zugriff\b|\bbitte (?:\w+ )?(?:laden|senden|schicken|hängen)\b|\bsehe (?:\w+ )?nicht\b",
        r"\bkein(?:e|en|es)? ",
        r"fehler|mängel|mangel|defekt|artefakt|auffällig|problem|abweichung",
    ),
    _Language(  # French
        ("image", "photo"),
        r"\b(?:images?|photos?)\b",
        r"\bne (?:peux|puis|pouvons|parviens|vois|voyons)\b|\bn['’]arrive pas\b|\bn['’](?:ai|avons|a|est|ont)"
        r" (?:pas|aucun)|\bincapable\b|\bveuillez\b|\bimpossible (?:de|d['’])",
        r"\baucune ",
        r"d[ée]faut|erreur|anomalie|probl[èe]me|art[ée]fact|incoh[ée]ren|\brien\b",
    ),
    _Language(  # Spanish
        ("imagen", "imágen", "foto"),
        r"\b(?:im[aá]gen(?:es)?|fotos?|fotograf[íi]a)\b",
        r"\bno (?:puedo|podemos|logro|consigo|veo|tengo|he recibido|recib[íi]|se (?:ha )?(?:adjunt|proporcion|carg"
        r"|sub)\w+|est[áa] (?:disponible|adjunta)|hay)\b|\bpor favor\b|\bincapaz\b",
        r"\b(?:ninguna|sin) ",
        r"defecto|error|fallo|anomal|problema|artefacto|nada",
    ),
    _Language(  # Italian
        ("immagin", "foto"),
        r"\b(?:immagin[ei]|foto)\b",
        r"\bnon (?:posso|riesco|vedo|ho|[èe] (?:stata )?(?:disponibile|allegata|fornita|caricata|visibile)|c['’][èe])"
        r"|\bper favore\b|\bimpossibile\b",
        r"\bnessuna ",
        r"difett|error|anomal|problem|artefatt|nulla|niente",
    ),
    _Language(  # Portuguese
        ("imagem", "imagens", "foto"),
        r"\b(?:image(?:m|ns)|fotos?)\b",
        r"\bn[ãa]o (?:consigo|posso|podemos|vejo|tenho|recebi|foi (?:\w+ )?(?:enviada|anexada|fornecida|carregada)"
        r"|est[áa] (?:dispon[íi]vel|vis[íi]vel)|h[áa])\b|\bpor favor\b",
        r"\bnenhuma ",
        r"defeito|erro|falha|anomal|problema|artefato|nada",
    ),
    _Language(  # Dutch
        ("afbeelding", "foto", "plaatje"),
        r"\b(?:afbeelding(?:en)?|foto['’]?s?|plaatje)\b",
        r"\bniet (?:\w+ ){0,2}?(?:zien|openen|laden|bekijken|analyseren|beschikbaar|bijgevoegd|meegestuurd|geladen)\b"
        r"|\bgeen toegang\b|\bzie (?:\w+ )?niet\b",
        r"\bgeen ",
        r"fout|gebrek|defect|artefact|probleem|afwijking",
    ),
    _Language(  # Russian
        ("изображени", "картин", "фото"),
        r"изображени\w*|картин\w*|фото\w*",
        r"\bне (?:могу|вижу|видно|удалось|удаётся|удается|получил\w*|приложен\w*|загружен\w*|загрузил\w*|прикреплен\w*"
        r"|прикреплён\w*|доступн\w*|предоставлен\w*)|\bнет доступа\b|\bпожалуйста\b",
        r"\b(?:нет|без) ",
        r"дефект|ошиб|артефакт|проблем|недостат|аномал|ничего",
    ),
    _Language(  # Chinese
        ("图", "圖", "照片"),
        r"图[片像]?|圖[片像]?|照片",
        r"(?:无法|無法|不能|没法)(?:直接)?(?:查看|看到|看见|访问|打开|加载|分析|识别|处理|顯示|檢視|存取|讀取)"
        r"|看不[到见]|(?:没有?|沒有?|未)(?:看到|收到|提供|上传|上傳|附上|附带|加载|找到|检测到)|请(?:重新)?(?:提供|上传)|請(?:提供|上傳)",
        r"没有|沒有|无|無",
        r"缺陷|问题|問題|错误|錯誤|瑕疵|异常|異常|伪影|不符|不一致|中",
    ),
    _Language(  # Japanese
        ("画像", "写真", "イメージ"),
        r"画像|写真|イメージ",
        r"見え(?:ません|ない)|見られ(?:ません|ない)|見ることができ(?:ません|ない)|確認でき(?:ません|ない)|開け(?:ません|ない)"
        r"|読み込(?:めません|めない|まれていません)|アクセスでき|添付されていま|提供されていま|アップロードしてください|受け取っていません",
        r"(?!)",
        r"欠陥|問題|エラー|異常|不一致|アーティファクト|不具合|違い",
    ),
    _Language(  # Korean
        ("이미지", "사진", "그림"),
        r"이미지|사진|그림",
        r"볼 수 없|보이지 않|확인할 수 없|열 수 없|불러올 수 없|접근할 수 없|분석할 수 없"
        r"|첨부되지 않|제공되지 않|업로드해",
        r"(?!)",
        r"결함|문제|오류|이상|아티팩트|불일치",
    ),
)
_PATTERNS = tuple((language.hints, language.pattern()) for language in _LANGUAGES)
_PICTURES = ("imag", "immagin", "foto", "photo", "picture", "bild", "grafik", "afbeelding", "plaatje")
"""One of them stands, in small letters, in every ASCII text that has a language's hint."""


def never_seen(text: str) -> bool:
    """Does a text decline, or say that there was no image to be seen?

    Args:
        text: A trace, or the words around an answer, without white space at its ends.

    Returns:
        Whether it does, in one of the languages that are known here.
    """
    if is_refusal(text) and _FINDS_NOTHING.match(text) is None:
        return True
    lower = text.lower()
    if _has(lower, _SIGHTS) and _has(lower, _DENIALS) and _ENGLISH.search(text) is not None:
        return True
    if text.isascii() and not _has(lower, _PICTURES):
        return False
    return any(_has(lower, hints) and pattern.search(text) is not None for hints, pattern in _PATTERNS)


def _has(text: str, words: Sequence[str]) -> bool:
    return any(map(text.__contains__, words))
