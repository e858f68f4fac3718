// Package tokenizer turns text into the token ids that a model was trained on,
// and back: byte-level BPE (SmolLM2 and other GPT-2 descendants), the BPE of
// SentencePiece with byte fallback (Llama 2), and WordPiece (BERT, MiniLM).
//
// A tokenizer is read from a model's own files, tokenizer.json or GGUF metadata,
// and gives the ids that Hugging Face's tokenizers library gives. A file that asks
// for anything this package does not do exactly is refused, for a tokenizer that
// is nearly right degrades a model without a trace.
//
// Text is data. Encode never makes a special token (<|im_start|>, </s>) out of
// characters in a text; whoever builds a prompt says where the special tokens go
// (EncodeParts). Only EncodeSpecial looks for them in a text, and only text that
// we wrote may be given to it.
//
// It imports nothing of SeRALM, does no I/O, and never panics, whatever the text
// or the file. The work of encoding grows as n log n with the length of the text.
// All types may be used by several goroutines at once.
//
// If you are debugging
//
//	a file that is refused          json.go, gguf.go
//	ids that differ from reference  bytelevel.go, sentencepiece.go (splitting), merge.go, wordpiece.go;
//	                                testdata/make.py asks the reference
//	a special token in a prompt     added.go, bpe.go
package tokenizer
