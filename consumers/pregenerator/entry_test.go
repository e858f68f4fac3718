package pregenerator

import (
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/config"
	"seralm/prompts"
	"seralm/stream"
)

func TestWhatIsDueForAnItem(t *testing.T) {
	const now, before = 7, 3 // prompts
	announced := entry{announced: true, prompt: now, written: 10}
	with := func(e entry, k known) entry { e.known = k; return e }
	wrote := func(origin stream.Origin, change ...func(*known)) known {
		k := known{origin: origin, prompt: now, written: 20, text: true, policy: true, encoder: true}
		for _, c := range change {
			c(&k)
		}
		return k
	}
	stale := func(k *known) { k.encoder = false }
	older := func(k *known) { k.prompt = before }
	outdated := func(k *known) { k.prompt, k.written = before, 5 } // the item came after it
	for name, c := range map[string]struct {
		e    entry
		want due
	}{
		"new":                                {announced, title},
		"new, hidden":                        {entry{announced: true, hidden: true, prompt: now}, nothing},
		"new, says nothing":                  {entry{announced: true, mute: true, prompt: now}, nothing},
		"never announced":                    {entry{}, nothing},
		"deleted":                            {entry{deleted: true}, nothing},
		"title there":                        {with(announced, wrote(stream.OriginTitle)), text},
		"title of before a change":           {with(announced, wrote(stream.OriginTitle, outdated)), title},
		"title of another template":          {with(announced, wrote(stream.OriginTitle, older)), title},
		"title, another encoder":             {with(announced, wrote(stream.OriginTitle, stale)), title},
		"text there":                         {with(announced, wrote(stream.OriginLLM)), nothing},
		"text of another model":              {with(announced, wrote(stream.OriginLLM, func(k *known) { k.policy = false })), text},
		"text of another template":           {with(announced, wrote(stream.OriginLLM, older)), text},
		"text of before a change":            {with(announced, wrote(stream.OriginLLM, outdated)), title},
		"text, another encoder":              {with(announced, wrote(stream.OriginLLM, stale)), again},
		"text before a change and encoder":   {with(announced, wrote(stream.OriginLLM, stale, outdated)), title},
		"text of a hidden item":              {with(entry{announced: true, hidden: true, prompt: now}, wrote(stream.OriginLLM, older)), nothing},
		"text of a hidden item, encoder":     {with(entry{announced: true, hidden: true, prompt: now}, wrote(stream.OriginLLM, stale)), again},
		"import":                             {with(announced, wrote(stream.OriginImport)), nothing},
		"import of before a change":          {with(announced, wrote(stream.OriginImport, outdated)), nothing},
		"import, another encoder":            {with(announced, wrote(stream.OriginImport, stale)), again},
		"import, vector only":                {with(announced, wrote(stream.OriginImport, stale, func(k *known) { k.text = false })), nothing},
		"import, never announced":            {with(entry{}, wrote(stream.OriginImport)), nothing},
		"import, deleted":                    {with(entry{deleted: true}, wrote(stream.OriginImport)), removal},
		"text, deleted":                      {with(entry{deleted: true}, wrote(stream.OriginLLM)), removal},
		"text, the deletion forgotten":       {with(entry{}, wrote(stream.OriginLLM)), removal},
		"title there, the model had no text": {with(entry{announced: true, prompt: now, written: 10, refused: now}, wrote(stream.OriginTitle)), nothing},
		"refused, then changed":              {with(entry{announced: true, prompt: now, written: 10, refused: before}, wrote(stream.OriginTitle)), text},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, c.e.due(true)) })
	}
	for _, e := range []entry{{}, {deleted: true}} {
		e.known = wrote(stream.OriginLLM)
		require.Equal(t, nothing, e.due(false), "it may still be announced")
	}
}

func TestTheConfigurationKnowsTheDomains(t *testing.T) {
	require.Equal(t, prompts.Domains(), config.Domains)
}
