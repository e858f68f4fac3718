package feature

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"seralm/config"
)

func benchStores(b *testing.B, bench func(b *testing.B, s *Store)) {
	b.Run("embedded", func(b *testing.B) { bench(b, open(b, config.Redis{KeyPrefix: "bench", Timeout: 5 * time.Second})) })
	if addr := os.Getenv("SERALM_TEST_REDIS"); addr != "" {
		b.Run("redis", func(b *testing.B) {
			s := open(b, config.Redis{Addr: addr, KeyPrefix: "bench", Timeout: 5 * time.Second})
			if _, err := s.Wipe(b.Context()); err != nil {
				b.Fatal(err)
			}
			bench(b, s)
			if _, err := s.Wipe(b.Context()); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkApply measures events per second into the views, as a replay brings
// them: runs of 1,000 events, 6,040 users, 3,706 items, full histories of 200.
func BenchmarkApply(b *testing.B) {
	benchStores(b, func(b *testing.B, s *Store) {
		w := s.Writer(config.Default().Histories)
		begin(b, w, 0)
		rng := rand.New(rand.NewPCG(1, 1))
		users := rand.NewZipf(rng, 1.1, 20, 6039)
		items := rand.NewZipf(rng, 1.1, 20, 3705)
		next := int64(0)
		batch := func() Run {
			events := make([]HistoryEvent, 1000)
			for i := range events {
				events[i] = event(next, fmt.Sprint(users.Uint64()), fmt.Sprint(items.Uint64()))
				next++
			}
			return run(events...)
		}
		for range 100 {
			apply(b, w, batch())
		}
		b.ResetTimer()
		for b.Loop() {
			b.StopTimer()
			r := batch()
			b.StartTimer()
			apply(b, w, r)
		}
		b.ReportMetric(1000*float64(b.N)/b.Elapsed().Seconds(), "events/s")
	})
}

// BenchmarkApplyOne is the path of a single click: its time is what Redis adds
// between an event and its being visible.
func BenchmarkApplyOne(b *testing.B) {
	benchStores(b, func(b *testing.B, s *Store) {
		w := s.Writer(config.Default().Histories)
		begin(b, w, 0)
		next := int64(0)
		for b.Loop() {
			apply(b, w, run(event(next, fmt.Sprint("u", next%1000), fmt.Sprint("i", next%500))))
			next++
		}
	})
}

func BenchmarkHistory(b *testing.B) {
	benchStores(b, func(b *testing.B, s *Store) {
		w := s.Writer(config.Default().Histories)
		begin(b, w, 0)
		var events []HistoryEvent
		for i := range int64(200) {
			events = append(events, event(i, "u", fmt.Sprint(i)))
		}
		apply(b, w, run(events...))
		for b.Loop() {
			history(b, s, "u", 50)
		}
	})
}

// BenchmarkKnowledge puts texts of 500 bytes with vectors of 384 numbers, and reads
// those of 50 items.
func BenchmarkKnowledge(b *testing.B) {
	benchStores(b, func(b *testing.B, s *Store) {
		beginKnowledge(b, s, 0)
		next := int64(0)
		batch := func(n int) KnowledgeRun {
			records := make([]KnowledgeRecord, n)
			for i := range records {
				records[i] = record(next, fmt.Sprint("i", next%10_000))
				records[i].Text, records[i].Vector = strings.Repeat("x", 500), make([]float32, 384)
				next++
			}
			return knowledgeRun(0, records...)
		}
		b.Run("put 1000", func(b *testing.B) {
			for b.Loop() {
				put(b, s, batch(1000))
			}
		})
		put(b, s, batch(1000))
		items := make([]string, 50)
		for i := range items {
			items[i] = fmt.Sprint("i", (next-int64(1+i))%10_000)
		}
		b.Run("read 50", func(b *testing.B) {
			for b.Loop() {
				if len(known(b, s, items...)) != len(items) {
					b.Fatal("an item is missing")
				}
			}
		})
		if _, err := s.WipeKnowledge(b.Context()); err != nil {
			b.Fatal(err)
		}
	})
}
