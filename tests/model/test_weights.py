"""The weights: drawn by part, saved and loaded without loss, resized, in half precision."""

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText

from phi3v.model import Phi3VForCausalLM, Phi3VModel
from phi3v.model.vision import ClipTower

PROMPT = "<|user|>\n<|image_1|>\nWhat is shown in this image?<|end|>\n<|assistant|>\n"


@pytest.fixture
def inputs(small, picture):
    return dict(small.processor(text=PROMPT, images=picture()))


@torch.no_grad()
def logits_of(model, inputs):
    return model(**inputs).logits


def test_saving_and_loading_changes_no_bit(tmp_path, small, inputs):
    small.model.save_pretrained(tmp_path)
    for kind in (Phi3VForCausalLM, AutoModelForCausalLM, AutoModelForImageTextToText):
        loaded = kind.from_pretrained(tmp_path)
        assert type(loaded) is Phi3VForCausalLM
        assert torch.equal(logits_of(loaded, inputs), logits_of(small.model, inputs))
    assert loaded.state_dict().keys() == small.model.state_dict().keys()
    base = AutoModel.from_pretrained(tmp_path)
    assert type(base) is Phi3VModel
    with torch.no_grad():
        expected = small.model.model(**inputs).last_hidden_state
        assert torch.equal(base(**inputs).last_hidden_state, expected)


def test_fresh_weights_are_drawn_by_part(make_scratch, texts):
    model = make_scratch().load(lambda: texts).model
    pictures = model.model.vision_embed_tokens
    assert not pictures.glb_GN.any()
    assert not pictures.sub_GN.any()
    assert pictures.img_projection[0].weight.std().item() == pytest.approx(0.02, rel=0.1)
    tower = pictures.img_processor.vision_model
    assert isinstance(tower, ClipTower)
    narrow = 24**-0.5 * (2 * 3) ** -0.5
    assert tower.encoder.layers[0].self_attn.q_proj.weight.std().item() == pytest.approx(
        narrow, rel=0.15
    )
    assert torch.equal(tower.pre_layrnorm.weight, torch.ones(24))


def test_the_same_seed_draws_the_same_weights_and_disturbs_no_other_randomness(make_scratch, texts):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = make_scratch(seed=3).load(lambda: texts).model
    assert torch.equal(torch.rand(3), expected)
    second = make_scratch(seed=3).load(lambda: texts).model
    other = make_scratch(seed=4).load(lambda: texts).model
    pairs = list(zip(first.parameters(), second.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not all(torch.equal(a, c) for a, _, c in pairs)


def test_embeddings_can_be_resized_and_tied(make_scratch, texts, small, inputs):
    model = small.model
    rows = model.config.vocab_size
    before = logits_of(model, inputs)
    model.resize_token_embeddings(rows + 7)
    assert model.config.vocab_size == model.lm_head.out_features == rows + 7
    assert torch.allclose(logits_of(model, inputs)[..., :rows], before, atol=1e-6)
    config = make_scratch().config | {"tie_word_embeddings": True}
    tied = make_scratch(config=config).load(lambda: texts).model
    assert tied.lm_head.weight is tied.model.embed_tokens.weight


def test_half_precision_keeps_the_rope_frequencies_whole(make_scratch, texts, inputs):
    model = make_scratch(dtype="bfloat16").load(lambda: texts).model
    assert {value.dtype for value in model.parameters()} == {torch.bfloat16}
    assert model.model.rotary_emb.inv_freq.dtype == torch.float32
    assert logits_of(model, inputs).isfinite().all()


def test_logits_of_a_half_precision_model_are_whole_as_published(make_scratch, texts, inputs):
    model = make_scratch(dtype="bfloat16").load(lambda: texts).model
    assert logits_of(model, inputs).dtype == torch.float32
