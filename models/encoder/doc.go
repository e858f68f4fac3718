// Package encoder turns texts into vectors: a BERT (all-MiniLM-L6-v2), the mean of
// its outputs over a text's tokens, scaled to length one, as sentence-transformers
// does it. The dot product of two vectors is the similarity of their texts.
//
// It imports models/tensor, models/tokenizer and models/safetensors, and does no I/O
// but reading the model's files, which are hostile until their numbers are checked.
// Weights are frozen: nothing here changes them.
//
// If you are debugging
//
//	a model that is refused              load.go
//	vectors that differ from reference   forward.go; testdata/make.py asks the reference
//	vectors that no longer match         Version: those of two versions must not be compared
package encoder
