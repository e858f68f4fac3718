// Command llamacpp is llama.cpp's side of bench/llm.sh: it samples the texts that
// SeRALM's side does and prints what that took, as one line of JSON. llama.cpp's
// released library is opened at run time, without cgo. The binding to it has a module
// of its own, so that SeRALM's build knows nothing of it.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hybridgroup/yzma/pkg/llama"
)

// As in peer.py, and the chat that the model's template makes of it.
const (
	chat = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n" +
		"<|im_start|>user\nSummarise in two sentences what kind of viewer would enjoy the movie '%s'. Mention themes, mood and similar films.<|im_end|>\n" +
		"<|im_start|>assistant\n"
	maxTokens = 64
	tau       = 0.8
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "bench: error: %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 5 {
		return fmt.Errorf("usage: %s LIBRARIES SMOLLM2.gguf PROMPTS.json THREADS", os.Args[0])
	}
	threads, err := strconv.Atoi(os.Args[4])
	if err != nil {
		return err
	}
	raw, err := os.ReadFile(os.Args[3])
	if err != nil {
		return err
	}
	var titles []string
	if err := json.Unmarshal(raw, &titles); err != nil {
		return err
	}
	w, err := load(os.Args[1], os.Args[2], len(titles), threads)
	if err != nil {
		return err
	}
	prompts, tokens := make([][]llama.Token, len(titles)), 0
	for i, t := range titles {
		prompts[i] = llama.Tokenize(w.vocab, fmt.Sprintf(chat, t), false, true)
		tokens += len(prompts[i])
	}
	if err := w.write(prompts, 4); err != nil { // warm up
		return err
	}
	load, cpu, begin := loadAverage(), cpuSeconds(), time.Now()
	if err := w.write(prompts, maxTokens); err != nil {
		return err
	}
	seconds, cpu := time.Since(begin).Seconds(), cpuSeconds()-cpu
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"system": "llama.cpp", "type": "Q4_1", "threads": threads,
		"prompt_tokens": tokens, "tokens": maxTokens * len(titles), "seconds": seconds, "cpu_seconds": cpu, "load": load})
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
