"""Korean: words, particles, phrases and templates, with a grammar of their own.

A particle takes the form that the last sound of its word asks for, the landmark of a relation comes
before the word for its side, and a number follows its noun. A slot such as {T:이} is a phrase with
a particle; templates are those of language.en in kind, not in wording. Book: appendix/world.md.
"""

from __future__ import annotations

import re

from vlmbook.world.language.facts import Facts, Mention, Thing

WORDS = {
    "shape": {
        "sphere": "구",
        "cube": "정육면체",
        "cylinder": "원기둥",
        "cone": "원뿔",
        "torus": "도넛",
        "pyramid": "사각뿔",
        "capsule": "캡슐",
        "egg": "달걀",
    },
    "color": {
        "red": "빨간",
        "green": "초록색",
        "blue": "파란",
        "yellow": "노란",
        "purple": "보라색",
        "cyan": "청록색",
        "brown": "갈색",
        "gray": "회색",
        "orange": "주황색",
        "pink": "분홍색",
    },
    "material": {"rubber": "고무", "metal": "금속", "striped": "줄무늬"},
    "size": {"large": "큰", "small": "작은"},
}
# As an answer a colour or size is a noun.
ANSWERS = {
    "red": "빨간색",
    "blue": "파란색",
    "yellow": "노란색",
    "large": "큰 것",
    "small": "작은 것",
}
ANYTHING = "물체"
NUMBERS = ("", "한", "두", "세", "네", "다섯", "여섯", "일곱", "여덟", "아홉", "열")
SEVERAL = "여러"
RELATIONS = {"left": "왼쪽", "right": "오른쪽", "front": "앞", "behind": "뒤"}
YES, NO = "네", "아니요"

# particle: (after a consonant, after a vowel)
PARTICLES = {
    "이": ("이", "가"),
    "을": ("을", "를"),
    "은": ("은", "는"),
    "과": ("과", "와"),
    "으로": ("으로", "로"),
    "이에요": ("이에요", "예요"),
    "이다": ("이다", "다"),
    "도": ("도", "도"),
}

LISTS = (
    "탁자 위에 {T:이} 있어요.",
    "탁자 위에 {T:이} 놓여 있습니다.",
    "여기에 {T:이} 보입니다.",
    "{T:이} 있는 사진입니다.",
    "{T:을} 찍은 사진이에요.",
    "그림에 {T:이} 있습니다.",
    "이 장면에는 {T:이} 나옵니다.",
    "여기 {T:이} 있네요.",
    "누군가 {T:을} 탁자에 올려놓았어요.",
    "탁자 위에 놓인 {T}.",
    "{T:을} 위에서 본 그림이다.",
    "사진 속에는 {T:이} 있다.",
    "눈앞에 {T:이} 있다.",
    "{T:이} 담긴 장면입니다.",
    "이미지에 {T:이} 담겨 있어요.",
    "탁자에서 {T:을} 볼 수 있어요.",
    "탁자에 {T:이} 놓여 있다.",
    "화면에 {T:이} 보입니다.",
)
RELATIONAL = (
    "{b} {r}에 {a:이} 있어요{rest}.",
    "{b}의 {r}에 {a:이} 놓여 있습니다{rest}.",
    "{b} {r}에 있는 {a}{rest}.",
    "{b} {r}에 {a:이} 보입니다{rest}.",
    "{b} {r}에 있는 {a:을} 찍은 사진이에요{rest}.",
    "{a:은} {b} {r}에 있습니다{rest}.",
    "{a:이} {b}의 {r}에 놓인 모습이에요{rest}.",
    "그림을 보면 {b} {r}에 {a:이} 있다{rest}.",
    "탁자에는 {b} {r}에 {a:이} 놓여 있어요{rest}.",
    "{T:이} 있고, 그 {a:은} 그 {b} {r}에 있습니다.",
    "{T:이} 보이는데, 그 {b} {r}에 그 {a:이} 있어요.",
    "{b:을} 기준으로 {r}에 {a:이} 있습니다{rest}.",
    "{b} {r}에는 {a:이} 있네요{rest}.",
    "사진에서 {b}의 {r}에 있는 {a:을} 볼 수 있습니다{rest}.",
)
# A further sentence keeps the speech level of the first: its ending, what to add, what is absent.
LEVELS = (
    ("니다", ". 그 밖에 {T:도} 있습니다", ("{x:은} 없습니다.", "{x:은} 보이지 않습니다.")),
    ("다", ". 그 밖에 {T:도} 있다", ("{x:은} 없다.", "여기에 {x:은} 없다.")),
    ("", ". 그 밖에 {T:도} 있어요", ("{x:은} 없어요.", "{x:은} 보이지 않아요.")),
)
GENERIC = ("예쁜 사진.", "무언가를 찍은 사진입니다.", "인터넷에서 찾은 이미지.", "이것 좀 보세요.")

NUISANCE = (
    (
        "촬영 장소 {}",
        "오슬로 리마 카이로 키토 파리 델리 도쿄 서울 밀라노 아크라 "
        "하노이 소피아 리가 토리노 퍼스 라고스",
    ),
    ("촬영일 {}", "월요일 화요일 수요일 목요일 금요일 토요일 일요일 휴일"),
    (
        "찍은 사람 {}",
        "민아 준 소라 지호 이다 나은 아람 오마르 유나 벤 은비 다오 노라 라울 레나 하준",
    ),
    ("카메라 {}", "임대품 고장품 저가형 대여품 중고품 구형 대형 스마트폰"),
    ("식사 시간 {}", "아침 점심 저녁 야식"),
)
NUISANCE_NUMBER = "번호 {}"
NUISANCE_STARTS = ("촬영",)


def ends_in(text: str) -> int:
    """The final consonant of a text's last syllable: 0 for none, 8 for ㄹ, else another number."""
    code = ord(text[-1]) - 0xAC00
    return code % 28 if 0 <= code < 11172 else 0


def attach(text: str, particle: str) -> str:
    """A word with its particle in the right form: attach("구", "이") is 구가."""
    after_consonant, after_vowel = PARTICLES[particle]
    final = ends_in(text)
    if particle == "으로" and final == 8:  # ㄹ takes 로
        return text + after_vowel
    return text + (after_consonant if final else after_vowel)


def noun_phrase(thing: Thing, count: int | None = 1) -> str:
    """작은 빨간 금속 정육면체; 빨간 정육면체 두 개; 여러 개의 빨간 정육면체"""
    words = [WORDS[a][v] for a in ("size", "color", "material") if (v := getattr(thing, a))]
    phrase = " ".join([*words, WORDS["shape"].get(thing.shape, ANYTHING)])
    if count is None:
        return f"{SEVERAL} 개의 {phrase}"
    return phrase if count == 1 else f"{phrase} {NUMBERS[count]} 개"


def listed(phrases: list[str]) -> str:
    """가, 나와 다"""
    if len(phrases) == 1:
        return phrases[0]
    return ", ".join([*phrases[:-2], f"{attach(phrases[-2], '과')} {phrases[-1]}"])


class _Slot(str):
    """A phrase that takes its particle from the template: {T:이}."""

    def __format__(self, particle: str) -> str:
        return attach(self, particle) if particle else str(self)


def fill(template: str, things: list[Mention], slots: dict) -> str:
    """A template as a sentence.

    things go into {T}; slots has a, b (Thing) and r for relational ones.
    """
    phrases = _Slot(listed([noun_phrase(m.thing, m.count) for m in things])) if things else _Slot()
    values = {"T": phrases}
    if slots:
        values |= {"a": _Slot(noun_phrase(slots["a"])), "b": _Slot(noun_phrase(slots["b"]))}
        more = _level(template.replace("{rest}", ""))[1]
        values |= {"r": RELATIONS[slots["r"]], "rest": more.format(T=phrases) if things else ""}
    return template.format(**values)


def _level(text: str) -> tuple[str, str, tuple[str, ...]]:
    """The entry of LEVELS for a text that ends in a full stop."""
    return next(level for level in LEVELS if text.endswith(level[0] + "."))


def absences(text: str) -> tuple[str, ...]:
    """The ways to say what is absent after a text, in its speech level."""
    return _level(text)[2]


def absence(template: str, thing: Thing) -> str:
    """빨간 정육면체는 없어요."""
    return template.format(x=_Slot(noun_phrase(thing)))


def nuisance(parts: list[str]) -> str:
    """A sentence that has nothing to do with the picture."""
    return ", ".join(parts) + "."


def _choice(words) -> str:
    return "|".join(sorted(words, key=len, reverse=True))


def _reversed(attribute: str) -> dict[str, str]:
    return {word: value for value, word in WORDS[attribute].items()}


_BACK = {attribute: _reversed(attribute) for attribute in WORDS}
_SIDES = {word: name for name, word in RELATIONS.items()}
_PHRASE = re.compile(
    rf"(?P<that>그 )?(?P<several>{SEVERAL} 개의 )?(?:(?P<size>{_choice(_BACK['size'])}) )?"
    rf"(?:(?P<color>{_choice(_BACK['color'])}) )?(?:(?P<material>{_choice(_BACK['material'])}) )?"
    rf"(?P<noun>{_choice([*_BACK['shape'], ANYTHING])})"
    rf"(?: (?P<count>{_choice(NUMBERS[1:])}) 개)?"
)
_AFTER = re.compile(rf"^(?:의|를 기준으로|을 기준으로)? ?({_choice(_SIDES)})에")
_GONE = re.compile(r"^[은는] (?:없|보이지 않)")
_TOPIC = re.compile(r"^(?:은|는|이|가) $")
_PARTICLE = re.compile(r"^(?:이에요|으로|에요|이|가|을|를|은|는|과|와|로|의|도)?")


def _frame_words() -> set[str]:
    more = (part for _, rest, gone in LEVELS for part in (rest, *gone))
    text = " ".join((*LISTS, *RELATIONAL, *GENERIC, *more))
    plain = re.sub(r"\{[^}]*\}", " ", text)
    return (
        set(re.findall(r"[가-힣]+", plain))
        | {f"{s}에" for s in _SIDES}
        | {f"{s}에는" for s in _SIDES}
    )


_FRAME = _frame_words()


def parse(text: str) -> Facts:
    """The facts that a Korean text states; words without a place go into unread."""
    mentions, relations, absent, unread = [], [], [], []
    for sentence in re.findall(r"[^.]+", text):
        if sentence.strip().startswith(NUISANCE_STARTS):
            continue
        end, pending, topic = 0, None, None
        for match in _PHRASE.finditer(sentence):
            thing, rest = _thing(match), sentence[match.end() :]
            unread += _strange(sentence[end : match.start()], after_noun=end > 0)
            side = _AFTER.match(rest)
            if _GONE.match(rest):
                absent.append(thing)
            elif not match["that"]:
                mentions.append(Mention(thing, _count(match)))
            if pending:  # "b 왼쪽에 a가"
                relations.append((thing, *pending))
                pending = None
            elif side and topic and _TOPIC.match(sentence[end : match.start()]):  # "a는 b 왼쪽에"
                relations.append((topic, _SIDES[side[1]], thing))
            elif side:
                pending = (_SIDES[side[1]], thing)
            topic, end = thing, match.end()
        unread += _strange(sentence[end:], after_noun=end > 0)
    return Facts(tuple(mentions), tuple(relations), tuple(absent), tuple(unread))


def _thing(match: re.Match) -> Thing:
    words = {a: _BACK[a].get(match[a]) for a in ("color", "material", "size")}
    return Thing(shape=_BACK["shape"].get(match["noun"]), **words)


def _count(match: re.Match) -> int | None:
    if match["several"]:
        return None
    return NUMBERS.index(match["count"]) if match["count"] else 1


def _strange(words: str, after_noun: bool) -> list[str]:
    if after_noun:
        words = _PARTICLE.sub("", words, count=1)
    return [w for w in re.findall(r"[가-힣0-9]+", words) if w not in _FRAME]
