"""LLaVA: equal to transformers' class, and its prompts hold what they say."""

import peft
import pytest
import torch
import transformers

from vlmbook import checkpoint, clip, evaluate, generate, llava, tokenizer, world

MAJOR = int(transformers.__version__.split(".")[0])
SIZES = {
    "size": 32,
    "patch": 8,
    "stem": "patch",
    "image_width": 32,
    "image_depth": 3,
    "image_heads": 4,
    "text_width": 48,
    "text_depth": 2,
    "text_heads": 6,
    "text_groups": 3,
    "text_hidden": 80,
}


def pair(layer=-2, keep_class=False, tied=False, activation="quick_gelu"):
    """transformers' model of a tiny config, with weights that are far from 0, and ours."""
    words = tokenizer.load()
    config = llava.Config(
        len(words), **SIZES, layer=layer, keep_class=keep_class, tied=tied, activation=activation
    )
    theirs = transformers.LlavaForConditionalGeneration(
        transformers.LlavaConfig(
            vision_config=transformers.CLIPVisionConfig(
                hidden_size=32,
                intermediate_size=128,
                num_hidden_layers=3,
                num_attention_heads=4,
                image_size=32,
                patch_size=8,
                hidden_act=activation,
            ),
            text_config=transformers.LlamaConfig(
                vocab_size=len(words),
                hidden_size=48,
                intermediate_size=80,
                num_hidden_layers=2,
                num_attention_heads=6,
                num_key_value_heads=3,
                max_position_embeddings=384,
                rms_norm_eps=1e-6,
                tie_word_embeddings=tied,
                bos_token_id=tokenizer.START,
                eos_token_id=tokenizer.END,
                pad_token_id=tokenizer.PAD,
            ),
            image_token_index=tokenizer.IMAGE,
            image_token_id=tokenizer.IMAGE,
            vision_feature_layer=layer,
            vision_feature_select_strategy="full" if keep_class else "default",
            image_seq_length=16 + keep_class,
            tie_word_embeddings=tied,
        )
    ).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for name, value in theirs.named_parameters():
            if "norm" in name and name.endswith("weight"):
                value.copy_(1 + 0.2 * torch.randn_like(value))
            else:
                value.copy_(0.15 * torch.randn_like(value))
    return theirs, llava.build(config).eval(), words


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"layer": -1, "keep_class": True},
        {"layer": -3, "tied": True},
        {"layer": -2, "activation": "gelu"},
    ],
    ids=str,
)
@torch.no_grad()
def test_logits_and_generated_ids_equal_those_of_transformers(how):
    theirs, ours, words = pair(**how)
    llava.load_transformers(ours, theirs.state_dict())
    pixels = torch.rand(2, 3, 32, 32)
    asked = ["is there a red cube?", "빨간 공은 몇 개인가요? how many?"]
    prompt = ours.prompts([[{"role": "user", "content": q}] for q in asked], words, 2)
    mask = prompt != tokenizer.PAD
    assert not mask.all()  # one is padded
    given = {
        "input_ids": prompt,
        "attention_mask": mask.long(),
        "pixel_values": ours.prepare(pixels),
    }
    expected = theirs(**given).logits
    own = ours.text.next_logits(ours.read(prompt, ours.see(pixels), mask).feats)
    assert expected.std() > 0.1
    torch.testing.assert_close(own[mask], expected[mask], atol=1e-5, rtol=1e-5)
    made = theirs.generate(**given, max_new_tokens=12, do_sample=False)[:, prompt.shape[1] :]
    step = ours.next_token(prompt, ours.see(pixels))
    assert torch.equal(generate.greedy(step, prompt, 12).ids, made)


@pytest.mark.parametrize("tied", [True, False])
def test_weights_go_to_transformers_and_back(tied):
    theirs, ours, _ = pair(tied=tied)
    state = theirs.state_dict()
    llava.load_transformers(ours, state)
    back = llava.to_transformers(ours, MAJOR)
    assert set(back) == set(state)
    assert all(torch.equal(back[name], value) for name, value in state.items())
    old = {}  # as versions before 4.52 named them
    for name, value in llava.to_transformers(ours).items():
        name = name.replace("model.vision_tower.", "vision_tower.vision_model.")
        name = name.replace("model.multi_modal_projector", "multi_modal_projector")
        name = name.replace("model.language_model.", "language_model.model.")
        old[name.replace("lm_head.", "language_model.lm_head.")] = value
    again = llava.build(ours.config)
    llava.load_transformers(again, old)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in ours.state_dict().items())


def test_what_has_no_twin_or_does_not_fit_is_refused():
    theirs, ours, words = pair()
    for change in ({"stem": "conv"}, {"projector": "linear"}):
        other = llava.build(llava.Config(len(words), **{**SIZES, **change}))
        with pytest.raises(ValueError, match="no twin"):
            llava.to_transformers(other)
        with pytest.raises(ValueError, match="no twin"):
            llava.load_transformers(other, theirs.state_dict())
    state = theirs.state_dict()
    del state["model.multi_modal_projector.linear_2.bias"]
    with pytest.raises(ValueError, match="multi_modal_projector.linear_2.bias is missing"):
        llava.load_transformers(ours, state)


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    words = tokenizer.load()
    return llava.build(llava.Config(len(words), **SIZES)).eval(), words


def user(content):
    return {"role": "user", "content": content}


IMAGE = {"type": "image"}
PIXELS = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_image_tokens_stand_where_the_prompt_keeps_their_places(tiny):
    model, words = tiny
    told = [user([{"type": "text", "text": "a"}, IMAGE, {"type": "text", "text": "b"}, IMAGE])]
    ids = model.prompts([told], words, 2)
    feats = model.see(PIXELS)
    assert feats.shape == (2, 16, 48)
    x = model.embed(ids, feats)
    at = (ids[0] == tokenizer.IMAGE).nonzero()[:, 0]
    assert torch.equal(x[0, at], feats.flatten(0, 1))
    rest = ids[0] != tokenizer.IMAGE
    assert torch.equal(x[0, rest], model.text.token(ids[0, rest]))


@pytest.mark.parametrize("change", ["layer", "class", "projector"])
def test_what_the_language_model_sees_follows_the_config(tiny, change):
    model, words = tiny
    other = {"layer": {"layer": -1}, "class": {"keep_class": True}, "projector":
             {"projector": "linear"}}[change]  # fmt: skip
    changed = llava.build(llava.Config(len(words), **SIZES, **other)).eval()
    if change != "projector":
        changed.load_state_dict(model.state_dict())
        seen = changed.image(changed.prepare(PIXELS), changed.config.layer).feats
        seen = seen if change == "class" else seen[:, 1:]
        torch.testing.assert_close(changed.see(PIXELS), changed.projector(seen))
    assert changed.see(PIXELS).shape == (2, changed.config.image_tokens, 48)
    assert changed.config.image_tokens == 16 + (change == "class")
    if change == "layer":
        assert not torch.equal(changed.see(PIXELS), model.see(PIXELS))


def test_only_the_parts_that_learn_change(tiny):
    model, words = tiny
    model = llava.build(model.config)
    model.learn("projector")
    assert {n.split(".")[0] for n, p in model.named_parameters() if p.requires_grad} == {
        "projector"
    }
    with pytest.raises(ValueError, match="part 'eye' does not exist; choose from image"):
        model.learn("eye")


def test_only_what_the_assistant_says_is_learnt(tiny):
    model, words = tiny
    told = [[user([IMAGE, {"type": "text", "text": "is there a cube?"}]),
             {"role": "assistant", "content": "yes"}, user("how many?"),
             {"role": "assistant", "content": "two cubes"}], [user([IMAGE]),
             {"role": "assistant", "content": "a sphere"}]]  # fmt: skip
    chats = [words.chat(t, False, 16) for t in told]
    ids, said = (
        torch.nn.utils.rnn.pad_sequence(of, batch_first=True) for of in zip(*chats, strict=True)
    )
    logits, targets = model(llava.Batch(ids, said, PIXELS))
    pieces = [words.piece(i).strip("·") for i in targets.tolist()]
    assert pieces == ["yes", "<end>", "two", "cubes", "<end>", "a", "sphere", "<end>"]
    whole = model.text.next_logits(model.read(ids, model.see(PIXELS)).feats)
    torch.testing.assert_close(logits, whole[:, :-1][said[:, 1:]])
    alone, _ = model(llava.Batch(chats[1].ids[None], chats[1].told[None], PIXELS[1:]))
    torch.testing.assert_close(logits[5:], alone, atol=1e-5, rtol=1e-4)  # padding is not read


def test_a_batch_says_what_each_conversation_says_alone(tiny):
    model, words = tiny
    asked = ["is there a cube?", "빨간 공은 모두 몇 개인가요? tell me more", "what?"]
    one = PIXELS[:1].expand(3, -1, -1, -1)
    together = model.answer(one, asked, words)
    for question, answer in zip(asked, together, strict=True):
        alone = model.answer(PIXELS[:1], [question], words)[0]
        assert alone.text == answer.text
        assert alone.probability == pytest.approx(answer.probability, rel=1e-3)
    shared = model.answer(PIXELS[:1], asked, words)
    assert [a.text for a in shared] == [a.text for a in together]
    assert model.chat(PIXELS[:1], [user(asked[0])], words, max_length=8) == together[0].text


@pytest.mark.parametrize("text", ["is there a cube?", "빨간", "?", "a b c"])
def test_a_stream_gives_the_text_piece_by_piece(tiny, text):
    model, words = tiny
    pieces = list(model.stream(PIXELS[:1], [user(text)], words, max_length=12))
    assert len(pieces) > 1
    assert "".join(pieces) == model.chat(PIXELS[:1], [user(text)], words, max_length=12)


def test_a_stream_never_gives_half_a_letter(tiny, monkeypatch):
    model, words = tiny
    ids = words.encode("뷁 a 쀍")[1:]
    assert len(ids) > 6  # letters that training never met are several tokens
    made = [(torch.tensor([i]), torch.zeros(1)) for i in ids]
    monkeypatch.setattr(generate, "stream", lambda *given: iter(made))
    pieces = list(model.stream(PIXELS[:1], [user("?")], words))
    assert "".join(pieces) == "뷁 a 쀍" and not any("\ufffd" in piece for piece in pieces)


def test_without_a_picture_it_is_a_language_model(tiny):
    model, words = tiny
    text = model.chat(None, [user("is there a cube?")], words, max_length=4)
    assert isinstance(text, str)
    ids = words.chat([user("is there a cube?")]).ids[None]
    first = model.text.next_logits(model.text(model.text.token(ids)).feats[:, -1]).argmax()
    assert model.next_token(ids)(ids, None)[0].argmax() == first


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda m, w: m.chat(PIXELS, [user("hi")], w), "pictures: 2, placeholders for them: 1"),
        (lambda m, w: m.chat(PIXELS[:1], [user([IMAGE, IMAGE])], w), "pictures: 1, .* 2"),
        (lambda m, w: m.chat(PIXELS[:1], [{"role": "cat", "content": "x"}], w), "choose from user"),
        (lambda m, w: m.chat(PIXELS[:1], [user([{"type": "sound"}])], w), "choose from text, imag"),
        (lambda m, w: m.chat(PIXELS[:1], [user(3)], w), "neither a text nor a list"),
        (lambda m, w: m.chat(PIXELS[:1], [user("a " * 400)], w), "are more than the 384"),
        (lambda m, w: m.answer(PIXELS, ["a", "b", "c"], w), "3 questions about 2 pictures"),
        (lambda m, w: m.embed(torch.tensor([[1, 2, 2]]), m.see(PIXELS[:1])), "2 places .* 16"),
        (lambda m, w: m.embed(torch.tensor([[1, 2, 2]])), "keeps 2 places .* 0"),
        (lambda m, w: m.chat(PIXELS[:1], [user("a")], w, decoding="best"), "choose from greedy"),
        (lambda m, w: llava.Config(9, stem="x"), "stem 'x' does not exist"),
        (lambda m, w: llava.Config(9, size=30), "size 30 is not a multiple of patch 8"),
    ],
)  # fmt: skip
def test_bad_input(tiny, call, message):
    with pytest.raises(ValueError, match=message):
        call(*tiny)


def test_the_sizes_are_what_is_promised():
    words = tokenizer.load()

    def count(module):
        return sum(p.numel() for p in module.parameters())

    mini, nano = llava.build(llava.mini(len(words))), llava.build(llava.nano(len(words)))
    eye = count(clip.build(clip.mini(len(words))).image)
    assert count(mini.image) == count(nano.image) == eye
    assert count(mini) - eye < 7e6 and count(nano.text) < 0.8e6


@pytest.fixture(scope="module")
def shipped():
    return checkpoint.load("llava-mini")


def test_the_shipped_one_sees_with_the_eye_of_clip_mini(shipped):
    eye = checkpoint.load("clip-mini")[0].image.state_dict()
    own = shipped[0].image.state_dict()
    assert all(torch.equal(own[name], value) for name, value in eye.items())


def test_the_shipped_one_describes_and_answers(shipped):
    model, words = shipped
    scenes = world.sample(40, "full", "val", num_objects=(1, 3))
    pixels = world.render(scenes).pixels
    for language, ask in (("en", "Describe the picture."), ("ko", "그림을 설명해 주세요.")):
        told = [a.text for a in model.replies(pixels, [[user(ask)]] * 40, words)]
        assert evaluate.scene_graph(told, scenes, language).f1.mean() > 0.9
        asked = [
            (s, q) for s in scenes for q in world.questions(s, language, None, ["query_color"])
        ]
        answers = model.answer(
            world.render([s for s, _ in asked]).pixels, [q.text for _, q in asked], words
        )
        right = [a.text == q.answer for a, (_, q) in zip(answers, asked, strict=True)]
        assert sum(right) / len(right) > 0.9


OURS = ["query", "key", "value", "out", "gate", "up", "down"]
THEIRS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def lora(names, eye):
    """LoRA of rank 4, for the maps of a language model with these names."""
    torch.manual_seed(0)  # of what the next model is given
    return peft.LoraConfig(r=4, lora_alpha=8, target_modules=names, exclude_modules=eye)


def test_lora_by_peft_learns_the_same_in_ours_and_in_theirs():
    theirs, ours, words = pair()
    llava.load_transformers(ours, theirs.state_dict())
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    chat = words.chat(
        [
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "a cube?"}]},
            {"role": "assistant", "content": "yes"},
        ],
        False,
        ours.config.image_tokens,
    )
    batch = llava.Batch(chat.ids[None], chat.told[None], torch.rand(1, 3, 32, 32))
    pixels = ours.prepare(batch.pixels)
    expected = ours(batch)[0].detach()
    wrapped = peft.get_peft_model(ours, lora(OURS, "image.*"))
    peft.inject_adapter_in_model(lora(THEIRS, ".*vision_tower.*"), theirs)
    torch.testing.assert_close(ours(batch)[0], expected, atol=0, rtol=0)  # nothing is learnt yet

    def of_ours():
        logits, labels = wrapped(batch)
        return torch.nn.functional.cross_entropy(logits, labels)

    def of_theirs():
        labels = batch.ids.masked_fill(~batch.told, -100)
        return theirs(input_ids=batch.ids, pixel_values=pixels, labels=labels).loss

    found = []
    for loss, model in ((of_ours, wrapped), (of_theirs, theirs)):
        learning = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(learning, lr=0.3)
        values = []
        for _ in range(4):
            optimizer.zero_grad()
            values.append(loss())
            values[-1].backward()
            optimizer.step()
        found.append(torch.stack(values).detach())
        assert {len(p) for p in learning} >= {4}  # of rank 4
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-5)
    assert found[0][-1] < found[0][0] - 0.1
    kept = {name.replace(".base_layer", ""): value for name, value in ours.state_dict().items()}
    assert all(torch.equal(kept[name], value) for name, value in before.items())
    learnt = ours(batch)[0].detach()
    merged = wrapped.merge_and_unload()
    torch.testing.assert_close(merged(batch)[0], learnt, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(merged(batch)[0], expected, atol=1e-2)
