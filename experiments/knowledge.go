package experiments

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"seralm/producers/dataset"
	"seralm/prompts"
	"seralm/stream"
)

// Encoder makes a vector of each text.
type Encoder interface {
	Encode(ctx context.Context, texts []string) ([][]float32, error)
	Version() string
}

// Source says what is known of the items, and how much.
type Source struct {
	Name    string `json:"name"`              // "none", "title", or the name of a file of texts
	Hash    string `json:"hash,omitempty"`    // of all words that were encoded
	Encoder string `json:"encoder,omitempty"` // its version
	Texts   int    `json:"texts"`             // items of the interactions that have a text of the file
	Titles  int    `json:"titles"`            // items that have the words of their title
	Without int    `json:"without"`           // items of which nothing is known
}

// Knowledge is what is known of the items of a data set.
type Knowledge struct {
	Source  Source
	vectors map[string][]float32
}

// Names of the sources that are no files.
const (
	NoKnowledge = "none"
	Titles      = "title"
)

// ReadKnowledge encodes what the source says of the data set's items: nothing
// ("none"), their titles and categories in the words of the pregenerator ("title"), or
// the texts of a file, as `seralm knowledge` imports or exports them. Items that the
// file lacks have their title.
func ReadKnowledge(ctx context.Context, d *dataset.Dataset, source string, encoder Encoder) (Knowledge, error) {
	k := Knowledge{Source: Source{Name: source}}
	if source == NoKnowledge {
		return k, nil
	}
	texts := map[string]string{}
	if source != Titles {
		var err error
		if texts, err = readTexts(source); err != nil {
			return k, err
		}
		k.Source.Name = filepath.Base(source)
	}
	titles := map[string]string{}
	for ev, err := range d.Items() {
		if err != nil {
			return k, err
		}
		it := ev.Body
		titles[it.Item] = prompts.Words(prompts.Item{ID: it.Item, Title: it.Title, Categories: it.Categories, Text: it.Text})
	}
	var known, words []string
	hash := sha256.New()
	for _, item := range read(d).items {
		text, ok := texts[item]
		switch {
		case ok:
			k.Source.Texts++
		case titles[item] != "":
			text = titles[item]
			k.Source.Titles++
		default:
			k.Source.Without++
			continue
		}
		known, words = append(known, item), append(words, text)
		fmt.Fprintf(hash, "%q %q\n", item, text)
	}
	if source != Titles && k.Source.Texts == 0 {
		return k, fmt.Errorf("%s has texts of %d items, none of which the data set has: is it of another data set?", source, len(texts))
	}
	if len(words) == 0 {
		return k, fmt.Errorf("the data set %s has no titles, categories or descriptions of its items", d.Name())
	}
	vectors, err := encoder.Encode(ctx, words)
	if err != nil {
		return k, err
	}
	k.Source.Hash, k.Source.Encoder = hex.EncodeToString(hash.Sum(nil)[:8]), encoder.Version()
	k.vectors = map[string][]float32{}
	for i, item := range known {
		k.vectors[item] = vectors[i]
	}
	return k, nil
}

// maxTexts bounds a file of texts, in bytes.
const maxTexts = 1 << 30

// readTexts reads {"item": "text", ...}, or the lines that `seralm knowledge export`
// writes; gzipped or not. Empty texts are as good as none, and so is the title that an
// export holds of an item that has no text yet.
func readTexts(path string) (map[string]string, error) {
	raw, err := os.ReadFile(path)
	if err == nil && bytes.HasPrefix(raw, []byte("\x1f\x8b")) {
		raw, err = unzip(raw)
	}
	if err != nil {
		return nil, fmt.Errorf("reading texts: %w", err)
	}
	texts, err := parseTexts(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return texts, nil
}

func unzip(raw []byte) ([]byte, error) {
	z, err := gzip.NewReader(bufio.NewReader(bytes.NewReader(raw)))
	if err != nil {
		return nil, err
	}
	plain, err := io.ReadAll(io.LimitReader(z, maxTexts+1))
	if len(plain) > maxTexts {
		return nil, fmt.Errorf("more than %d bytes when unpacked", maxTexts)
	}
	return plain, err
}

func parseTexts(raw []byte) (map[string]string, error) {
	texts := map[string]string{}
	in := json.NewDecoder(bytes.NewReader(raw))
	for {
		var members map[string]json.RawMessage
		err := in.Decode(&members)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("at byte %d: the file must be one JSON object, {\"item\": \"text\", ...}, or an export: %w", in.InputOffset(), err)
		}
		if members["item"] != nil && members["encoder"] != nil {
			var k struct {
				Item   string        `json:"item"`
				Text   string        `json:"text"`
				Origin stream.Origin `json:"origin"`
			}
			again, _ := json.Marshal(members) // it was just read
			if err := json.Unmarshal(again, &k); err != nil {
				return nil, fmt.Errorf("before byte %d: %w", in.InputOffset(), err)
			}
			if k.Origin != stream.OriginTitle {
				texts[k.Item] = strings.TrimSpace(k.Text)
			}
			continue
		}
		for item, value := range members {
			var text string
			if err := json.Unmarshal(value, &text); err != nil {
				return nil, fmt.Errorf("item %q: a text is needed: %w", item, err)
			}
			texts[item] = strings.TrimSpace(text)
		}
	}
	for item, text := range texts {
		if text == "" {
			delete(texts, item)
		}
	}
	if len(texts) == 0 {
		return nil, errors.New("there are no texts in it")
	}
	return texts, nil
}

// of returns the rows among [from, from+len(items)) that have a vector, and these.
func (k Knowledge) of(items []string, from int) (rows []int32, vectors [][]float32) {
	for i, item := range items {
		if v, ok := k.vectors[item]; ok {
			rows, vectors = append(rows, int32(from+i)), append(vectors, slices.Clone(v))
		}
	}
	return rows, vectors
}
