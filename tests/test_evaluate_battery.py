"""Items are the same for all, have one right answer, and ask for it in either language."""

from collections import Counter

import pytest

from vlmbook import world
from vlmbook.evaluate import battery
from vlmbook.world.splits import COGENT

NUM = 48


@pytest.mark.parametrize("skill", battery.SKILLS)
def test_both_languages_ask_about_the_same_scenes(skill):
    en, ko = (battery.items(skill, language, NUM) for language in battery.LANGUAGES)
    assert [i.scene for i in en] == [i.scene for i in ko]
    assert [i.id for i in en] == [f"{skill}/en/{n:04d}" for n in range(NUM)]
    assert len({i.id for i in (*en, *ko)}) == 2 * NUM
    assert all(i.way == battery.SKILLS[skill].way for i in en)
    assert en == battery.items(skill, "en", NUM)


def told(text, item):
    """What is not so of a text."""
    return world.parse(text, item.language).errors(item.scene)


@pytest.mark.parametrize("language", battery.LANGUAGES)
@pytest.mark.parametrize("skill", battery.SKILLS)
def test_of_the_texts_the_one_at_right_alone_is_true(skill, language):
    items = battery.items(skill, language, NUM)
    texts = [item for item in items if item.texts]
    assert len(texts) in (0, NUM)
    for item in texts:
        assert told(item.texts[item.right], item) == [], item
        assert len(set(item.texts)) == len(item.texts)
        others = [text for n, text in enumerate(item.texts) if n != item.right]
        if skill in ("count", "many"):  # where there are three things there are two, too
            others = item.texts[item.right + 1 :]
        if skill == "order":
            assert sorted(others[0].split()) == sorted(item.texts[item.right].split())
        else:
            assert all(told(text, item) for text in others), item


ASKED = [name for name, skill in battery.SKILLS.items() if skill.way == "ask"]


@pytest.mark.parametrize("skill", ASKED)
def test_no_answer_is_more_frequent_than_another(skill):
    values = Counter(item.answer for item in battery.items(skill, "en", NUM))
    if skill == "strange look":  # ten colours and eight shapes
        values = Counter(
            {k: v for k, v in values.items() if k in world.COLORS}  # half of the items
        )
    assert max(values.values()) - min(values.values()) <= 1
    assert all(item.answer in item.answers for item in battery.items(skill, "ko", NUM))


def test_what_is_asked_for_is_so():
    for skill in ("color", "novel pairs"):
        for item in battery.items(skill, "en", NUM):
            own = {o.color for o in item.scene.objects}
            assert item.answer in own
    for item in battery.items("novel pairs", "en", NUM):
        pairs = {(o.shape, o.color) for o in item.scene.objects}
        new = {c for s, c in pairs if s in COGENT and c not in COGENT[s]}
        assert item.answer in new
    for item in battery.items("many", "en", NUM):
        assert item.answer == str(len(item.scene)) and len(item.scene) >= 6
    for item in battery.items("hallucination", "en", NUM):
        there = any(o.shape in item.question for o in item.scene.objects)
        assert item.answer == ("yes" if there else "no")
    for item in battery.items("reading", "en", NUM):
        assert item.answer == item.scene.plates[0].text


def test_no_scene_is_asked_about_twice_in_a_skill():
    for skill in battery.SKILLS:
        scenes = [item.scene.to_json() for item in battery.items(skill, "en", 200)]
        assert len(set(scenes)) == 200, skill


def test_pictures_are_large_enough_to_be_read():
    assert battery.pixels(battery.items("reading", "en", NUM)[:2]).shape == (2, 3, 96, 96)
    assert battery.pixels(battery.items("color", "en", NUM)[:2]).shape == (2, 3, 64, 64)


def test_what_does_not_exist_is_said():
    with pytest.raises(ValueError, match="skill 'colour'"):
        battery.items("colour")
    with pytest.raises(ValueError, match="language 'es'"):
        battery.items("color", "es")
    with pytest.raises(ValueError, match="family 'colour'"):
        battery.asked("own", "colour", ("red",))


def test_items_that_the_battery_has_not_are_made_like_its_own():
    own = battery.asked("own", "query_color", ("red", "blue"), "ko", 10, "val", (2, 2))
    assert [item.id for item in own] == [f"own/ko/{n:04d}" for n in range(10)]
    assert {len(item.scene) for item in own} == {2} and {i.scene.split for i in own} == {"val"}
    assert Counter(item.answer for item in own) == {"빨간색": 5, "파란색": 5}
    few = battery.asked(
        "own", "exist", (True, False), num=4, wanted=lambda scene, asked: len(scene) == 3
    )
    assert {len(item.scene) for item in few} == {3}
