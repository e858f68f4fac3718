// Package generator is the generator job of alignment (the paper's Algorithm 1, lines 2
// to 4, and "Asynchronous generation"): it draws instances (x, y) from the stream, has a
// lagged policy write texts about one of their items, asks a lagged recommender what
// each text is worth, and writes what came out as samples, for the policy's trainer.
//
// What it promises, each with a test beside it:
//
//   - Samples, the place in the stream and the generator's own count are one Kafka
//     transaction. Killed at any moment, no instance is sampled twice and none is left out.
//   - A sample is a function of the log and of the two snapshots: which instance and
//     which item depend on nothing else, and its random numbers on the instance that its
//     group begins with. With alignment.refresh 0 groups are a function of the log, too:
//     generator and trainer take turns, and their course is that of a loop in one process.
//   - It is paced, and drops nothing: texts begin only while the trainer will take them
//     in before their policy is more than alignment.refresh iterations old (align.Pacer).
//   - Snapshots change between groups of instances, never within one.
//
// It imports stream, prompts, config and those models that are plain arithmetic. What
// computes on libtorch or ONNX Runtime is behind the interfaces Policy, Encoder and
// Users; package native, below, makes them. It must never train, write knowledge, or
// read the instances from anywhere but the log.
//
// If you are debugging
//
//	an instance that is not sampled           generator.go (collect), sampler.go
//	a history that lacks an item              package instances
//	samples twice, or a gap                   state.go, generator.go (commit, rewind)
//	a generator that waits                    generator.go (refresh), align.Pacer; ErrBlind
//	a reward or p(y|x,s) that is off          judge.go; catalogue rewards: align.Reservoir, recent.go
//	a snapshot that is not taken              watch.go
//
// Invariants that are easy to break:
//
//   - Everything that the log before the committed place decides (histories, recent
//     instances) is rebuilt from the log at start, in its order: it is kept nowhere else.
//   - The reservoir is filled anew for each group, oldest instance first. A sum of
//     rewards depends on its order, and a generator that was killed must get the same.
//   - A sample's time is later than that of the sample before: the order of samples
//     over all partitions is the order of their times.
package generator
