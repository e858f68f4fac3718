package main

import (
	"seralm/config"
	"seralm/consumers/pregenerator/native"
	"seralm/models/encoder"
	"seralm/models/seqrec"
)

// newModel makes the recommender that the configuration describes, untrained.
func newModel(c config.Recommender) (*seqrec.Model, error) {
	return seqrec.New(seqrec.Hyper{
		Name: c.Architecture, Dim: c.Dim, Layers: c.Layers, Heads: c.Heads, Inner: c.Inner, MaxLen: c.MaxLen,
		Interests: c.Interests, Segments: c.Segments, Kernel: c.Kernel, Vertical: c.Vertical, Horizontal: c.Horizontal,
	}, 0, seqrec.Options{
		Seed: c.Seed, LearningRate: c.LearningRate, Dropout: c.Dropout, ClipNorm: c.ClipNorm, Threads: c.Threads, Device: c.Device,
		Knowledge: c.KnowledgeDim, IDDropout: c.IDDropout, Negatives: c.Negatives, HistoryBias: c.HistoryBias,
	})
}

// models are those that write knowledge.
type models struct {
	writer  *native.Writer
	encoder *encoder.Encoder
}

func loadModels(cfg config.Config) (m models, err error) {
	if m.writer, err = native.LoadWriter(cfg); err != nil {
		return m, err
	}
	if m.encoder, err = native.LoadEncoder(cfg); err != nil {
		m.writer.Close()
	}
	return m, err
}

func (m models) close() {
	m.writer.Close()
	m.encoder.Close()
}
