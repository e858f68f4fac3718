package generator

import (
	"context"

	"seralm/models/snapshot"
	"seralm/stream"
)

// Policy is a language model with an adapter that somebody else trains.
type Policy interface {
	// Version names model and adapter, and the iterations that the adapter has learnt.
	Version() stream.ModelVersion
	// Load takes the adapter of a snapshot.
	Load(s stream.PolicySnapshot) error
	// Sample writes k texts to each prompt from softmax(logits / temperature): a function
	// of prompts, parameters and seed.
	Sample(ctx context.Context, prompts []stream.SamplePrompt, k int, seed uint64) ([][]Text, error)
}

// Text is a sampled text with the log-probabilities of its tokens under the policy and
// under the model that the policy began as, both as the trainer computes them.
type Text struct {
	Text                 string
	Tokens               []int32
	Behaviour, Reference []float32
}

// Encoder makes vectors of texts.
type Encoder interface {
	// Version: vectors of two versions have nothing to do with each other.
	Version() string
	Encode(ctx context.Context, texts []string) ([][]float32, error)
}

// Users computes user vectors with the parameters of one snapshot.
type Users interface {
	// Users returns the vector u of each history of item rows, oldest first: u.e is the
	// logit of an item with row e, before a history's bias. Rows from the height of the
	// snapshot's table on are those of extra, of which there are at most as many as Open
	// was told.
	Users(ctx context.Context, histories [][]int32, extra [][]float32) ([][]float32, error)
	Close()
}

// Open makes what computes user vectors of a recommender's snapshot, with room for
// extra rows beside its table.
type Open func(s *snapshot.Snapshot, extra int) (Users, error)
