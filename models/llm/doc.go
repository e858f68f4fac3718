// Package llm is a language model of the llama family (Llama 2, SmolLM2) on
// libtorch: loading, sampling with exact log-probabilities, scoring of given tokens, and
// learning by an adapter (LoRA) what package align asks of it.
//
// A policy here is softmax(logits / temperature), nothing else. Generate samples
// from it, LogProbs computes it, and both give the same number for the same token
// (to rounding). Top-p is for serving; a text that was sampled with it is not a
// sample of the policy.
//
// The weights themselves never change: a policy that has learnt is the model with its
// adapter on, the reference the same model with it off.
//
// It imports models/tensor, models/tokenizer, models/gguf, models/safetensors and
// models/snapshot, and does no I/O but reading the model's files. A file is hostile until its
// numbers are checked. Every number that a file and this code must agree on is
// compared; a model that asks for something else than this computes is refused.
//
// All tensors live on one thread of models/tensor; a Model may be used by several
// goroutines, which take turns.
//
// If you are debugging
//
//	a model that is refused            config.go, gguf.go, huggingface.go
//	logits that differ from reference  forward.go; testdata/make.py asks the reference
//	a text that does not end           generate.go (stop), chat.go (template)
//	log-probabilities that differ      prefill.go and choose.go (sampling: padded on the left, with a cache)
//	                                   against logprobs.go (scoring: padded on the right, in one pass)
//	a policy that does not learn       policy.go (Train); what it was asked is package align's
//	an adapter that is refused         policy_state.go
//	training that takes too much memory LoRA.PassTokens
package llm
