"""Train the BLIP that the book looks into: vlmbook/weights/blip-mini.

    python recipes/blip_mini.py [--out FOLDER] [--smoke]
    torchrun --nproc-per-node 8 recipes/blip_mini.py

Its eye begins as that of clip-mini, as BLIP's began as one that had learnt ImageNet; all else
begins new. Every picture is drawn when it is needed and none is seen twice. Each comes with one
caption, English or Korean, and four questions with their answers, and all tasks are trained at
once: ITC, ITM with mined negatives, and the next token of captions and of answers.

A run that was interrupted goes on when it is started again. About two hours on one CPU core;
--measure measures again what was saved.
"""

from __future__ import annotations

import functools
import json
import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import command
import numpy as np
import torch
from accelerate import Accelerator

from vlmbook import blip, checkpoint, evaluate, retrieval, tokenizer, train, world


@dataclass(frozen=True)
class Plan:
    """The steps show scenes of num_objects objects, in turns; seed is that of the scenes."""

    settings: train.Settings
    num_objects: tuple[int | tuple[int, int], ...]
    seed: int


SEED = 0  # of the weights
EYE = "clip-mini"  # whose image encoder the training begins with
PRESET = "full"
PLAN = Plan(
    train.Settings(steps=3600, batch=64, warm_up=200, precision="bf16"),
    (1, 2, 3, (1, 3)),
    seed=2,
)
LANGUAGES = ("en", "ko")
PARTIAL, COMPLETENESS = 0.2, 0.6  # so many captions tell only so much
RELATIONS = 0.4  # so many captions may tell a relation
NEGATION = 0.1  # so many captions say what is absent
NUM_QUESTIONS = 4  # about each picture
FAMILIES = tuple(family for family in world.FAMILIES if family != "read_text")  # 64 px hold no text
KEEP_EVERY = 250
AT_ONCE = 250  # pictures or questions, when measuring


def batch(
    step: int, part: slice, plan: Plan, words: tokenizer.Tokenizer, device: str
) -> blip.Batch:
    """What some rows of a step see."""
    rows = range(plan.settings.batch)[part]
    num_objects = plan.num_objects[step % len(plan.num_objects)]
    start = step * plan.settings.batch + part.start
    scenes = world.sample(
        len(rows), PRESET, "train", plan.seed, num_objects=num_objects, start=start
    )
    languages = [LANGUAGES[(row + step) % len(LANGUAGES)] for row in rows]
    texts = [caption(*pair) for pair in zip(scenes, languages, strict=True)]
    asked = [(n, q) for n, scene in enumerate(scenes) for q in questions(scene)]
    return blip.Batch(
        world.render(scenes, device=device).pixels,
        *words.batch(texts),
        language=spoken(languages),
        about=torch.tensor([about(*pair) for pair in zip(scenes, texts, strict=True)]),
        **questions_of(asked, words),
    )


def caption(scene: world.Scene, language: str) -> str:
    """What is said of a scene; always the same."""
    rng = random.Random(f"blip-mini/{scene.seed}/{scene.index}/{language}")
    return world.caption(
        scene,
        language,
        "partial" if rng.random() < PARTIAL else "full",
        rng,
        completeness=COMPLETENESS,
        relations=rng.random() < RELATIONS,
        negation=NEGATION,
    )


def questions(scene: world.Scene) -> list[world.Question]:
    """What is asked about a scene; always the same."""
    rng = random.Random(f"blip-mini/{scene.seed}/{scene.index}/ask")
    asked = world.questions(scene, rng.choice(LANGUAGES), rng, FAMILIES)
    return rng.sample(asked, min(NUM_QUESTIONS, len(asked)))


def about(scene: world.Scene, text: str) -> tuple[int, int]:
    """Numbers of what a scene shows and of what a text says, for blip.Batch."""
    shown = repr(retrieval.full_description(scene))
    return zlib.crc32(shown.encode()), zlib.crc32(text.encode())


def questions_of(
    asked: Sequence[tuple[int, world.Question]], words: tokenizer.Tokenizer
) -> dict[str, torch.Tensor]:
    """The fields of blip.Batch for questions, each with the row of its picture."""
    question, question_mask = words.batch([q.text for _, q in asked])
    return {
        "question": question,
        "question_mask": question_mask,
        "answer": words.batch([q.answer for _, q in asked])[0],
        "picture": torch.tensor([row for row, _ in asked]),
        "spoken": spoken([q.language for _, q in asked]),
    }


def spoken(languages: Sequence[str]) -> torch.Tensor:
    """The tokens of languages, (n,)."""
    return torch.tensor([blip.LANGUAGES[language] for language in languages])


def in_parts(about: Callable[[list], Sequence], items: list) -> list:
    """What about() makes of all items, a few hundred at once."""
    return [one for i in range(0, len(items), AT_ONCE) for one in about(items[i : i + AT_ONCE])]


def questions_asked(
    num: int, language: str
) -> tuple[list[tuple[world.Scene, world.Question]], np.ndarray]:
    """The test's questions of all families, and where a guess without the picture is right."""
    many = world.sample(max(2000, 12 * num), PRESET, "test", num_objects=(1, 3), seed=1)
    asked = [
        pair
        for family in FAMILIES
        for pair in world.balanced_questions(many, max(6, num // 5), family, language)
    ]
    told = [q for _, q in asked]
    guesses = evaluate.blind(_known(num), told)
    return asked, evaluate.exact_match(guesses, [q.answer for q in told])


@functools.lru_cache(maxsize=1)
def _known(num: int) -> list[world.Question]:
    """Questions and answers of training, in both languages, to guess from."""
    return [
        q
        for scene in world.sample(20 * num, PRESET, "train", num_objects=(1, 3))
        for language in LANGUAGES
        for q in world.questions(scene, language, families=FAMILIES)
    ]


@torch.no_grad()
def measure(model: blip.Blip, words: tokenizer.Tokenizer, num: int) -> dict[str, str]:
    """The figures that the model card gives, with their intervals; num items for each."""
    found = {}

    def pixels(scenes: list[world.Scene]) -> torch.Tensor:
        return world.render(scenes, device=str(model.device)).pixels

    scenes = world.sample(num, PRESET, "test", num_objects=(1, 3))
    for language in LANGUAGES:
        say = functools.partial(model.caption, tokenizer=words, language=language)
        captions = in_parts(lambda some, say=say: say(pixels(some)), scenes)
        f1 = evaluate.scene_graph(captions, scenes, language).f1
        found[f"captions, scene-graph F1, {language}"] = str(evaluate.mean(f1))

    for language in LANGUAGES:
        asked, blind = questions_asked(num, language)
        told = [q for _, q in asked]
        answers = in_parts(
            lambda some: model.answer(
                pixels([scene for scene, _ in some]), [q.text for _, q in some], words
            ),
            asked,
        )
        right = evaluate.exact_match([a.text for a in answers], [q.answer for q in told])
        found[f"answers, {language}"] = str(evaluate.accuracy(right))
        found[f"answers without a picture, {language}"] = str(evaluate.accuracy(blind))
        for family in FAMILIES:
            own = [q.family == family for q in told]
            found[f"answers, {family}, {language}"] = str(evaluate.accuracy(right[own]))

    scenes = retrieval.gallery(num)
    ids, mask = words.batch([world.caption(scene, relations=False) for scene in scenes])
    feats = torch.stack(in_parts(lambda some: model.see(pixels(some)).feats, scenes))
    scores = (model.encode_text(ids, mask) @ model.embed_image(feats).T).cpu()

    def judge(text: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
        return model.match(ids[text], mask[text], feats[picture]).diff(dim=1)[:, 0].cpu()

    again = retrieval.rerank(scores, judge, min(16, num))
    for name, table in (("ITC", scores), ("ITC, then ITM", again)):
        hits = retrieval.recall(retrieval.ranks(table))
        found[f"R@1 of {num}, text to image, {name}, en"] = str(evaluate.accuracy(hits))
    return found


def main() -> None:
    """Train, measure, save, and record how."""
    given = command.read("blip-mini", blip.STEMS, measure=True)
    num = 20 if given.smoke else 1000
    if given.measure:
        command.measure_again(given, functools.partial(measure, num=num))
        return
    record = checkpoint.provenance([SEED, PLAN.seed])
    settings = command.changed(PLAN.settings, given, batch=16)
    plan = replace(PLAN, settings=settings)

    torch.manual_seed(SEED)
    words, accelerator = tokenizer.load(), Accelerator()
    config = blip.mini(len(words), given.stem)
    model = blip.build(config)
    if given.stem == "conv":
        model.image.load_state_dict(checkpoint.load(EYE)[0].image.state_dict())
    draw = functools.partial(batch, plan=plan, words=words, device=str(accelerator.device))
    run = train.fit(model, train.multitask, draw, settings, given.state, KEEP_EVERY)
    if accelerator.is_main_process:
        record |= {
            "processes": accelerator.num_processes,
            "eye": EYE if given.stem == "conv" else None,
            "plan": asdict(plan),
            "seconds": round(run.seconds),
            "pictures": settings.steps * settings.batch,
            "loss": round(sum(run.loss[-100:]) / len(run.loss[-100:]), 4),
            "curve": [command.curve(run.loss)],
            "parameters": sum(p.numel() for p in model.parameters()),
            "measured": measure(model, words, num),
        }
        checkpoint.save(given.out, model, config, record, half=True)
        print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
