// Package experiments runs evaluations on data sets and writes what they found as
// result files: every number with the configuration, data, seed and machine that
// made it. Tables and plots are made from result files, never typed.
//
// It joins producers/dataset with models; it needs no broker.
package experiments
