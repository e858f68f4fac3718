package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/config"
	"seralm/models/online"
	"seralm/models/onnx"
)

// What the configuration accepts can be learnt and served: a snapshot for which there is no
// graph would be rejected by every scorer, again and again.
func TestEveryArchitectureLearnsAndIsServed(t *testing.T) {
	for _, name := range config.Architectures {
		t.Run(name, func(t *testing.T) {
			cfg := config.Default()
			cfg.Recommender.Architecture = name
			require.NoError(t, cfg.Validate())
			model, err := newModel(cfg.Recommender)
			require.NoError(t, err)
			defer model.Close()
			learner := online.NewLearner(online.NewSequencer(online.SequencerOptions{MaxLen: cfg.Recommender.MaxLen, MaxUsers: 10, DedupWindow: 10, AdmitAfter: 1}), model)
			_, err = learner.Step(t.Context(), []online.Event{{Key: 1, User: "ann", Item: "a"}, {Key: 2, User: "ann", Item: "b"}}, nil)
			require.NoError(t, err)
			s, err := learner.Snapshot(t.Context(), 1)
			require.NoError(t, err)
			require.Equal(t, name, s.Architecture.Name)
			_, err = onnx.Export(s.Architecture, s.Tensors)
			require.NoError(t, err)
		})
	}
}
