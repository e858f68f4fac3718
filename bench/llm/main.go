// Command llm is SeRALM's side of bench/llm.sh: it samples texts about the items of
// prompts.json with SmolLM2 and prints what that took, as one line of JSON.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"seralm/models/llm"
)

// As in peer.py.
const (
	prompt    = "Summarise in two sentences what kind of viewer would enjoy the movie '%s'. Mention themes, mood and similar films."
	maxTokens = 64
	tau       = 0.8
	threads   = 2
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "bench: error: %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 4 {
		return fmt.Errorf("usage: %s SMOLLM2.gguf PROMPTS.json bf16|float32", os.Args[0])
	}
	raw, err := os.ReadFile(os.Args[2])
	if err != nil {
		return err
	}
	var titles []string
	if err := json.Unmarshal(raw, &titles); err != nil {
		return err
	}
	m, err := llm.Load(os.Args[1], llm.Options{Type: os.Args[3], Threads: threads, Batch: len(titles)})
	if err != nil {
		return err
	}
	defer m.Close()
	var prompts []llm.Prompt
	promptTokens := 0
	for _, t := range titles {
		p, err := m.Chat("", fmt.Sprintf(prompt, t))
		if err != nil {
			return err
		}
		prompts = append(prompts, p)
		promptTokens += len(p)
	}
	ctx := context.Background()
	if _, err := m.Generate(ctx, prompts, llm.Sampling{Temperature: tau, MaxTokens: 4}); err != nil { // warm up
		return err
	}
	load, cpu, begin := loadAverage(), cpuSeconds(), time.Now()
	texts, err := m.Generate(ctx, prompts, llm.Sampling{Temperature: tau, MaxTokens: maxTokens, Seed: 1})
	if err != nil {
		return err
	}
	seconds, cpu := time.Since(begin).Seconds(), cpuSeconds()-cpu
	// Tokens that were computed: a row goes on until the last text ends. What of that
	// is text, is luck.
	steps := 0
	for _, t := range texts {
		steps = max(steps, len(t.Tokens))
	}
	tokens := steps * len(texts)
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"system": "seralm", "type": os.Args[3], "threads": threads,
		"prompt_tokens": promptTokens, "tokens": tokens, "seconds": seconds, "cpu_seconds": cpu, "load": load})
}

func cpuSeconds() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

func loadAverage() float64 {
	var one float64
	if raw, err := os.ReadFile("/proc/loadavg"); err == nil {
		_, _ = fmt.Sscan(strings.TrimSpace(string(raw)), &one)
	}
	return one
}
