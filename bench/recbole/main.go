// Command recbole is SeRALM's side of bench/recbole.sh: it teaches SASRec a few
// epochs of a data set and prints what the timed ones took, as one line of JSON.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"seralm/models/seqrec"
	"seralm/models/vocab"
	"seralm/producers/dataset"
)

// The sizes of peer.py. A batch is as many windows as make about 3,000
// targets; RecBole's batch of 1,024 prefixes has one target each.
var (
	hyper   = seqrec.Hyper{Name: "sasrec", Dim: 64, Layers: 2, Heads: 2, Inner: 256, MaxLen: 50}
	options = seqrec.Options{Seed: 1, LearningRate: 1e-3, Dropout: 0.2, ClipNorm: 5, Threads: 2}
)

const (
	batchSize = 64
	warmUp    = 10 // batches
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "bench: error: %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 2 {
		return fmt.Errorf("usage: %s FOLDER, with a RecBole atomic file", os.Args[0])
	}
	ctx := context.Background()
	windows, rows, err := read(ctx, os.Args[1])
	if err != nil {
		return err
	}
	model, err := seqrec.New(hyper, rows, options)
	if err != nil {
		return err
	}
	defer model.Close()
	step := uint64(0)
	learn := func(windows []seqrec.Sequence) (targets int, err error) {
		for from := 0; from < len(windows); from += batchSize {
			step++
			loss, err := model.Learn(ctx, windows[from:min(from+batchSize, len(windows))], step)
			if err != nil {
				return 0, err
			}
			targets += loss.Targets
		}
		return targets, nil
	}
	if _, err := learn(windows[:min(warmUp*batchSize, len(windows))]); err != nil {
		return err
	}
	load, begin, cpu := load(), time.Now(), cpuTime()
	targets, err := learn(windows)
	if err != nil {
		return err
	}
	seconds, cpu := time.Since(begin).Seconds(), cpuTime()-cpu
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"system": "seralm", "targets": targets, "seconds": seconds, "cpu_seconds": cpu, "load": load,
		"items": rows - vocab.FirstItem, "epoch": targets,
	})
}

// read cuts each user's items, less the last two, into windows that overlap by one:
// each item but a user's first is a target once, as in RecBole's prefixes.
func read(ctx context.Context, path string) (windows []seqrec.Sequence, rows int, err error) {
	data, err := dataset.Open(ctx, dataset.Options{Path: path, MinValue: 3})
	if err != nil {
		return nil, 0, err
	}
	histories, row := make([][]int32, data.Users()), map[string]int32{}
	for i, e := range data.Interactions(0) {
		r, ok := row[e.Body.Item]
		if !ok {
			r = int32(vocab.FirstItem + len(row))
			row[e.Body.Item] = r
		}
		histories[data.User(i)] = append(histories[data.User(i)], r)
	}
	for _, items := range histories {
		items = items[:max(0, len(items)-2)]
		for ; len(items) >= 2; items = items[min(hyper.MaxLen, len(items)):] {
			windows = append(windows, seqrec.Sequence{Items: items[:min(hyper.MaxLen+1, len(items))]})
		}
	}
	return windows, vocab.FirstItem + len(row), nil
}

// cpuTime is what this process has used of all processors, in seconds.
func cpuTime() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// load is the machine's load average over a minute, 0 where there is none to read.
func load() float64 {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), " ")
	v, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return 0
	}
	return v
}
