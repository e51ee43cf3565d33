"""BLIP: equal to transformers' three classes, and each head to its definition."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import transformers

from vlmbook import blip, checkpoint, generate, tokenizer, train, world
from vlmbook.tokenizer import DECODE, EN, ENCODE, KO, PAD

BOOK = tokenizer.load()
SIZES = {"size": 32, "patch": 8, "image_width": 24, "image_depth": 2, "image_heads": 3}
SIZES |= {"text_width": 24, "text_depth": 2, "text_heads": 4, "max_tokens": 20, "shared": 16}
CLASSES = {
    "caption": transformers.BlipForConditionalGeneration,
    "match": transformers.BlipForImageTextRetrieval,
    "answer": transformers.BlipForQuestionAnswering,
}
OURS = {
    "caption": {"roles": ("decode",), "matches": False},
    "match": {"roles": ("encode",)},
    "answer": {"tied": False, "matches": False},
}
BEGIN, STOP = 5, 3


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def pair(task: str, likely_end: float = 0.0):
    """transformers' model of a tiny config, with weights that are far from 0, and ours."""
    text = {"vocab_size": 90, "hidden_size": 24, "intermediate_size": 96, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 4, "max_position_embeddings": 20, "bos_token_id": BEGIN}
    text |= {"sep_token_id": STOP, "eos_token_id": STOP, "pad_token_id": 0, "projection_dim": 24}
    image = {"hidden_size": 24, "intermediate_size": 96, "num_hidden_layers": 2}
    image |= {"num_attention_heads": 3, "image_size": 32, "patch_size": 8}
    config = transformers.BlipConfig(
        text_config=text, vision_config=image, image_text_hidden_size=16
    )
    torch.manual_seed(0)
    theirs = CLASSES[task](config).eval()
    for name, weight in theirs.named_parameters():
        much = 2.0 if name.endswith("position_embeddings.weight") else 0.3
        weight.data += much * torch.randn_like(weight)
    if likely_end:
        theirs.text_decoder.cls.predictions.bias.data[STOP] += likely_end
    made = blip.Config(90, stem="patch", encode=None, begin=BEGIN, end=STOP, pad=0, **SIZES)
    for name, value in OURS[task].items():
        object.__setattr__(made, name, value)
    return theirs, blip.build(made).eval()


def inputs(num: int = 3):
    """Pixels as both take them, texts of one length, and a mask that hides some ends."""
    pixels = torch.rand(num, 3, 32, 32)
    ids = torch.randint(6, 90, (num, 9))
    mask = torch.arange(9) < torch.tensor([9, 6, 4])[:num, None]
    return pixels, (pixels - 0.5) / 0.25, ids, mask


@torch.no_grad()
def test_captions_equal_those_of_transformers():
    theirs, ours = pair("caption")
    blip.load_transformers(ours, theirs.state_dict())
    pixels, normalised, ids, mask = inputs()
    expected = theirs(pixel_values=normalised, input_ids=ids, attention_mask=mask.long()).logits
    feats = ours.see(pixels).feats
    read = ours.decoder(ids, "decode", mask, feats)
    logits = ours.decoder.next_logits(read.feats)
    torch.testing.assert_close(logits[mask], expected[mask], atol=1e-5, rtol=1e-5)
    assert logits.std() > 0.1


@torch.no_grad()
def test_matching_equals_that_of_transformers():
    theirs, ours = pair("match")
    blip.load_transformers(ours, theirs.state_dict())
    pixels, normalised, ids, mask = inputs()
    how = {"pixel_values": normalised, "input_ids": ids, "attention_mask": mask.long()}
    feats = ours.see(pixels).feats
    torch.testing.assert_close(
        ours.match(ids, mask, feats), theirs(**how).itm_score, atol=1e-5, rtol=1e-5
    )
    cosines = ours.encode_image(pixels) @ ours.encode_text(ids, mask).T
    expected = theirs(**how, use_itm_head=False).itm_score
    torch.testing.assert_close(cosines, expected, atol=1e-5, rtol=1e-5)
    with_token = blip.build(blip.Config(**{**vars(ours.config), "encode": 77})).eval()
    blip.load_transformers(with_token, theirs.state_dict())
    changed = with_token.match(ids, mask, feats)
    assert (changed - ours.match(ids, mask, feats)).abs().min() > 1e-4  # it is read at all
    ids[:, 0] = 77
    torch.testing.assert_close(changed, ours.match(ids, mask, feats))


@torch.no_grad()
def test_answers_equal_those_of_transformers():
    theirs, ours = pair("answer")
    blip.load_transformers(ours, theirs.state_dict())
    pixels, normalised, ids, mask = inputs()
    answer = torch.randint(6, 90, (3, 4))
    asked = ours.read(ids, mask, ours.see(pixels).feats).feats
    logits = ours.decoder.next_logits(ours.decoder(answer, "decode", None, asked, mask).feats)
    # One by one and without padding: transformers 5.24 takes a mask of the question, and has the
    # decoder look at the padding all the same.
    for n, length in enumerate(mask.sum(1).tolist()):
        expected = theirs(
            pixel_values=normalised[n : n + 1],
            input_ids=ids[n : n + 1, :length],
            decoder_input_ids=answer[n : n + 1],
        )
        hidden = theirs.text_encoder(
            ids[n : n + 1, :length], encoder_hidden_states=expected.image_embeds
        ).last_hidden_state
        wanted = theirs.text_decoder(answer[n : n + 1], encoder_hidden_states=hidden).logits
        torch.testing.assert_close(logits[n : n + 1], wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("decoding", "how"),
    [("greedy", {}), ("beam", {"num_beams": 3}), ("beam", {"num_beams": 4, "length_penalty": 2.0})],
)
@torch.no_grad()
def test_generated_ids_equal_those_of_transformers(decoding, how):
    made, wanted = [], []
    settings = {"max_new_tokens": 12, "do_sample": False, **how}
    likely_ends = (0.0, 1.2, 1.7, 2.0, 2.3, 2.6, 3.0, 3.5, 4.0, 4.5)  # texts of many lengths
    for likely_end in likely_ends:
        theirs, ours = pair("caption", likely_end)
        blip.load_transformers(ours, theirs.state_dict())
        pixels, normalised, ids, _ = inputs()
        prompt = torch.cat([torch.full((3, 1), BEGIN), ids[:, :2]], 1)
        made += ours.write(prompt, ours.see(pixels).feats, None, decoding, 12, **how).ids
        ids_in = torch.cat([prompt, torch.full((3, 1), STOP)], 1)
        found = theirs.generate(pixel_values=normalised, input_ids=ids_in, **settings)
        wanted += found[:, prompt.shape[1] :]

        theirs, ours = pair("answer", likely_end)
        blip.load_transformers(ours, theirs.state_dict())
        whole = torch.ones_like(ids, dtype=torch.bool)
        asked = ours.read(ids, whole, ours.see(pixels).feats).feats
        made += ours.write(torch.full((3, 1), BEGIN), asked, whole, decoding, 12, **how).ids
        wanted += theirs.generate(pixel_values=normalised, input_ids=ids, **settings)[:, 1:]
    made, wanted = ([until_end(row.tolist()) for row in rows] for rows in (made, wanted))
    assert made == wanted
    assert len(set(made)) > 5 and any(0 < len(row) < 12 for row in made)  # worth comparing


def until_end(row):
    return tuple(row[: row.index(STOP)]) if STOP in row else tuple(row)


@pytest.mark.parametrize("task", CLASSES)
def test_weights_go_to_transformers_and_back(task):
    theirs, ours = pair(task)
    state = theirs.state_dict()
    blip.load_transformers(ours, state)
    back = blip.to_transformers(ours, task)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)
    assert ours.met.all()  # nothing tells which were not
    again = CLASSES[task](theirs.config)
    again.load_state_dict(back)
    first = next(iter(state))
    lost = {name: value for name, value in state.items() if name != first}
    with pytest.raises(ValueError, match=f"another model: {first} is missing"):
        blip.load_transformers(ours, lost)
    cut = state | {first: state[first][..., :1]}
    with pytest.raises(ValueError, match=f"{first} has shape .*, where this one takes"):
        blip.load_transformers(ours, cut)
    with pytest.raises(ValueError, match="this one has no place for pooler.weight"):
        blip.load_transformers(ours, state | {"pooler.weight": torch.zeros(1)})


def test_a_model_that_transformers_has_no_class_for_is_refused():
    _, ours = pair("caption")
    with pytest.raises(ValueError, match="task 'match' needs the role 'encode'"):
        blip.to_transformers(ours, "match")
    with pytest.raises(ValueError, match="task 'read' does not exist; choose from caption, match"):
        blip.to_transformers(ours, "read")
    with pytest.raises(ValueError, match="conv stem or a first norm has no twin"):
        blip.to_transformers(blip.build(blip.nano(90)), "match")
    theirs, _ = pair("answer")
    whole = blip.build(blip.Config(90, stem="patch", **SIZES))
    with pytest.raises(ValueError, match="build the model with tied=False and matches=False"):
        blip.load_transformers(whole, theirs.state_dict())
    theirs, ours = pair("caption")
    loose = theirs.state_dict() | {
        "text_decoder.cls.predictions.decoder.weight": torch.zeros(90, 24)
    }
    with pytest.raises(ValueError, match=r"decoder.weight is not .*word_embeddings.weight again"):
        blip.load_transformers(ours, loose)


@torch.no_grad()
def test_a_tied_model_goes_to_each_class():
    ours = blip.build(blip.Config(90, stem="patch", encode=None, begin=BEGIN, end=STOP, **SIZES))
    ours.eval()
    pixels, normalised, ids, mask = inputs()
    feats = ours.see(pixels).feats
    theirs, _ = pair("match")
    theirs.load_state_dict(blip.to_transformers(ours, "match"))
    found = theirs(pixel_values=normalised, input_ids=ids, attention_mask=mask.long()).itm_score
    torch.testing.assert_close(found, ours.match(ids, mask, feats), atol=1e-5, rtol=1e-5)
    theirs, _ = pair("caption")
    theirs.load_state_dict(blip.to_transformers(ours, "caption"))
    found = theirs(pixel_values=normalised, input_ids=ids).logits
    read = ours.decoder(ids, "decode", None, feats)
    torch.testing.assert_close(found, ours.decoder.next_logits(read.feats), atol=1e-5, rtol=1e-5)
    theirs, _ = pair("answer")
    theirs.load_state_dict(blip.to_transformers(ours, "answer"))
    begin = torch.full((3, 1), BEGIN)
    asked = ours.read(ids, torch.ones_like(ids, dtype=torch.bool), feats).feats
    made = ours.write(begin, asked, max_length=6).ids
    found = theirs.generate(pixel_values=normalised, input_ids=ids, max_new_tokens=6)[:, 1:]
    assert [until_end(r) for r in made.tolist()] == [until_end(r) for r in found.tolist()]


SMALL = {"image_depth": 1, "text_depth": 1, "image_width": 32, "text_width": 32, "shared": 16}


@pytest.fixture
def small():
    return blip.build(blip.Config(len(BOOK), image_heads=2, text_heads=2, **SMALL)).eval()


@torch.no_grad()
def far_from_new(model: blip.Blip) -> None:
    """Move all weights: new ones hardly tell pictures apart."""
    for weights in model.parameters():
        weights += 0.2 * torch.randn_like(weights)


def batch(num: int = 12, **changes) -> blip.Batch:
    """Scenes with a caption each, English and Korean in turns, and a question."""
    scenes = world.sample(num, "full", seed=1, num_objects=2)
    languages = ["en", "ko"] * (num // 2)
    texts = [world.caption(s, k) for s, k in zip(scenes, languages, strict=True)]
    asked = [world.questions(s, k)[2] for s, k in zip(scenes, languages, strict=True)]
    spoken = torch.tensor([blip.LANGUAGES[k] for k in languages])
    question, question_mask = BOOK.batch([q.text for q in asked])
    made = blip.Batch(
        world.render(scenes).pixels,
        *BOOK.batch(texts),
        language=spoken,
        about=torch.arange(num)[:, None].expand(num, 2),
        question=question,
        question_mask=question_mask,
        answer=BOOK.batch([q.answer for q in asked])[0],
        picture=torch.arange(num),
        spoken=spoken,
    )
    return made._replace(**changes)


def test_one_batch_is_learnt_by_heart():
    """ITM is left to longer runs: it moves when the others have learnt what the pictures show."""
    model, given = blip.build(blip.Config(len(BOOK), **SMALL, image_heads=2, text_heads=2)), batch()
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    for _ in range(80):
        loss = train.multitask(model, given)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert {n for n, p in model.named_parameters() if p.grad is None} == set()
    model.eval()
    with torch.no_grad():
        for task, most in {"lm": 0.5, "vqa": 0.3}.items():
            assert train.multitask(model, given, {task: 1.0}) < most, task
    asked = [BOOK.decode(row) for row in given.question]
    answers = [answer.text for answer in model.answer(given.pixels, asked, BOOK)]
    assert answers == [BOOK.decode(row) for row in given.answer]


def test_the_nano_trains_under_two_million_parameters_and_the_mini_has_at_most_seven():
    nano, mini = (blip.build(sizes(len(BOOK))) for sizes in (blip.nano, blip.mini))
    nano.image.load_state_dict(checkpoint.load("clip-mini")[0].image.state_dict())  # it fits
    nano.image.requires_grad_(False)
    assert 1e6 < sum(p.numel() for p in nano.parameters() if p.requires_grad) < 2e6
    assert 3e6 < sum(p.numel() for p in mini.parameters()) < 7e6


@torch.no_grad()
def test_losses_are_their_definitions(small):
    given = batch(picture=torch.arange(12).roll(1))  # a question about another picture
    far_from_new(small)
    out = small(given, mined=False)
    assert out.match.shape == (36, 2)
    found = {
        task: train.multitask(small, given, {task: 1.0}).item() for task in ("itc", "lm", "vqa")
    }
    feats = small.see(given.pixels).feats

    total, count = 0.0, 0  # a text at a time, a token at a time
    for ids, mask, language, own in zip(*given[1:4], feats, strict=True):
        ids = ids[mask].tolist()
        for n in range(1, len(ids)):
            so_far = torch.tensor([[DECODE, language.item(), *ids[1:n]]])
            logits = small.decoder.next_logits(
                small.decoder(so_far, "decode", None, own[None]).feats
            )
            total -= logits[0, -1].log_softmax(0)[ids[n]].item()
            count += 1
    assert found["lm"] == pytest.approx(total / count, rel=1e-5)

    total, count = 0.0, 0
    for n, answer in enumerate(given.answer):
        question = given.question[n][given.question_mask[n]][None].clone()
        question[0, 0] = ENCODE
        asked = small.text(question, "encode", None, feats[given.picture[n]][None]).feats
        ids = answer[answer != PAD].tolist()
        for m in range(1, len(ids)):
            so_far = torch.tensor([[DECODE, given.spoken[n].item(), *ids[1:m]]])
            logits = small.decoder.next_logits(small.decoder(so_far, "decode", None, asked).feats)
            total -= logits[0, -1].log_softmax(0)[ids[m]].item()
            count += 1
    assert found["vqa"] == pytest.approx(total / count, rel=1e-5)

    scores = small.scale * small.embed_image(feats) @ small.encode_text(given.ids, given.mask).T
    diagonal = torch.arange(12)
    itc = (F.cross_entropy(scores, diagonal) + F.cross_entropy(scores.T, diagonal)) / 2
    assert found["itc"] == pytest.approx(itc.item(), rel=1e-5)
    both = train.multitask(small, given, {"itc": 2.0, "lm": 0.5}).item()
    assert both == pytest.approx(2 * found["itc"] + found["lm"] / 2, rel=1e-5)


def test_matching_is_scored_by_which_rows_are_pairs():
    logits = torch.randn(9, 2)
    nothing = dict.fromkeys(blip.Outputs._fields)
    out = blip.Outputs(**nothing | {"match": logits})
    found = train.multitask(lambda *given: out, None, {"itm": 1.0})
    fits = [1, 1, 1, 0, 0, 0, 0, 0, 0]
    surprises = [-row.log_softmax(0)[fit] for row, fit in zip(logits, fits, strict=True)]
    torch.testing.assert_close(found, sum(surprises) / 9)


def test_rows_that_show_or_say_the_same_share_the_targets_of_itc():
    image, text = F.normalize(torch.randn(2, 4, 5), dim=-1)
    about = torch.tensor([[0, 0], [0, 1], [2, 1], [3, 3]])
    alike = [[0, 1], [0, 1, 2], [1, 2], [3]]
    nothing = dict.fromkeys(blip.Outputs._fields)
    heads = {"image_emb": image, "text_emb": text, "scale": torch.tensor(6.0), "about": about}
    out = blip.Outputs(**nothing | heads)
    found = train.multitask(lambda *given: out, None, {"itc": 1.0})
    scores, total = 6.0 * image @ text.T, 0.0
    for table in (scores, scores.T):
        for row, own in zip(table, alike, strict=True):
            total -= row.log_softmax(0)[own].mean() / 8
    torch.testing.assert_close(found, total)


def test_the_scale_has_a_highest_value(small):
    assert small.scale.item() == pytest.approx(1 / 0.07, rel=1e-5)
    small.log_scale.data += 9
    assert small.scale.item() == 100
    assert torch.autograd.grad(small.scale, small.log_scale)[0] == 0


@torch.no_grad()
def test_matching_sees_pairs_then_wrong_texts_then_wrong_pictures(small, monkeypatch):
    seen = []
    monkeypatch.setattr(small, "match", lambda *pair: seen.append(pair) or torch.zeros(18, 2))
    given = batch()
    small(given, ("itm",), matched=6)
    ids, mask, feats = seen[0]
    own, pictures = given.ids[:6], small.see(given.pixels).feats[:6]
    assert torch.equal(ids[:6], own) and torch.equal(ids[12:], own)
    torch.testing.assert_close(feats[:12], torch.cat([pictures, pictures]))
    assert torch.equal((mask.cumsum(1) > 0) & (ids != PAD), mask)
    for n in range(6):
        assert not torch.equal(ids[6 + n], own[n]) and not torch.allclose(
            feats[12 + n], pictures[n]
        )
        assert any(torch.equal(ids[6 + n], other) for other in own)
        assert any(torch.allclose(feats[12 + n], other) for other in pictures)


@torch.no_grad()
def test_rows_that_say_the_same_are_never_each_others_negatives(small, monkeypatch):
    asked = []

    def mined(scores, same):
        asked.append((scores, same))
        return torch.arange(12).roll(1)

    monkeypatch.setattr("vlmbook.blip.model.mined_negatives", mined)
    about = torch.stack([torch.arange(12) // 2, torch.arange(12) % 11], 1)
    given = batch(about=about)
    small(given, ("itm",))
    for n in range(12):
        for m in range(12):
            assert asked[0][1][n, m] == (n // 2 == m // 2 or n % 11 == m % 11)
    feats = small.see(given.pixels).feats
    scores = small.scale * small.embed_image(feats) @ small.encode_text(given.ids, given.mask).T
    torch.testing.assert_close(asked[0][0], scores)  # rows choose texts
    torch.testing.assert_close(asked[1][0], scores.T)  # columns choose pictures
    small(given, ("itm",), mined=False)
    assert asked[2][0].abs().max() == 0


@torch.no_grad()
def test_the_probability_of_a_text_adds_up_over_its_tokens(small):
    given = batch()
    feats = small.see(given.pixels).feats
    found = small.log_prob(given.ids, given.mask, feats, given.language)
    whole = train.multitask(small, given, {"lm": 1.0}).item()
    count = (given.mask.sum(1) - 1).sum().item()
    assert -found.sum().item() / count == pytest.approx(whole, rel=1e-4)
    made = small.write(small.prompt("ko", 12), feats, None, "nucleus", 5, top_p=1.0)
    ids = F.pad(made.ids, (1, 0), value=1)
    mask = torch.cat([torch.ones(12, 1, dtype=torch.bool), made.ids != PAD], 1)
    again = small.log_prob(ids, mask, feats, "ko")
    torch.testing.assert_close(again, made.log_prob, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_score_is_what_its_head_says_of_each_pair(small):
    far_from_new(small)
    given = batch()
    feats = small.see(given.pixels).feats
    texts = given.ids, given.mask
    found = {head: small.score(head, *texts, feats, given.language) for head in blip.HEADS}
    near = small.encode_image(given.pixels) @ small.encode_text(*texts).T
    torch.testing.assert_close(found["ITC"], near.diag())
    fits = small.match(*texts, feats).softmax(1)[:, 1]
    torch.testing.assert_close(found["ITM"].sigmoid(), fits)
    torch.testing.assert_close(found["LM"], small.log_prob(*texts, feats, given.language))
    assert (found["LM"] - small.score("LM", *texts, feats)).abs()[1::2].min() > 1e-3  # Korean


@torch.no_grad()
@pytest.mark.parametrize("language", ["en", "ko"])
def test_candidates_are_what_the_decoder_finds_likeliest_after_its_own_beginning(small, language):
    far_from_new(small)
    pixels = torch.rand(1, 3, 64, 64)
    chosen, offered = small.candidates(pixels, BOOK, language, most=5)
    feats, prompt = small.see(pixels).feats, small.prompt(language, 1)
    ids = small.write(prompt, feats).ids
    assert len(chosen) == len(offered) == ids.shape[1] > 1
    step, memory = small.next_token(feats), None
    read = prompt
    for token, name, likely in zip(ids[0], chosen, offered, strict=True):
        logits, memory = step(read, memory)
        p, tokens = logits[0].softmax(0).sort(descending=True)
        assert [other for other, _ in likely] == [BOOK.piece(int(i)).strip("·") for i in tokens[:5]]
        assert [share for _, share in likely] == pytest.approx(p[:5].tolist(), abs=1e-5)
        assert name == likely[0][0]
        read = token.view(1, 1)


@torch.no_grad()
def test_captions_and_answers_begin_with_their_language(small, monkeypatch):
    prompts = []

    def write(prompt, context, *where, **how):
        prompts.append(prompt.tolist())
        ids = torch.tensor([BOOK.encode("red cube")[1:]]).expand(len(prompt), -1)
        return generate.Generated(ids, torch.full((len(prompt),), -0.5))

    monkeypatch.setattr(small, "write", write)
    pixels = torch.rand(2, 3, 64, 64)
    assert small.caption(pixels, BOOK, "ko") == ["red cube"] * 2
    answers = small.answer(pixels, ["what is it?", "이것은 무엇인가요?"], BOOK)
    assert prompts == [[[DECODE, KO]] * 2, [[DECODE, EN], [DECODE, KO]]]
    assert [a.text for a in answers] == ["red cube"] * 2
    assert answers[0].probability == pytest.approx(0.6065, abs=1e-4)
    assert small.answer(pixels[:1], [], BOOK) == []


@torch.no_grad()
def test_an_answer_looks_at_its_own_question_and_picture_alone(small):
    questions = ["Is there a red cube?", "What color is the sphere to the left of the cone?"]
    pixels = world.render(world.sample(2, "full", num_objects=2)).pixels
    far_from_new(small)
    both = small.answer(pixels, questions, BOOK)
    for n, question in enumerate(questions):
        alone = small.answer(pixels[n : n + 1], [question], BOOK)[0]
        assert alone.text == both[n].text
        assert alone.probability == pytest.approx(both[n].probability, rel=1e-3, abs=0)
    about_one = small.answer(pixels[:1], questions, BOOK)
    assert about_one[0].probability == pytest.approx(both[0].probability, rel=1e-3, abs=0)
    assert about_one[1].probability != pytest.approx(both[1].probability, rel=1e-2, abs=0)


@torch.no_grad()
def test_each_beam_looks_at_its_own_question(small):
    ids, mask = BOOK.batch(["What is red?", "What color is the cube behind the small metal cone?"])
    asked, prompt = torch.randn(*ids.shape, 32), small.prompt("en", 2)
    both = small.write(prompt, asked, mask, "beam", 5, num_beams=3)
    for n, length in enumerate(mask.sum(1)):
        alone = small.write(prompt[:1], asked[n : n + 1, :length], None, "beam", 5, num_beams=3)
        assert both.log_prob[n].item() == pytest.approx(alone.log_prob.item(), rel=1e-5)
    unmasked = small.write(prompt, asked, None, "beam", 5, num_beams=3)
    assert both.log_prob[0].item() != pytest.approx(unmasked.log_prob[0].item(), rel=1e-5)


@torch.no_grad()
def test_training_alone_meets_what_it_reads_and_writes(small):
    given = batch()
    small(given)
    assert not small.met.any()
    small.train()(given)
    parts = [set(ids.flatten().tolist()) for ids in (given.ids, given.question, given.answer)]
    assert set(small.met.nonzero().flatten().tolist()) == set.union(*parts)
    for n in range(3):
        assert parts[n] - parts[n - 1] - parts[n - 2]  # each has a part that the others lack


def test_what_training_never_met_is_noted(small):
    pixels, question = torch.rand(1, 3, 64, 64), "Is there a red cube?"
    small.train()
    small(
        batch(question=BOOK.batch([question] * 12)[0], question_mask=BOOK.batch([question] * 12)[1])
    )
    small.eval()
    known, zebra, french = small.answer(
        pixels, [question, "Is there a red zebra?", "Où est le chat noir?"], BOOK
    )
    assert known.note == ""
    assert "training never met" in zebra.note and "'z'" in zebra.note
    assert "training never met" in french.note and 0 <= french.probability <= 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, p: m.caption(p, BOOK, max_length=0), "max_length 0 is not from 1 to 62"),
        (lambda m, p: m.caption(p, BOOK, max_length=63), "max_length 63 is not from 1 to 62"),
        (lambda m, p: m.caption(p, BOOK, decoding="beam", num_beams=0), "num_beams 0 is not 1 or"),
        (
            lambda m, p: m.caption(p, BOOK, decoding="nucleus", top_p=1.5),
            "top_p 1.5 is not above 0",
        ),
        (
            lambda m, p: m.caption(p, BOOK, decoding="best"),
            "'best' does not exist; choose from gre",
        ),
        (lambda m, p: m.caption(p, BOOK, "fr"), "language 'fr' does not exist; choose from en, ko"),
        (lambda m, p: m.answer(p, ["a", "b", "c"], BOOK), "3 questions about 2 pictures; pass one"),
        (lambda m, p: m.answer(p, ["why " * 70] * 2, BOOK), "tokens, and 64 fit; shorten it"),
        (lambda m, p: m.candidates(p, BOOK), r"of one picture, not of 2; pass pixels\[:1\]"),
        (lambda m, p: m.score("itc", p, p, p), "head 'itc' does not exist; choose from ITC, ITM"),
        (lambda m, p: m.caption(p[0], BOOK), r"are no batch .*pixels\[None\]"),
    ],
)
def test_bad_input_is_refused(small, call, message):
    with pytest.raises(ValueError, match=message):
        call(small, torch.rand(2, 3, 64, 64))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"stem": "resnet"}, "stem 'resnet' does not exist; choose from conv, patch"),
        ({"size": 60}, "size 60 is not a multiple of patch 8"),
        ({"roles": ("read",)}, "should be one or both of encode, decode"),
        ({"roles": ("decode",)}, "needs the role 'encode'; or set matches=False"),
        ({"text_width": 64}, "pictures of width 128 and at questions of width 64; make both equal"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(how, message):
    with pytest.raises(ValueError, match=message):
        blip.Config(832, **how)


def test_a_model_without_heads_does_not_match(small):
    plain = blip.build(blip.Config(len(BOOK), roles=("decode",), matches=False))
    pixels = torch.rand(1, 3, 64, 64)
    with pytest.raises(ValueError, match="without the heads for matching; use one with matches"):
        plain.encode_image(pixels)
    with pytest.raises(ValueError, match="built to decode, not to encode"):
        plain.answer(pixels, ["why?"], BOOK)
    assert len(plain.caption(pixels, BOOK, max_length=4)) == 1
