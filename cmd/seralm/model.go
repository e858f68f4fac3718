package main

import (
	"fmt"

	"seralm/config"
	"seralm/models/seqrec"
)

// newModel makes the recommender that the configuration describes, untrained.
func newModel(c config.Recommender) (*seqrec.SASRec, error) {
	h := seqrec.Hyper{Dim: c.Dim, Layers: c.Layers, Heads: c.Heads, Inner: c.Inner, MaxLen: c.MaxLen}
	o := seqrec.Options{
		Seed: c.Seed, LearningRate: c.LearningRate, Dropout: c.Dropout, ClipNorm: c.ClipNorm, Threads: c.Threads, Device: c.Device,
		Knowledge: c.KnowledgeDim, IDDropout: c.IDDropout,
	}
	switch c.Architecture {
	case "sasrec":
		return seqrec.NewSASRec(h, 0, o)
	}
	return nil, fmt.Errorf("BUG: architecture %q passed validation", c.Architecture)
}
