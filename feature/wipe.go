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

// Wipe removes the histories, the popular items and their offsets, and returns how
// many keys of users it removed. It leaves the knowledge. Writers meet ErrWiping
// until it has ended, and then a view that knows nothing: they start at the
// beginning of the log.
//
// A wipe that dies leaves its mark, so that nobody writes into a half-wiped view;
// calling Wipe again takes over. A wipe that was taken over returns an error.
func (s *Store) Wipe(ctx context.Context) (int64, error) {
	return s.histories().wipe(ctx, s.keys.pattern("hs"), s.keys.popular())
}

// WipeKnowledge does the same for the knowledge, and leaves the rest. No text is
// lost: the knowledge topic has them all, and no model runs to give them back.
func (s *Store) WipeKnowledge(ctx context.Context) (int64, error) {
	return s.knowledge().wipe(ctx, s.keys.pattern("k"))
}

// wipe removes the view's offsets, the keys also named and all that match pattern.
func (v view) wipe(ctx context.Context, pattern string, also ...string) (int64, error) {
	token := rand.Text()
	_, err := v.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Set(ctx, v.wiping, token, 0)
		p.Unlink(ctx, append(also, v.offsets)...)
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("wiping the %s: %w", v.name, err)
	}
	var removed int64
	// No writer adds keys now, so one full SCAN meets every key there is.
	for cursor := uint64(0); ; {
		page, next, err := v.client.Scan(ctx, cursor, pattern, keysPerScript).Result()
		if err != nil {
			return removed, fmt.Errorf("wiping the %s: %w", v.name, err)
		}
		for len(page) > 0 {
			n := min(len(page), keysPerScript)
			count, err := v.unlink(ctx, token, page[:n]...)
			if err != nil {
				return removed, err
			}
			removed, page = removed+count, page[n:]
		}
		if cursor = next; cursor == 0 {
			break
		}
	}
	_, err = v.unlink(ctx, token, v.wiping)
	return removed, err
}

func (v view) unlink(ctx context.Context, token string, keys ...string) (int64, error) {
	n, err := unlinkScript.Run(ctx, v.client, append([]string{v.wiping}, keys...), token).Int64()
	if err != nil {
		return 0, fmt.Errorf("wiping the %s: %w", v.name, err)
	}
	return n, nil
}
