// Package align is the mathematics of alignment (the paper's section 4.4): from what
// sampled texts are worth to a recommender, what a language model has to learn.
//
// The objective of a prompt is
//
//	J = R(theta) - alpha KL(pi || ref),    R = log p(y|x) = log sum_s p(y|x,s) pi(s)    (Eq. 5, reward "instance")
//	                                       R = sum_s pi(s) R_s                          (reward "catalogue")
//
// with pi = softmax(logits/tau) the policy and ref the same model before it learnt.
// [Coefficients] turns sampled texts and their log-probabilities into numbers c such
// that the sum of c grad log pi(token) over all tokens estimates grad J: this is all
// that a trainer needs. [Reservoir] computes the catalogue's rewards R_s in closed
// form; [Pacer] bounds how old the policy that sampled a text may be.
//
// Plain arithmetic in float64: it links nothing native, does no I/O, starts no
// goroutine and has no hidden state. What must survive a restart ([Deviation], the
// counts of a Pacer) is a value that the caller keeps.
//
// If you are debugging
//
//	a gradient that points elsewhere    coefficients.go, advantage.go; the tests enumerate all texts of a small policy
//	a policy that leaves its language   kl.go (Eq. 7, and what its naive gradient is)
//	weights that are all at their bound weights.go: the behaviour policy is too old, or its log-probabilities are another computation's
//	a reward that is off                catalogue.go; which row log Z was taken with
//	a generator that waits              pacer.go
package align
