"""The model itself: it looks, it computes only what it must, it is a citizen of transformers."""

import copy

import pytest
import torch
from torch import nn

PROMPT = "<|user|>\n<|image_1|>\nWhat is shown in this image?<|end|>\n<|assistant|>\n"


@pytest.fixture
def inputs(small, picture):
    return dict(small.processor(text=PROMPT, images=picture()))


@pytest.fixture
def mixed(small, picture):
    """Rows with one, no and two pictures, padded on the left."""
    texts = [PROMPT, "A red jacket", "<|image_1|> and <|image_2|> are shown"]
    pictures = [picture(40, 24, 1), picture(24, 60, 2), picture(90, 30, 3)]
    return dict(small.processor(text=texts, images=pictures, padding=True, padding_side="left"))


def labels_of(inputs):
    labels = inputs["input_ids"].clone()
    labels[(labels < 0) | (inputs["attention_mask"] == 0)] = -100
    return labels


@torch.no_grad()
def logits_of(model, inputs, **options):
    return model(**inputs, **options).logits


def test_another_picture_gives_other_logits(small, picture):
    found = [
        logits_of(small.model, small.processor(text=PROMPT, images=picture(seed=seed)))[0, -1]
        for seed in range(3)
    ]
    assert (found[0] - found[1]).abs().max() > 1e-2
    assert (found[1] - found[2]).abs().max() > 1e-2


def test_every_crop_changes_the_logits(small, inputs):
    plain = logits_of(small.model, inputs)[0, -1]
    real = small.processor.image_processor
    rows, columns = (side // real.crop_size for side in inputs["image_sizes"][0].tolist())
    for crop in range(rows * columns + 1):
        changed = inputs | {"pixel_values": inputs["pixel_values"].clone()}
        changed["pixel_values"][0, crop] += 1
        assert (logits_of(small.model, changed)[0, -1] - plain).abs().max() > 1e-4, crop


def test_padding_crops_never_reach_clip(small, picture):
    inputs = dict(small.processor(text=PROMPT, images=picture(100, 20), num_crops=9))
    seen = []
    tower = small.model.model.vision_embed_tokens.img_processor.vision_model
    tower.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[0]))
    plain = logits_of(small.model, inputs)
    rows, columns = (side // 24 for side in inputs["image_sizes"][0].tolist())
    assert seen == [rows * columns + 1]
    assert seen[0] < inputs["pixel_values"].shape[1]
    spoiled = inputs["pixel_values"].clone()
    spoiled[:, seen[0] :] = float("nan")
    assert torch.equal(plain, logits_of(small.model, inputs | {"pixel_values": spoiled}))
    cropped = inputs["pixel_values"][:, : seen[0]]
    assert torch.equal(plain, logits_of(small.model, inputs | {"pixel_values": cropped}))


def test_the_layer_above_the_selected_one_is_never_computed(small, inputs):
    tower = small.model.model.vision_embed_tokens.img_processor.vision_model
    for value in [*tower.encoder.layers[-1].parameters(), *tower.post_layernorm.parameters()]:
        nn.init.constant_(value, float("nan"))
    assert logits_of(small.model, inputs).isfinite().all()


def test_asking_for_hidden_states_changes_no_later_forward(small, inputs):
    before = logits_of(small.model, inputs)
    out = small.model(**inputs, output_hidden_states=True, output_attentions=False)
    decoder_layers = small.model.config.num_hidden_layers
    assert len(out.hidden_states) == decoder_layers + 1
    assert all(state.shape[1] == before.shape[1] for state in out.hidden_states)
    assert torch.equal(out.hidden_states[-1], small.model.model(**inputs).last_hidden_state)
    assert torch.equal(before, logits_of(small.model, inputs))


def test_attentions_are_those_of_the_decoder(small, inputs):
    small.model.set_attn_implementation("eager")
    out = small.model(**inputs, output_attentions=True)
    length = inputs["input_ids"].shape[1]
    assert [weights.shape for weights in out.attentions] == [(1, 4, length, length)] * 2
    assert torch.allclose(out.attentions[0].sum(-1), torch.ones(1, 4, length), atol=1e-5)


def test_sdpa_and_eager_agree_and_can_be_switched(small, mixed):
    real = mixed["attention_mask"] == 1
    sdpa = logits_of(small.model, mixed)
    small.model.set_attn_implementation("eager")
    assert small.model.config.vision_config._attn_implementation == "eager"
    eager = logits_of(small.model, mixed)
    assert (sdpa[real] - eager[real]).abs().max() < 1e-4


def test_rows_of_a_batch_are_computed_as_if_alone(small, mixed, picture):
    together = logits_of(small.model, mixed)
    first = mixed["attention_mask"].argmax(1)
    owners, seen = [[0], [], [1, 2]], 0
    for row, own in enumerate(owners):
        alone = {"input_ids": mixed["input_ids"][row : row + 1, first[row] :]}
        if own:
            alone["pixel_values"] = mixed["pixel_values"][own]
            alone["image_sizes"] = mixed["image_sizes"][own]
        seen += len(own)
        difference = logits_of(small.model, alone)[0] - together[row, first[row] :]
        assert difference.abs().max() < 1e-4, row
    assert seen == len(mixed["pixel_values"])


def test_pictures_named_out_of_order_stand_where_they_are_named(small, picture):
    pictures = [picture(24, 24, 1), picture(90, 30, 2)]
    swapped = small.processor(text="<|image_2|> then <|image_1|>", images=pictures)
    ordered = small.processor(text="<|image_1|> then <|image_2|>", images=pictures[::-1])
    difference = logits_of(small.model, swapped) - logits_of(small.model, ordered)
    assert difference.abs().max() == 0


def test_forward_and_generate_write_into_none_of_their_inputs(small, mixed):
    before = copy.deepcopy(mixed)
    logits_of(small.model, mixed)
    small.model.generate(**mixed, max_new_tokens=3, num_beams=2)
    assert mixed.keys() == before.keys()
    assert all(torch.equal(mixed[key], before[key]) for key in before)


def test_embeddings_can_be_given_instead_of_ids(small):
    ids = small.processor(text="A red jacket")["input_ids"]
    embeds = small.model.get_input_embeddings()(ids)
    by_ids = logits_of(small.model, {"input_ids": ids})
    assert torch.equal(by_ids, logits_of(small.model, {"inputs_embeds": embeds}))
    with pytest.raises(ValueError, match="exactly one"):
        small.model(input_ids=ids, inputs_embeds=embeds)
    with pytest.raises(ValueError, match="exactly one"):
        small.model()


def test_embeddings_with_pictures_in_place_give_the_same_logits(small, inputs):
    ids, pixels, sizes = (inputs[key] for key in ("input_ids", "pixel_values", "image_sizes"))
    embeds = small.model.model.embed(ids, pixels, sizes)
    assert torch.equal(
        logits_of(small.model, inputs), logits_of(small.model, {"inputs_embeds": embeds})
    )
    with pytest.raises(ValueError, match="pixel_values needs input_ids"):
        small.model(inputs_embeds=embeds, pixel_values=pixels, image_sizes=sizes)


def test_tuple_and_dictionary_say_the_same(small, inputs):
    labels = labels_of(inputs)
    as_dict = small.model(**inputs, labels=labels)
    as_tuple = small.model(**inputs, labels=labels, return_dict=False)
    assert isinstance(as_tuple, tuple)
    assert torch.equal(as_tuple[0], as_dict.loss)
    assert torch.equal(as_tuple[1], as_dict.logits)


def test_logits_are_computed_only_where_they_are_wanted(small, inputs):
    every = logits_of(small.model, inputs)
    last = logits_of(small.model, inputs, logits_to_keep=2)
    assert torch.allclose(last, every[:, -2:], atol=1e-5)
    wanted = torch.tensor([3, 5])
    some = logits_of(small.model, inputs, logits_to_keep=wanted)
    assert torch.allclose(some, every[:, wanted], atol=1e-5)


def test_the_loss_is_the_mean_over_labels_that_count_shifted_by_one(small, mixed):
    labels = labels_of(mixed)
    out = small.model(**mixed, labels=labels)
    expected = nn.functional.cross_entropy(
        out.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
    )
    assert torch.allclose(out.loss, expected)


def test_a_packed_row_is_computed_as_its_documents_alone(small):
    ids = [small.processor(text=text)["input_ids"] for text in ("A red jacket", "Full Price: 12")]
    positions = torch.cat([torch.arange(i.shape[1]) for i in ids])[None]
    packed = logits_of(small.model, {"input_ids": torch.cat(ids, 1), "position_ids": positions})
    alone = torch.cat([logits_of(small.model, {"input_ids": i}) for i in ids], 1)
    assert (packed - alone).abs().max() < 1e-4


def test_continuing_from_a_cache_is_the_same_as_starting_over(small, inputs):
    whole = logits_of(small.model, inputs)
    cut = inputs["input_ids"].shape[1] - 4
    head = {**inputs, "input_ids": inputs["input_ids"][:, :cut], "use_cache": True}
    head["attention_mask"] = inputs["attention_mask"][:, :cut]
    with torch.no_grad():
        first = small.model(**head)
        rest = small.model(
            input_ids=inputs["input_ids"][:, cut:], past_key_values=first.past_key_values
        )
    assert (torch.cat([first.logits, rest.logits], 1) - whole).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i: i.pop("pixel_values"), "pixel_values is missing"),
        (lambda i: i.pop("image_sizes"), "without image_sizes"),
        (lambda i: i["input_ids"].__setitem__((0, 6), 5), "placeholders, the 1 pictures have"),
        (lambda i: i["image_sizes"].add_(5), "no multiple of the crop size"),
        (lambda i: i.update(pixel_values=i["pixel_values"][:, :2]), "asks for 3 crops|crops with"),
        (lambda i: i.update(pixel_values=i["pixel_values"][0]), "does not hold"),
    ],
)
def test_pictures_that_do_not_fit_the_prompt_are_an_error(small, inputs, change, message):
    change(inputs)
    with pytest.raises(ValueError, match=message):
        small.model(**inputs)


def test_two_pictures_cannot_share_placeholders(small, picture):
    pictures = [picture(24, 24), picture(90, 30)]
    inputs = small.processor(text="<|image_1|><|image_2|>", images=pictures)
    inputs["image_sizes"] = inputs["image_sizes"].flip(0)
    inputs["pixel_values"] = inputs["pixel_values"].flip(0)
    with pytest.raises(ValueError, match=r"picture \d has"):
        small.model(**inputs)


def test_gradient_checkpointing_computes_again_and_gives_the_same_gradients(small, inputs):
    model = small.model.train()
    inputs["labels"] = labels_of(inputs)
    calls = []
    layers = [
        *model.model.layers,
        *model.model.vision_embed_tokens.img_processor.vision_model.encoder.layers[:-1],
    ]
    for layer in layers:
        layer.mlp.register_forward_pre_hook(lambda *_: calls.append(1))

    def gradients():
        calls.clear()
        model.zero_grad()
        model(**inputs).loss.backward()
        return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    plain = gradients()
    assert len(calls) == len(layers)
    model.activation_checkpointing_enable()
    again = gradients()
    assert len(calls) == 2 * len(layers)
    assert plain.keys() == again.keys()
    assert all(torch.allclose(plain[name], again[name], atol=1e-6) for name in plain)


def test_a_frozen_tower_stays_out_of_the_graph_when_adapters_ask_for_input_gradients(small, inputs):
    model = small.model.train()
    model.requires_grad_(False)
    model.model.layers[0].mlp.down_proj.weight.requires_grad_(True)
    model.enable_input_require_grads()
    tower = model.model.vision_embed_tokens.img_processor
    outputs = []
    tower.register_forward_hook(lambda *call: outputs.append(call[2]))
    model(**inputs, labels=labels_of(inputs)).loss.backward()
    assert not outputs[0].requires_grad
    assert model.model.layers[0].mlp.down_proj.weight.grad is not None


def test_the_padding_row_of_the_embedding_gets_no_gradient(small, mixed):
    small.model.train()
    small.model(**mixed, labels=labels_of(mixed)).loss.backward()
    gradient = small.model.get_input_embeddings().weight.grad
    assert not gradient[small.model.config.pad_token_id].any()
    assert gradient[small.model.config.bos_token_id].any()


def test_labels_at_placeholders_count_for_nothing(small, inputs):
    expected = small.model(**inputs, labels=labels_of(inputs)).loss
    assert torch.equal(small.model(**inputs, labels=inputs["input_ids"]).loss, expected)
