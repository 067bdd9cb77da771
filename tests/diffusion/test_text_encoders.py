"""Text encoders: the same rows whatever is beside, padding that says nothing, and another encoder refused."""

import json

import pytest
import torch

from sfumato.diffusion import DiT, HashedWords, HuggingFaceText, StoredText, store_texts
from sfumato.diffusion.text_of_run import text_of
from sfumato.diffusion.training_text import caption_condition
from sfumato.schedules.parts import build, describe

SAID = ["a red cat", "", "cat", "a very long text about one cat and another cat that sits on a mat and looks"]
WORDS = ["<|startoftext|>", "<|endoftext|>", "a", "red", "cat", "dog", "very", "long", "text"]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def clip(folder, seed=0, **changes):
    """A tiny CLIP and its tokenizer of whole words, as transformers saves them."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate([*WORDS, "[UNK]"])}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single=f"{WORDS[0]} $A {WORDS[1]}", special_tokens=[(WORDS[0], 0), (WORDS[1], 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token=WORDS[0], eos_token=WORDS[1], pad_token=WORDS[1]
    ).save_pretrained(folder)
    config = {
        "vocab_size": 10, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "max_position_embeddings": 12, "bos_token_id": 0, "eos_token_id": 1, "projection_dim": 16,
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CLIPTextModel(CLIPTextConfig(**{**config, **changes})).eval()
    model.save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts") / "clip"
    return folder, clip(folder)


def test_hashed_words_are_the_same_bits_whatever_is_beside():
    text = HashedWords(length=5, width=8)
    together = text.encode(SAID)
    for i, prompt in enumerate(SAID):
        assert same(HashedWords(length=5, width=8).encode([prompt]), {k: v[i : i + 1] for k, v in together.items()})
    assert together["text_mask"].sum(1).tolist() == [3, 0, 1, 5]
    assert bool((together["text"][~together["text_mask"]] == 0).all())
    # a golden value: the bits are those of every machine
    assert together["text"][0, 0, :3].tolist() == [1.8584551811218262, -0.9184411764144897, -0.7428651452064514]
    assert same(text.encode(["A  RED, cat!"]), text.encode(["a red cat"]))
    assert not torch.equal(text.encode(["cat red"])["text"], text.encode(["red cat"])["text"])
    bag = HashedWords(length=5, width=8, position=0.0).encode(["cat red", "red cat"])["text"]
    assert torch.equal(bag[0, :2].flip(0), bag[1, :2])


def test_hashed_words_are_standard_normals():
    """64,000 numbers: mean and variance within four standard errors; words do not resemble each other."""
    rows = HashedWords(length=1, width=64, position=0.0).encode([f"word{i}" for i in range(1000)])["text"][:, 0]
    assert abs(float(rows.mean())) < 4 / 64000**0.5
    assert abs(float(rows.var()) - 1) < 4 * (2 / 64000) ** 0.5
    overlaps = (rows @ rows.T / 64)[~torch.eye(1000, dtype=torch.bool)]
    assert abs(float(overlaps.std()) - 64**-0.5) < 0.01


def test_a_network_does_not_see_padding():
    torch.manual_seed(0)
    net = DiT(channels=1, size=4, patch=2, width=16, depth=2, heads=2, text_width=8)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.1)
    x, time = torch.randn(4, 1, 4, 4), torch.rand(4)
    told = HashedWords(length=16, width=8).encode(SAID)
    other = {**told, "text": torch.where(told["text_mask"][:, :, None], told["text"], torch.tensor(1e4))}
    assert torch.equal(net(x, time, **told), net(x, time, **other))
    assert not torch.equal(net(x, time, **told)[0], net(x, time, **{k: v[[1, 1, 2, 3]] for k, v in told.items()})[0])


def test_dropped_captions_are_the_empty_text_to_the_bit():
    text = HashedWords(length=4, width=8)
    dropped = torch.tensor([True, False, True, False])
    captions = ["cat", "cat", "dog", ""]
    found = caption_condition(text, captions, dropped, torch.device("cpu"))
    assert same(found, text.encode(["", "cat", "", ""]))

    class Lengths:  # whose empty text is not zero
        def encode(self, prompts):
            return {"text": torch.tensor([[[1.0 + len(p)]] for p in prompts])}

    found = caption_condition(Lengths(), captions, dropped, torch.device("cpu"))
    assert found["text"].flatten().tolist() == [1.0, 4.0, 1.0, 1.0]


def test_clip_is_what_transformers_says(tiny):
    folder, model = tiny
    text = HuggingFaceText(str(folder), length=8)
    told = text.encode(SAID)
    ids = torch.tensor([[0, 2, 3, 4, 1]])
    with torch.no_grad():
        out = model(input_ids=ids, output_hidden_states=True)
    assert told["text"].shape == (4, 8, 16)
    assert told["text_mask"].sum(1).tolist() == [5, 2, 3, 8]
    torch.testing.assert_close(told["text"][0, :5], out.last_hidden_state[0], atol=1e-6, rtol=0)
    earlier = HuggingFaceText(str(folder), length=8, layer=-2).encode(SAID[:1])["text"]
    torch.testing.assert_close(earlier[0, :5], out.hidden_states[-2][0], atol=1e-6, rtol=0)
    for i, prompt in enumerate(SAID):  # one by one, and among nine, to the bit
        assert same(text.encode([prompt]), {k: v[i : i + 1] for k, v in told.items()})
    assert same(
        text.encode([*["dog"] * 7, *SAID]), {k: torch.cat([text.encode(["dog"] * 7)[k], v]) for k, v in told.items()}
    )


def test_a_run_refuses_another_encoder(tiny, tmp_path):
    folder, _ = tiny
    kept = describe(HuggingFaceText(str(folder), length=8))
    moved = tmp_path / "moved"
    clip(moved)
    assert text_of(kept, moved).encode(["cat"])["text"].equal(build(kept).encode(["cat"])["text"])
    other = tmp_path / "other"
    clip(other, seed=1)
    with pytest.raises(ValueError, match=r"holds the encoder \w+, and not \w+, with which the run was begun"):
        text_of(kept, other).encode(["cat"])
    with pytest.raises(ValueError, match="this run was trained with"):
        text_of(kept, HuggingFaceText(str(other)))
    with pytest.raises(ValueError, match="length is 9, was 8; give the same"):
        text_of(kept, HuggingFaceText(str(moved), length=9))
    assert text_of(kept, mine := HuggingFaceText(str(moved), length=8)) is mine
    with pytest.raises(ValueError, match="seed is 5, was 0; give the same"):
        text_of(describe(HashedWords()), HashedWords(seed=5))
    with pytest.raises(ValueError, match="trained without texts"):
        text_of(None, folder)
    with pytest.raises(ValueError, match="has no folder"):
        text_of(describe(HashedWords()), folder)


def test_what_can_not_be_read_is_refused(tiny, tmp_path):
    with pytest.raises(ValueError, match=r"holds no config.json with safetensors"):
        HuggingFaceText(str(tmp_path))
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"only pytorch_model\.bin, a pickle"):
        HuggingFaceText(str(tmp_path))
    odd = tmp_path / "odd"
    clip(odd)
    config = json.loads((odd / "config.json").read_text())
    (odd / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "evil.Model"}}))
    with pytest.raises(ValueError, match="auto_map"):
        HuggingFaceText(str(odd))
    (odd / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(ValueError, match="whose weights lack"):
        HuggingFaceText(str(odd), length=8).encode(["cat"])
    with pytest.raises(ValueError, match=r"layer is -9; allowed for this encoder: -1 to -2"):
        HuggingFaceText(str(tiny[0]), length=8, layer=-9).encode(["cat"])


def test_stored_texts_are_the_encoders_bits_and_need_it_no_more(tiny, tmp_path):
    folder, _ = tiny
    kept = tmp_path / "clip"
    clip(kept)
    encoder = HuggingFaceText(str(kept), length=8)
    stored = store_texts(["a red cat", "cat", "cat"], encoder, tmp_path / "text")
    wanted = encoder.encode(["cat", "", "a red cat", "cat"])
    (kept / "model.safetensors").unlink()
    again = build(describe(stored))  # as a run builds it, without the encoder
    assert same(again.encode(["cat", "", "a red cat", "cat"]), wanted)
    with pytest.raises(ValueError, match=r"holds no config.json with safetensors"):
        again.encode(["dog"])
    here = text_of(describe(stored), folder)  # the encoder, where it is now
    assert same(here.encode(["dog", "cat"]), HuggingFaceText(str(folder), length=8).encode(["dog", "cat"]))
    there = StoredText(str(tmp_path / "text"), HuggingFaceText(str(folder), length=8))
    assert same(
        there.encode(["cat", "dog", "cat"]), HuggingFaceText(str(folder), length=8).encode(["cat", "dog", "cat"])
    )


def test_stored_texts_that_were_changed_are_refused(tmp_path):
    store_texts(["cat"], HashedWords(width=8), tmp_path)
    with pytest.raises(ValueError, match="holds texts already"):
        store_texts(["cat"], HashedWords(), tmp_path)
    with pytest.raises(ValueError, match="were encoded by"):
        StoredText(str(tmp_path), HashedWords(width=16)).encode(["cat"])
    raw = bytearray((tmp_path / "text.npy").read_bytes())
    raw[-1] ^= 1
    (tmp_path / "text.npy").write_bytes(raw)
    with pytest.raises(ValueError, match="not the file that was encoded"):
        StoredText(str(tmp_path)).encode(["cat"])
    about = json.loads((tmp_path / "text.json").read_text())
    about["encoder"] = {"class_path": "os.path.Evil"}
    (tmp_path / "text.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match="outside Sfumato"):
        StoredText(str(tmp_path))
    with pytest.raises(ValueError, match=r"holds no text.json"):
        StoredText(str(tmp_path / "nowhere"))
