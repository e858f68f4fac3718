package main

import (
	"errors"
	"fmt"

	"github.com/hybridgroup/yzma/pkg/llama"
)

// writer samples a batch of texts.
type writer struct {
	vocab    llama.Vocab
	ctx      llama.Context
	batch    llama.Batch
	samplers []llama.Sampler // one a text
	at       []int32         // where in the batch a text's newest token is
}

// load opens llama.cpp and the model, at llama.cpp's own settings but for the number
// of threads and texts. The process ends with the measurement: nothing is freed.
func load(libraries, model string, texts, threads int) (*writer, error) {
	if err := llama.Load(libraries); err != nil {
		return nil, fmt.Errorf("opening llama.cpp in %s: %w", libraries, err)
	}
	llama.LogSet(llama.LogSilent())
	llama.BackendInit()
	if err := llama.GGMLBackendLoadAllFromPath(libraries); err != nil {
		return nil, fmt.Errorf("opening llama.cpp's kernels in %s: %w", libraries, err)
	}
	m, err := llama.ModelLoadFromFile(model, llama.ModelDefaultParams())
	if err != nil {
		return nil, fmt.Errorf("loading %s: %w", model, err)
	}
	p := llama.ContextDefaultParams()
	p.NCtx, p.NSeqMax = uint32(texts*256), uint32(texts)
	p.NThreads, p.NThreadsBatch = int32(threads), int32(threads)
	w := &writer{vocab: llama.ModelGetVocab(m), at: make([]int32, texts)}
	if w.ctx, err = llama.InitFromModel(m, p); err != nil {
		return nil, fmt.Errorf("making room for %d texts: %w", texts, err)
	}
	w.batch = llama.BatchInit(int32(p.NBatch), 0, 1)
	for i := range texts {
		s := llama.SamplerChainInit(llama.SamplerChainDefaultParams())
		llama.SamplerChainAdd(s, llama.SamplerInitTemp(tau))
		llama.SamplerChainAdd(s, llama.SamplerInitDist(uint32(i)))
		w.samplers = append(w.samplers, s)
	}
	return w, nil
}

// write samples n tokens of each text. A text goes on after its end, as on the other
// sides it does until the last one's.
func (w *writer) write(prompts [][]llama.Token, n int) error {
	if err := w.prefill(prompts); err != nil {
		return err
	}
	next := make([]llama.Token, len(prompts))
	for step := range n {
		for i, s := range w.samplers {
			next[i] = llama.SamplerSample(s, w.ctx, w.at[i])
		}
		if step == n-1 {
			return nil
		}
		for i, id := range next {
			if err := w.add(i, len(prompts[i])+step, id, true); err != nil {
				return err
			}
		}
		if err := w.decode(); err != nil {
			return err
		}
	}
	return nil
}

// prefill computes the prompts; what all begin with, once.
func (w *writer) prefill(prompts [][]llama.Token) error {
	memory, err := llama.GetMemory(w.ctx)
	if err != nil {
		return err
	}
	if err := llama.MemoryClear(memory, false); err != nil {
		return err
	}
	shared := commonPrefix(prompts)
	for position, id := range prompts[0][:shared] {
		if err := w.add(0, position, id, false); err != nil {
			return err
		}
	}
	if err := w.decode(); err != nil {
		return err
	}
	for i := 1; i < len(prompts); i++ {
		if err := llama.MemorySeqCp(memory, 0, llama.SeqId(i), -1, -1); err != nil {
			return err
		}
	}
	for i, p := range prompts {
		for position := shared; position < len(p); position++ {
			if err := w.add(i, position, p[position], position == len(p)-1); err != nil {
				return err
			}
		}
	}
	return w.decode()
}

// add puts a text's next token into the batch.
func (w *writer) add(text, position int, id llama.Token, sampled bool) error {
	w.at[text] = w.batch.NTokens
	return w.batch.Add(id, llama.Pos(position), []llama.SeqId{llama.SeqId(text)}, sampled)
}

// decode computes the batch and empties it.
func (w *writer) decode() error {
	status, err := llama.Decode(w.ctx, w.batch)
	if err == nil && status != 0 {
		err = fmt.Errorf("llama.cpp computed nothing: status %d", status)
	}
	return errors.Join(err, w.batch.Clear())
}

// commonPrefix is how many tokens all begin with, at least one less than each has.
func commonPrefix(all [][]llama.Token) int {
	n := len(all[0]) - 1
	for _, p := range all[1:] {
		same := 0
		for same < min(n, len(p)-1) && p[same] == all[0][same] {
			same++
		}
		n = same
	}
	return n
}
