"""generate() with pictures: cached, batched, beams, assisted, across the rope boundary."""

import copy

import pytest
import torch
from transformers import DynamicCache, StaticCache

from phi3v.model import Phi3VForCausalLM
from phi3v.model.generation import _cut_candidates

PROMPT = "<|user|>\n<|image_1|>\nWhat is shown in this image?<|end|>\n<|assistant|>\n"
GREEDY = {"do_sample": False, "max_new_tokens": 6, "eos_token_id": None}


@pytest.fixture
def inputs(small, picture):
    return dict(small.processor(text=PROMPT, images=picture()))


@pytest.fixture
def mixed(small, picture):
    texts = [PROMPT, "A red jacket", "<|image_1|> and <|image_2|> are shown"]
    pictures = [picture(40, 24, 1), picture(24, 60, 2), picture(90, 30, 3)]
    return dict(small.processor(text=texts, images=pictures, padding=True, padding_side="left"))


def answer(model, inputs, **options):
    return model.generate(**inputs, **GREEDY | options)[:, inputs["input_ids"].shape[1] :]


def by_hand(model, inputs, count=6):
    """Greedy tokens with a whole forward pass for each."""
    inputs = dict(inputs)
    for _ in range(count):
        logits = model(**inputs, use_cache=False).logits[:, -1]
        token = logits.argmax(-1, keepdim=True)
        inputs["input_ids"] = torch.cat([inputs["input_ids"], token], 1)
        ones = inputs["attention_mask"].new_ones(len(token), 1)
        inputs["attention_mask"] = torch.cat([inputs["attention_mask"], ones], 1)
    return inputs["input_ids"][:, -count:]


def count_tower_runs(model):
    runs = []
    tower = model.model.vision_embed_tokens
    tower.register_forward_hook(lambda _, args, __: runs.append(len(args[0])))
    return runs


@torch.no_grad()
def test_cached_generation_is_what_repeated_forwards_say(small, inputs):
    expected = by_hand(small.model, inputs)
    assert torch.equal(answer(small.model, inputs), expected)
    assert torch.equal(answer(small.model, inputs, use_cache=False), expected)


def test_pictures_are_looked_at_once(small, inputs):
    runs = count_tower_runs(small.model)
    answer(small.model, inputs)
    assert runs == [1]


def test_a_static_cache_gives_the_same_tokens(small, mixed):
    expected = answer(small.model, mixed)
    assert torch.equal(answer(small.model, mixed, cache_implementation="static"), expected)


@torch.no_grad()
def test_rows_of_a_batch_are_generated_as_if_alone(small, mixed):
    together = answer(small.model, mixed)
    for row, own in enumerate([[0], [], [1, 2]]):
        start = int(mixed["attention_mask"][row].argmax())
        alone = {
            "input_ids": mixed["input_ids"][row : row + 1, start:],
            "attention_mask": mixed["attention_mask"][row : row + 1, start:],
        }
        if own:
            alone |= {key: mixed[key][own] for key in ("pixel_values", "image_sizes")}
        assert torch.equal(answer(small.model, alone)[0], together[row])


def test_beams_and_repeated_rows_keep_each_row_with_its_pictures(small, mixed):
    greedy = answer(small.model, mixed)
    repeated = {key: mixed[key].repeat_interleave(2, 0) for key in ("input_ids", "attention_mask")}
    order = [0, 0, 1, 2, 1, 2]
    repeated |= {key: mixed[key][order] for key in ("pixel_values", "image_sizes")}
    assert torch.equal(answer(small.model, repeated), greedy.repeat_interleave(2, 0))
    torch.manual_seed(0)
    sampled = answer(small.model, mixed, do_sample=True, top_k=1, num_return_sequences=2)
    assert torch.equal(sampled, greedy.repeat_interleave(2, 0))
    beams = answer(small.model, mixed, num_beams=3, num_return_sequences=2)
    rows = [answer(small.model, row, num_beams=3, num_return_sequences=2) for row in split(mixed)]
    assert torch.equal(beams, torch.cat(rows))


def split(mixed):
    for row, own in enumerate([[0], [], [1, 2]]):
        alone = {key: mixed[key][row : row + 1] for key in ("input_ids", "attention_mask")}
        if own:
            alone |= {key: mixed[key][own] for key in ("pixel_values", "image_sizes")}
        yield alone


@pytest.mark.parametrize(
    "options",
    [
        {"repetition_penalty": 1.3},
        {"no_repeat_ngram_size": 2},
        {"sequence_bias": {(5,): 1.0}},
        {"min_new_tokens": 4, "eos_token_id": 7},
    ],
)
def test_logits_processors_meet_no_negative_id(small, mixed, options):
    out = answer(small.model, mixed, **options)
    assert out.shape[1] >= 4
    assert (out >= 0).all()


def test_stop_strings_meet_no_negative_id(small, inputs):
    free = answer(small.model, inputs)
    stop = "a string so long that it reaches back into the picture and beyond it " * 2
    kept = answer(small.model, inputs, stop_strings=[stop], tokenizer=small.processor.tokenizer)
    assert torch.equal(kept, free)


def test_a_repetition_penalty_leaves_tokens_alone_that_stand_nowhere(small, inputs):
    config = {**GREEDY, "max_new_tokens": 1, "output_scores": True, "output_logits": True}
    out = small.model.generate(
        **inputs, **config, repetition_penalty=2.0, return_dict_in_generate=True
    )
    changed = (out.scores[0] != out.logits[0])[0].nonzero()[:, 0].tolist()
    assert set(changed) <= set(inputs["input_ids"][0].tolist())


def test_assisted_decoding_gives_the_same_tokens(small, inputs, make_scratch, texts):
    expected = answer(small.model, inputs)
    assistant = make_scratch(seed=9).load(lambda: texts).model
    assert torch.equal(answer(small.model, inputs, assistant_model=assistant), expected)
    assert torch.equal(answer(small.model, inputs, assistant_model=small.model), expected)


def test_looking_up_the_prompt_proposes_no_placeholder(small, inputs):
    # The last token stands before the picture, so that placeholders are what follows it.
    follow = inputs["input_ids"][:, 2:4]
    inputs["input_ids"] = torch.cat([inputs["input_ids"], follow], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    expected = answer(small.model, inputs)
    assert torch.equal(answer(small.model, inputs, prompt_lookup_num_tokens=4), expected)


def test_generation_continues_from_a_cache(small, inputs):
    expected = answer(small.model, inputs, max_new_tokens=6)
    first = small.model.generate(
        **inputs, **GREEDY | {"max_new_tokens": 3}, return_dict_in_generate=True
    )
    runs = count_tower_runs(small.model)
    longer = {**inputs, "input_ids": first.sequences}
    longer["attention_mask"] = torch.ones_like(first.sequences)
    rest = answer(small.model, longer, max_new_tokens=3, past_key_values=first.past_key_values)
    assert torch.equal(rest, expected[:, 3:])
    assert runs == []  # the picture's tokens are in the cache


def test_a_second_turn_with_a_second_picture_looks_at_that_one_only(small, picture):
    pictures = [picture(24, 24, 1), picture(90, 30, 2)]
    one = dict(small.processor(text="<|image_1|> A", images=pictures[:1]))
    both = dict(small.processor(text="<|image_1|> A<|image_2|> B", images=pictures))
    assert torch.equal(both["input_ids"][:, : one["input_ids"].shape[1]], one["input_ids"])
    cache = DynamicCache(config=small.model.config)
    with torch.no_grad():
        small.model(**one, past_key_values=cache, use_cache=True)
    expected = answer(small.model, both)
    runs = count_tower_runs(small.model)
    assert torch.equal(answer(small.model, both, past_key_values=cache), expected)
    assert runs == [1]


def test_generation_begins_from_embeddings(small):
    ids = small.processor(text="A red jacket")["input_ids"]
    embeds = small.model.get_input_embeddings()(ids)
    expected = small.model.generate(ids, **GREEDY)[:, ids.shape[1] :]
    assert torch.equal(small.model.generate(inputs_embeds=embeds, **GREEDY), expected)


@pytest.fixture
def near_boundary(small, inputs):
    """The prompt ends three tokens before the rope factors switch."""
    model = small.model
    length = inputs["input_ids"].shape[1] + 3
    config = copy.deepcopy(model.config)
    config.original_max_position_embeddings = length
    config.rope_parameters["original_max_position_embeddings"] = length
    switched = Phi3VForCausalLM(config).eval()
    switched.load_state_dict(model.state_dict())
    return switched


@torch.no_grad()
@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_across_the_rope_boundary_the_whole_prompt_runs_once_more(near_boundary, inputs, cache):
    expected = by_hand(near_boundary, inputs)
    runs = count_tower_runs(near_boundary)
    out = answer(near_boundary, inputs, cache_implementation=cache)
    assert torch.equal(out, expected)
    assert runs == [1, 1]


@torch.no_grad()
def test_other_ways_to_generate_cross_the_rope_boundary_too(near_boundary, inputs):
    expected = answer(near_boundary, inputs)
    assisted = answer(near_boundary, inputs, assistant_model=near_boundary)
    assert torch.equal(assisted, expected)
    looked_up = answer(near_boundary, inputs, prompt_lookup_num_tokens=3)
    assert torch.equal(looked_up, expected)
    beams = answer(near_boundary, inputs, num_beams=2)
    assert torch.equal(beams, answer(near_boundary, inputs, num_beams=2, use_cache=False))


@torch.no_grad()
def test_padding_counts_for_nothing_at_the_rope_boundary(near_boundary, inputs):
    expected = answer(near_boundary, inputs)
    padding = torch.full((1, 5), near_boundary.config.pad_token_id)
    padded = inputs | {
        "input_ids": torch.cat([padding, inputs["input_ids"]], 1),
        "attention_mask": torch.cat([torch.zeros(1, 5).long(), inputs["attention_mask"]], 1),
    }
    runs = count_tower_runs(near_boundary)
    assert torch.equal(answer(near_boundary, padded), expected)
    assert runs == [1, 1]


def test_proposals_end_before_a_placeholder_and_at_the_rope_boundary():
    prompt, logits = torch.zeros(1, 4).long(), torch.zeros(1, 5, 9)

    def propose(tokens, boundary):
        candidates = torch.cat([prompt, torch.tensor([tokens])], 1)
        ids, scores = _cut_candidates(lambda _: (candidates, logits), boundary)(prompt)
        count = ids.shape[1] - 4
        assert scores is None if count == 0 else scores.shape[1] == count
        return ids[0, 4:].tolist()

    assert propose([1, 2, 3, 4, 5], None) == [1, 2, 3, 4, 5]
    assert propose([1, 2, -1, 4, 5], None) == [1, 2]
    assert propose([1, 2, 3, 4, 5], 7) == [1, 2, 3]
    assert propose([1, 2, 3, 4, 5], 4) == []
    assert propose([1, 2, 3, 4, 5], 3) == [1, 2, 3, 4, 5]


def test_a_cache_of_unknown_tokens_cannot_cross_the_rope_boundary(near_boundary, inputs):
    cache = DynamicCache(config=near_boundary.config)
    with torch.no_grad():
        near_boundary(**inputs, past_key_values=cache, use_cache=True)
    length = inputs["input_ids"].shape[1]
    new = {"input_ids": inputs["input_ids"][:, -1:], "attention_mask": torch.ones(1, length + 1)}
    with pytest.raises(ValueError, match="pass the whole prompt"):
        answer(near_boundary, new, past_key_values=cache)


def test_generation_stops_at_the_end_of_a_turn(small, inputs):
    end, text_end = small.processor.end_of_turn_ids
    assert small.model.generation_config.eos_token_id == [end, text_end]
    with torch.no_grad():  # make <|end|> the answer to everything
        small.model.lm_head.weight.zero_()
        small.model.lm_head.weight[end] = small.model.model(**inputs).last_hidden_state[0, -1]
    out = small.model.generate(**inputs, max_new_tokens=9, do_sample=False)
    assert out[0, inputs["input_ids"].shape[1] :].tolist() == [end]


def test_a_prompt_with_a_picture_but_no_pixels_is_an_error(small, inputs):
    del inputs["pixel_values"], inputs["image_sizes"]
    with pytest.raises(ValueError, match="pixel_values is missing"):
        answer(small.model, inputs)


def test_a_static_cache_of_ones_own_is_filled(small, inputs):
    cache = StaticCache(config=small.model.config, max_cache_len=200)
    expected = answer(small.model, inputs)
    assert torch.equal(answer(small.model, inputs, past_key_values=cache), expected)
    assert int(cache.get_seq_length()) == inputs["input_ids"].shape[1] + 5
