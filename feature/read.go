package feature

import (
	"context"
	"fmt"
)

// Scored is an item with its number of interactions.
type Scored struct {
	Item  string
	Score float64
}

// History returns the newest n items of a user, oldest first, in one round trip.
// A user nobody has seen has an empty history, which is not an error.
func (s *Store) History(ctx context.Context, user string, n int) ([]string, error) {
	if n <= 0 {
		return nil, nil
	}
	items, err := s.client.LRange(ctx, s.keys.history(user), int64(-n), -1).Result()
	if err != nil {
		return nil, fmt.Errorf("reading a user's history: %w", err)
	}
	return items, nil
}

// Popular returns the n items with the most interactions, most first.
func (s *Store) Popular(ctx context.Context, n int) ([]Scored, error) {
	if n <= 0 {
		return nil, nil
	}
	members, err := s.client.ZRevRangeWithScores(ctx, s.keys.popular(), 0, int64(n-1)).Result()
	if err != nil {
		return nil, fmt.Errorf("reading the popular items: %w", err)
	}
	out := make([]Scored, len(members))
	for i, m := range members {
		item, ok := m.Member.(string)
		if !ok {
			return nil, fmt.Errorf("BUG: a sorted set member of type %T", m.Member)
		}
		out[i] = Scored{Item: item, Score: m.Score}
	}
	return out, nil
}

// Offsets returns, for every partition the histories have begun with, the next
// offset of the interactions topic that they do not hold yet.
func (s *Store) Offsets(ctx context.Context) (map[int32]int64, error) {
	return s.histories().next(ctx)
}
