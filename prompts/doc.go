// Package prompts asks a language model what it knows of an item: one versioned
// template per domain (movies, books, businesses, generic), in templates/, after
// Figure 3 of the paper: what the item is like, and who is likely to like it.
//
// The wording is for models of a hundred million parameters: one short sentence per
// thing asked. Longer lists of wishes ("no preamble, no list, two or three similar
// titles") were repeated in the answer or made it loop.
//
// It imports nothing of SeRALM. It must never know which model reads the prompt
// (roles and special tokens are the tokenizer's), read a file or the network, or
// let an item's text be more than data.
//
// If you are debugging
//
//	what a model is asked           templates/*.tmpl, testdata/*.golden
//	an item's text cut or changed   clean.go
//	knowledge made again, or stale  Template.Hash
//
// Invariants that are easy to break:
//
//   - An item's text comes from outside. Clean leaves it one line without '<', '>',
//     '[' and ']', so that no chat template's marker survives and no value can open
//     a line of its own, and bounds its length.
//   - A prompt is a function of the template and the item. Its hash names the
//     knowledge made from it, which took seconds of a model's time: a changed
//     template, space or bound makes all of it anew. The golden files pin the hashes.
package prompts
