// Package tensor is SeRALM's use of libtorch: tensors, autograd and an optimiser
// whose state can be saved. It is the only package that imports gotch.
//
// It stands on gotch's raw bindings (libtch), not on its ts package: ts frees
// tensors by finalizer, which may run while libtorch computes with them, and
// allocates 100 kB of Go memory per tensor. Here a tensor belongs to a [Scope] and
// is freed when the scope ends, or to a [Params] and lives as long as that.
//
// libtorch's grad mode and error state are thread-local and Go moves goroutines
// between threads, so all work goes through a [Thread], which owns one OS thread.
// Tensors must not leave the function given to [Thread.Do], except as Go slices.
//
// An operation that fails (shapes, memory) panics with an [*OpError]; Do turns it
// into an error. That keeps formulas readable: ops are written as expressions.
package tensor
