#!/usr/bin/env python3
"""Make the fixtures of models/tokenizer from the reference implementations.

    pip install tokenizers sentencepiece gguf
    make.py SMOLLM2.gguf MINILM_FOLDER     (the variables SERALM_SMOLLM2 and SERALM_MINILM)

The texts are those that cases.json holds already: 70 by hand (scripts, white space, contractions, control
characters), 130 random runs of awkward words. Their ids are asked again, of

    smollm2     Hugging Face tokenizers, from the model's GGUF metadata; decoded, it gives the text back
    minilm      the same library, from the model's tokenizer.json
    bytelevel, llama, metaspace, wordpiece
                the same library, from small vocabularies trained on the texts: bytelevel.json (SmolLM2's form),
                sentencepiece.json (Llama 2's form; metaspace is the same with its newer pre-tokenizer), wordpiece.json
    scores      Google's sentencepiece, from the model that sentencepiece.json was made of; pieces.json holds its
                pieces and scores, which is what a GGUF file of Llama 2 has
"""

import io
import json
import pathlib
import sys

import sentencepiece
from gguf import GGUFReader
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).resolve().parent
# What a prompt in the model's own format looks like, special tokens and all.
PROMPTS = {
    "bytelevel": ["<|im_start|>user\nHeat  (1995)<|im_end|>\n<|im_start|>assistant\n", "<|im_end|><|im_end|> a", "<|im_start", " <|endoftext|> "],
    "llama": ["<s>[INST] Heat (1995) [/INST]", "<s> a</s><s>b", "a<unk>", "</s", "  <s>  "],
    "metaspace": ["<s>[INST] Heat (1995) [/INST]", "<s> a</s><s>b", "a<unk>", "</s", "  <s>  "],
}


def load_cases():
    return [c["text"] for c in json.loads((HERE / "cases.json").read_text())["texts"]]


def smollm2(path):
    f = GGUFReader(path).fields
    tokens, types = f["tokenizer.ggml.tokens"].contents(), f["tokenizer.ggml.token_type"].contents()
    merges = [tuple(m.split(" ")) for m in f["tokenizer.ggml.merges"].contents()]
    t = bytelevel(models.BPE(vocab={x: i for i, x in enumerate(tokens)}, merges=merges))
    t.add_special_tokens([AddedToken(x, special=True, normalized=False) for x, k in zip(tokens, types) if k == 3])
    return t


def bytelevel(model):
    t = Tokenizer(model)
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    t.decoder = decoders.ByteLevel()
    return t


def small_bytelevel(texts):
    t = bytelevel(models.BPE())
    t.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=700, special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    return t


def small_sentencepiece(texts):
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([t for t in texts if t.strip() and "\0" not in t]), model_writer=out, vocab_size=600, model_type="bpe",
        byte_fallback=True, character_coverage=0.98, normalization_rule_name="identity", remove_extra_whitespaces=False,
        split_digits=True, allow_whitespace_only_pieces=True, hard_vocab_limit=False, minloglevel=2)
    sp = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
    n = sp.get_piece_size()
    kind = lambda i: 2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 6 if sp.is_byte(i) else 1
    pieces = {"tokens": [sp.id_to_piece(i) for i in range(n)], "scores": [sp.get_score(i) for i in range(n)],
              "types": [kind(i) for i in range(n)]}
    return sp, pieces


def llama(pieces, prompt_form):
    vocab = {p: i for i, p in enumerate(pieces["tokens"])}
    normal = [i for i, k in enumerate(pieces["types"]) if k == 1]
    merges = []
    for i in sorted(normal, key=lambda i: -pieces["scores"][i]):  # as transformers converts it
        p = pieces["tokens"][i]
        cuts = [(p[:c], p[c:]) for c in range(1, len(p)) if p[:c] in vocab and p[c:] in vocab]
        merges += sorted(cuts, key=lambda m: (vocab[m[0]], vocab[m[1]]))
    t = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if prompt_form == "llama":
        t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        t.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    t.add_special_tokens([AddedToken(x, special=True, normalized=False) for x in ("<unk>", "<s>", "</s>")])
    t.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", vocab["<s>"])])
    return t


def small_wordpiece(texts):
    t = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    t.normalizer = normalizers.BertNormalizer()
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.train_from_iterator(texts, trainers.WordPieceTrainer(
        vocab_size=600, limit_alphabet=150, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False))
    t.decoder = decoders.WordPiece()
    t.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", t.token_to_id("[CLS]")), ("[SEP]", t.token_to_id("[SEP]"))])
    return t


def main():
    texts = load_cases()
    mini = Tokenizer.from_file(str(pathlib.Path(sys.argv[2]) / "tokenizer.json"))
    mini.no_padding()
    mini.no_truncation()
    sp, pieces = small_sentencepiece(texts)
    plain = {"smollm2": smollm2(sys.argv[1]), "bytelevel": small_bytelevel(texts),
             "llama": llama(pieces, "llama"), "metaspace": llama(pieces, "metaspace")}
    bert = {"minilm": mini, "wordpiece": small_wordpiece(texts)}
    cases = []
    for text in texts:
        ids = {n: t.encode(text, add_special_tokens=False).ids for n, t in plain.items()}
        for n in ("smollm2", "bytelevel"):
            assert plain[n].decode(ids[n], skip_special_tokens=False) == text, text
        ids |= {n: t.encode(text).ids for n, t in bert.items()} | {"scores": sp.encode(text)}
        cases.append({"text": text, "ids": ids})
    prompts = [{"tokenizer": n, "text": p, "ids": plain[n].encode(p, add_special_tokens=False).ids} for n, ps in PROMPTS.items() for p in ps]
    lines = lambda xs: "[\n" + ",\n".join(json.dumps(x) for x in xs) + "\n]"
    (HERE / "cases.json").write_text(f'{{"texts": {lines(cases)},\n"prompts": {lines(prompts)}}}\n')
    (HERE / "pieces.json").write_text(json.dumps(pieces) + "\n")
    plain["bytelevel"].save(str(HERE / "bytelevel.json"), pretty=False)
    plain["llama"].save(str(HERE / "sentencepiece.json"), pretty=False)
    bert["wordpiece"].save(str(HERE / "wordpiece.json"), pretty=False)
    print(len(texts), {n: t.get_vocab_size() for n, t in (plain | bert).items()})


main()
