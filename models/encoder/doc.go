// Package encoder turns texts into vectors: a BERT (all-MiniLM-L6-v2), the mean of
// its outputs over a text's tokens, scaled to length one, as sentence-transformers
// does it. The dot product of two vectors is the similarity of their texts.
//
// It imports models/tensor, models/tokenizer, models/safetensors and models/snapshot (for
// the tensor type), and does no I/O but reading the model's files, which are hostile
// until their numbers are checked.
//
// Weights are frozen, or trained by Learn from a recommender's gradient of its loss by
// the vectors (the paper's section 4.3). A recommender reads a vector v as
// n = scale (v - mean); tower.Statistics' Gradient turns its gradient by n into that by v.
//
// If you are debugging
//
//	a model that is refused              load.go
//	vectors that differ from reference   forward.go; testdata/make.py asks the reference
//	vectors that no longer match         Version: those of two versions must not be compared
//	a step that does not help            learn.go: what Learn goes down, and from where
//	a state that is refused              state.go
package encoder
