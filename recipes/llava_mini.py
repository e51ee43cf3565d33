"""Train the LLaVA that the book looks into: vlmbook/weights/llava-mini.

    python recipes/llava_mini.py [--out FOLDER] [--smoke] [--workers N]
    torchrun --nproc-per-node 8 recipes/llava_mini.py

Its eye is that of clip-mini and stays as it is. There are three stages. In "text", the language
model learns to speak of scenes that it is told about: a caption stands where a picture will stand.
In "align", which is LLaVA's first stage, the projector alone learns to make pictures into what
describes them. In "instruct", its second, projector and language model learn to do as they are
told: describe, in full, briefly, or with places; answer questions; say which of two things is not
there. Every scene is drawn when it is needed and none is seen twice; half of the conversations are
English and half Korean.

A run that was interrupted goes on when it is started again. Minutes on a GPU with CPU cores to draw
ahead (--workers), a day on one CPU core; --measure measures again what was saved.
"""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import command
import torch
from accelerate import Accelerator
from blip_mini import FAMILIES, LANGUAGES, in_parts, questions_asked

from vlmbook import checkpoint, evaluate, llava, tokenizer, train, world
from vlmbook.world.language import ko
from vlmbook.world.language.facts import Thing


@dataclass(frozen=True)
class Stage:
    """One run of training, of the parts of the model that learn; seed is that of its scenes.

    describes is how many conversations are descriptions.
    """

    settings: train.Settings
    parts: tuple[str, ...]
    describes: float
    seed: int


SEED = 0  # of the weights
EYE = "clip-mini"
PRESET, NUM_OBJECTS = "full", (1, 2, 3, (1, 3))  # of the scenes of a step, in turns
SETTINGS = train.Settings(steps=1500, batch=256, warm_up=200, precision="bf16")
STAGES = {
    "text": Stage(SETTINGS, ("text",), 0.3, 10),
    "align": Stage(replace(SETTINGS, steps=600, rate=2e-3, warm_up=50), ("projector",), 1.0, 11),
    "instruct": Stage(replace(SETTINGS, steps=5800), ("projector", "text"), 0.3, 12),
}
NUM_TURNS = 4  # questions in a conversation, or fewer
KEEP_EVERY = 500

# What is asked for, and how a caption that does it is made.
FULL, BRIEF, PLACES = {"relations": False}, {"style": "counts", "relations": False}, {}
DESCRIBE = {
    "en": (
        ("Describe the picture.", FULL),
        ("What do you see?", FULL),
        ("What is in the picture?", FULL),
        ("Tell me what is on the table.", FULL),
        ("Describe the picture briefly.", BRIEF),
        ("Where are the things?", PLACES),
    ),
    "ko": (
        ("그림을 설명해 주세요.", FULL),
        ("무엇이 보이나요?", FULL),
        ("그림에 무엇이 있나요?", FULL),
        ("탁자 위에 무엇이 있는지 말해 주세요.", FULL),
        ("그림을 짧게 설명해 주세요.", BRIEF),
        ("물건들이 어디에 있나요?", PLACES),
    ),
}


def batch(step: int, part: slice, stage: Stage, words: tokenizer.Tokenizer) -> llava.Batch:
    """What some rows of a step see."""
    rows = range(stage.settings.batch)[part]
    num_objects = NUM_OBJECTS[step % len(NUM_OBJECTS)]
    start = step * stage.settings.batch + part.start
    scenes = world.sample(
        len(rows), PRESET, "train", stage.seed, num_objects=num_objects, start=start
    )
    told_alone = stage.parts == ("text",)
    chats = [
        words.chat(conversation(scene, stage.describes, told_alone), False, IMAGE_TOKENS)
        for scene in scenes
    ]
    ids, told = (
        torch.nn.utils.rnn.pad_sequence(of, batch_first=True) for of in zip(*chats, strict=True)
    )
    if told_alone:  # everything is to be learnt
        return llava.Batch(ids, ids != tokenizer.PAD)
    return llava.Batch(ids, told, world.render(scenes).pixels)


IMAGE_TOKENS = llava.mini(0).image_tokens


def conversation(
    scene: world.Scene,
    describes: float,
    told_alone: bool = False,
    languages: Sequence[str] = LANGUAGES,
) -> list[tokenizer.Message]:
    """What is said about a scene, in one of some languages; always the same.

    told_alone: with a caption for a picture.
    """
    rng = random.Random(f"llava-mini/{scene.seed}/{scene.index}")
    language = rng.choice(languages)
    if rng.random() < describes:
        turns = [described(scene, language, rng)]
    else:
        turns = asked(scene, language, rng)
    seen: dict[str, str] = {"type": "image"}
    if told_alone:
        seen = {"type": "text", "text": world.caption(scene, rng.choice(languages), "full", rng)}
    return messages(turns, seen)


def messages(turns: Sequence[tuple[str, str]], seen: dict[str, str]) -> list[tokenizer.Message]:
    """A conversation of what is asked and answered; what is seen comes before all of it."""
    talk: list[tokenizer.Message] = []
    for question, answer in turns:
        said = question if talk else [seen, {"type": "text", "text": question}]
        talk.append({"role": "user", "content": said})
        talk.append({"role": "assistant", "content": answer})
    return talk


def described(scene: world.Scene, language: str, rng: random.Random) -> tuple[str, str]:
    """An instruction to describe, and a description."""
    instruction, how = rng.choice(DESCRIBE[language])
    return instruction, world.caption(scene, language, rng=rng, **how)


def asked(scene: world.Scene, language: str, rng: random.Random) -> list[tuple[str, str]]:
    """Up to NUM_TURNS questions and their answers, one at times for what is not there."""
    num = rng.randint(1, NUM_TURNS)
    families = rng.sample(FAMILIES, num)
    turns = [(q.text, q.answer) for q in world.questions(scene, language, rng, families)]
    if not turns or rng.random() < 0.2:
        turns.insert(rng.randint(0, len(turns)), missing(scene, language, rng))
    return turns


def missing(scene: world.Scene, language: str, rng: random.Random) -> tuple[str, str]:
    """Which of two things is not there, and the answer; they share a color or a shape."""
    one = rng.choice(scene.objects)
    preset = world.PRESETS[scene.preset]
    near = [Thing(one.shape, color) for color in preset.colors]
    near += [Thing(shape, one.color) for shape in preset.shapes]
    absent = rng.choice([thing for thing in near if not thing.found(scene)])
    two = [world.phrase(thing, language) for thing in (Thing(one.shape, one.color), absent)]
    answer = two[1]
    rng.shuffle(two)
    if language == "ko":
        return f"{ko.attach(two[0], '과')} {two[1]} 중에서 없는 것은 무엇인가요?", answer
    return f"Which of these is not there: {two[0]} or {two[1]}?", answer


@torch.no_grad()
def measure(model: llava.Llava, words: tokenizer.Tokenizer, num: int) -> dict[str, str]:
    """The figures that the model card gives, with their intervals; num items for each."""
    found = {}

    def pixels(scenes: Sequence[world.Scene]) -> torch.Tensor:
        return world.render(scenes).pixels

    scenes = world.sample(num, PRESET, "test", num_objects=(1, 3))
    for language in LANGUAGES:
        say = [{"role": "user", "content": DESCRIBE[language][0][0]}]
        texts = in_parts(
            lambda some, say=say: model.replies(pixels(some), [say] * len(some), words), scenes
        )
        f1 = evaluate.scene_graph([text.text for text in texts], scenes, language).f1
        found[f"descriptions, scene-graph F1, {language}"] = str(evaluate.mean(f1))

    def answer(some: list[tuple[world.Scene, world.Question]]) -> list:
        return model.answer(pixels([s for s, _ in some]), [q.text for _, q in some], words)

    for language in LANGUAGES:
        items, blind = questions_asked(num, language)
        told = [q for _, q in items]
        right = evaluate.exact_match(
            [a.text for a in in_parts(answer, items)], [q.answer for q in told]
        )
        found[f"answers, {language}"] = str(evaluate.accuracy(right))
        found[f"answers without a picture, {language}"] = str(evaluate.accuracy(blind))
        for family in FAMILIES:
            own = [q.family == family for q in told]
            found[f"answers, {family}, {language}"] = str(evaluate.accuracy(right[own]))
    return found


def main() -> None:
    """Train, save, measure, and record how."""
    given = command.read("llava-mini", llava.STEMS, measure=True, workers=True)
    num = 20 if given.smoke else 1000
    if given.measure:
        command.measure_again(given, functools.partial(measure, num=num))
        return
    stages = {
        name: replace(stage, settings=command.changed(stage.settings, given, batch=16))
        for name, stage in STAGES.items()
    }
    record = checkpoint.provenance([SEED, *(stage.seed for stage in stages.values())])

    torch.manual_seed(SEED)
    words, accelerator = tokenizer.load(), Accelerator()
    config = llava.mini(len(words), given.stem)
    model = llava.build(config)
    if given.stem == "conv":
        model.image.load_state_dict(checkpoint.load(EYE)[0].image.state_dict())
    runs = {}
    for name, stage in stages.items():
        model.learn(*stage.parts)
        draw = functools.partial(batch, stage=stage, words=words)
        draw = train.ahead(draw, stage.settings.steps, given.workers)
        folder = given.state / name
        runs[name] = train.fit(model, train.instructed, draw, stage.settings, folder, KEEP_EVERY)
    if accelerator.is_main_process:
        last = {name: run.loss[-100:] for name, run in runs.items()}
        record |= {
            "processes": accelerator.num_processes,
            "eye": EYE if given.stem == "conv" else None,
            "stages": {name: asdict(stage) for name, stage in stages.items()},
            "seconds": round(sum(run.seconds for run in runs.values())),
            "scenes": sum(s.settings.steps * s.settings.batch for s in stages.values()),
            "loss": {name: round(sum(some) / len(some), 4) for name, some in last.items()},
            "curve": [command.curve(run.loss) for run in runs.values()],
            "parameters": sum(p.numel() for p in model.parameters()),
        }
        checkpoint.save(given.out, model, config, record, half=True)
        record["measured"] = measure(model, words, num)
        checkpoint.save(given.out, model, config, record, half=True)
        print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
