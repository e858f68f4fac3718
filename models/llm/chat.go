package llm

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"seralm/models/tokenizer"
)

// Chat returns the prompt for an answer to user, in the model's own format. An empty
// system leaves the choice to the format, which may have a default. Neither text can
// make a special token of the format.
func (m *Model) Chat(system, user string) (Prompt, error) {
	if m.template.parts == nil {
		return nil, fmt.Errorf("language model: %w", m.template.err)
	}
	ids, err := m.tokenizer.EncodeParts(m.template.parts(m, system, user)...)
	if err != nil {
		return nil, fmt.Errorf("language model: %w", err)
	}
	return ids, nil
}

// Answer returns the tokens of a completion with this text: the text's own, and the one
// that ends it.
func (m *Model) Answer(text string) ([]int32, error) {
	ids, err := m.tokenizer.EncodeParts(tokenizer.Text(text))
	if err != nil {
		return nil, fmt.Errorf("language model: %w", err)
	}
	if n := len(m.stop); n > 0 {
		ids = append(ids, m.stop[n-1]) // the chat format's, if it has one
	}
	return ids, nil
}

// Text returns text as a prompt, for a model without a chat format.
func (m *Model) Text(text string) Prompt {
	var p Prompt
	if bos, ok := m.tokenizer.BOS(); ok {
		p = append(p, bos)
	}
	return append(p, m.tokenizer.Encode(text)...)
}

// template is a chat format. Models bring theirs as a Jinja program; instead of
// running it, the known ones are recognised by what they contain.
type template struct {
	parts     func(m *Model, system, user string) []tokenizer.Part
	endOfTurn string // the special token that ends an answer, beside the model's own
	err       error  // why there are no parts
}

var (
	// What a template must contain, without spaces, quotes and plus signs.
	chatML  = "<|im_start|>message[role]\nmessage[content]<|im_end|>"
	llama2  = "bos_token[INST]content.strip()[/INST]"
	llama2S = "<<SYS>>\nsystem_message\n<</SYS>>\n\nmessage[content]"

	chatMLDefault = regexp.MustCompile(`<\|im_start\|>system\n([^'"{}<]+)<\|im_end\|>\n`)
)

func parseTemplate(jinja string) template {
	if jinja == "" {
		return template{err: errors.New("it has no chat template: use an instruction-tuned model")}
	}
	text := strings.ReplaceAll(jinja, `\n`, "\n")
	bare := strings.NewReplacer(" ", "", "'", "", `"`, "", "+", "", "message.role", "message[role]", "message.content", "message[content]").Replace(text)
	switch {
	case strings.Contains(bare, chatML):
		system := ""
		if found := chatMLDefault.FindStringSubmatch(text); found != nil {
			system = found[1]
		}
		return template{endOfTurn: "<|im_end|>", parts: func(_ *Model, s, user string) []tokenizer.Part {
			if s == "" {
				s = system
			}
			return chatMLParts(s, user)
		}}
	case strings.Contains(bare, llama2) && strings.Contains(bare, llama2S):
		return template{parts: llama2Parts}
	}
	return template{err: fmt.Errorf("its chat template is neither ChatML nor Llama 2's, the two that this knows: %.200q", jinja)}
}

func chatMLParts(system, user string) []tokenizer.Part {
	start, end := tokenizer.Special("<|im_start|>"), tokenizer.Special("<|im_end|>")
	var parts []tokenizer.Part
	if system != "" {
		parts = append(parts, start, tokenizer.Text("system\n"+system), end, tokenizer.Text("\n"))
	}
	return append(parts, start, tokenizer.Text("user\n"+user), end, tokenizer.Text("\n"), start, tokenizer.Text("assistant\n"))
}

func llama2Parts(m *Model, system, user string) []tokenizer.Part {
	content := user
	if system != "" {
		content = "<<SYS>>\n" + system + "\n<</SYS>>\n\n" + user
	}
	var parts []tokenizer.Part
	if bos, ok := m.tokenizer.BOS(); ok {
		parts = append(parts, tokenizer.Special(m.tokenizer.Token(bos)))
	}
	return append(parts, tokenizer.Text("[INST] "+strings.TrimSpace(content)+" [/INST]"))
}
