// Package gguf reads GGUF files, the container in which llama.cpp ships language
// models: typed metadata (architecture, tokenizer, chat template) and tensors,
// which it hands out as float32 whatever they are stored as.
//
// It imports nothing of SeRALM. A file is hostile until proven otherwise: every
// length is checked against the bytes that are there before anything is
// allocated for it, and no input makes it panic. It never keeps a tensor: one is
// read in bounded pieces straight into the caller's slice, so loading a model
// costs the memory of the result and a few hundred kilobytes.
//
// Files are read with ReadAt rather than mapped. A mapped file that another
// process truncates kills us with SIGBUS, which no Go code can turn into an
// error; and every byte is touched once, by the dequantiser, so a mapping would
// save nothing.
//
// If you are debugging
//
//	a file that is refused         header.go (layout), file.go (tensor bounds)
//	a metadata value               metadata.go
//	a weight that looks wrong      dequant.go, kquant.go; testdata/make.py checks them against ggml's own
//	q and k that look shuffled     not here: llama.cpp permutes their rows for its rotary embedding,
//	                               and whoever wants the original layout undoes it
package gguf
