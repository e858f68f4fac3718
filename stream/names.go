package stream

// Names maps each topic's role to its name on the broker, so that several
// installations can share one cluster under different prefixes.
type Names struct{ prefix string }

// NamesOf returns the topic names under a prefix (config.Kafka.TopicPrefix).
func NamesOf(prefix string) Names { return Names{prefix} }

// Interactions holds what users did, keyed by user.
func (n Names) Interactions() string { return n.prefix + "interactions" }

// Items holds the catalogue, keyed by item, compacted; a null value deletes.
func (n Names) Items() string { return n.prefix + "items" }

// Samples holds alignment records, keyed by item.
func (n Names) Samples() string { return n.prefix + "samples" }

// Knowledge holds what the language model wrote about an item, compacted.
func (n Names) Knowledge() string { return n.prefix + "knowledge" }

// Snapshots holds model parameters in chunks, compacted (see ChunkRecords).
func (n Names) Snapshots() string { return n.prefix + "snapshots" }

// Impressions holds what was recommended, keyed by user.
func (n Names) Impressions() string { return n.prefix + "impressions" }

// DeadLetters holds records that a consumer could not use, with the reason.
func (n Names) DeadLetters() string { return n.prefix + "dead-letters" }

// Steps is the trainers' journal: which records each micro-batch was made of.
func (n Names) Steps() string { return n.prefix + "steps" }

// Rollouts is the way of a policy's texts to being served (see Rollout), compacted.
func (n Names) Rollouts() string { return n.prefix + "rollouts" }

// All lists every topic name, in a fixed order.
func (n Names) All() []string {
	return []string{
		n.Interactions(), n.Items(), n.Samples(), n.Knowledge(),
		n.Snapshots(), n.Impressions(), n.DeadLetters(), n.Steps(), n.Rollouts(),
	}
}
