"""LLaVA: equal to transformers' class, and its prompts hold what they say."""

import pytest
import torch
import transformers

from vlmbook import llava, tokenizer

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
    from vlmbook import generate

    assert torch.equal(generate.greedy(step, prompt, 12).ids, made)
