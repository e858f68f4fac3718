package feature

import (
	"context"
	"crypto/rand"
	_ "embed" // the script
	"fmt"

	"github.com/redis/go-redis/v9"
)

//go:embed unlink.lua
var unlinkSource string

var unlinkScript = redis.NewScript(unlinkSource)

// keysPerScript bounds how long one removal keeps Redis from answering others.
const keysPerScript = 1000

// Wipe removes the histories, the popular items and the offsets, and returns how
// many keys of users it removed. Writers meet ErrWiping until it has ended, and
// then a view that knows nothing: they start at the beginning of the log.
//
// A wipe that dies leaves its mark, so that nobody writes into a half-wiped view;
// calling Wipe again takes over. A wipe that was taken over returns an error.
func (s *Store) Wipe(ctx context.Context) (int64, error) {
	token := rand.Text()
	_, err := s.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Set(ctx, s.keys.wiping(), token, 0)
		p.Unlink(ctx, s.keys.offsets(), s.keys.popular())
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("wiping the views: %w", err)
	}
	var removed int64
	// No writer adds keys now, so one full SCAN meets every key there is.
	for cursor := uint64(0); ; {
		page, next, err := s.client.Scan(ctx, cursor, s.keys.perUser(), keysPerScript).Result()
		if err != nil {
			return removed, fmt.Errorf("wiping the views: %w", err)
		}
		for len(page) > 0 {
			n := min(len(page), keysPerScript)
			count, err := s.unlink(ctx, token, page[:n]...)
			if err != nil {
				return removed, err
			}
			removed, page = removed+count, page[n:]
		}
		if cursor = next; cursor == 0 {
			break
		}
	}
	_, err = s.unlink(ctx, token, s.keys.wiping())
	return removed, err
}

func (s *Store) unlink(ctx context.Context, token string, keys ...string) (int64, error) {
	n, err := unlinkScript.Run(ctx, s.client, append([]string{s.keys.wiping()}, keys...), token).Int64()
	if err != nil {
		return 0, fmt.Errorf("wiping the views: %w", err)
	}
	return n, nil
}
