package pregenerator

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/stream"
)

// importSource is the ce_source of ready texts.
const importSource = "seralm/import"

// Import writes ready texts to the knowledge topic: r is a JSON object of item ids and
// texts, gzipped or not. It returns how many were written. On an error these stay,
// and importing the same file again is harmless.
func Import(ctx context.Context, client *kgo.Client, names stream.Names, enc Encoder, r io.Reader, progress func(written int)) (written int, err error) {
	r, err = unzip(r)
	if err != nil {
		return 0, err
	}
	in := json.NewDecoder(r)
	if err := delimiter(in, '{'); err != nil {
		return 0, err
	}
	var batch []stream.Knowledge
	for more := true; more; {
		if more = in.More(); more {
			k, err := readyText(in)
			if err != nil {
				return written, err
			}
			batch = append(batch, k)
		}
		if len(batch) == vectorBatch || !more && len(batch) > 0 {
			if err := importBatch(ctx, client, names.Knowledge(), enc, batch); err != nil {
				return written, err
			}
			written, batch = written+len(batch), batch[:0]
			progress(written)
		}
	}
	return written, delimiter(in, '}')
}

func unzip(r io.Reader) (io.Reader, error) {
	b := bufio.NewReader(r)
	if magic, _ := b.Peek(2); string(magic) != "\x1f\x8b" { // a file too short for it is no gzip either
		return b, nil
	}
	z, err := gzip.NewReader(b)
	if err != nil {
		return nil, fmt.Errorf("reading it as gzip: %w", err)
	}
	return z, nil
}

func delimiter(in *json.Decoder, want json.Delim) error {
	token, err := in.Token()
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("the file ends too early: it must be one JSON object, {\"item\": \"text\", ...}")
	case err != nil:
		return fmt.Errorf("at byte %d: %w", in.InputOffset(), err)
	case token != want:
		return fmt.Errorf("at byte %d: the file must be one JSON object, {\"item\": \"text\", ...}", in.InputOffset())
	}
	return nil
}

// readyText reads one item id with its text.
func readyText(in *json.Decoder) (k stream.Knowledge, err error) {
	key, err := in.Token()
	if err != nil {
		return k, fmt.Errorf("at byte %d: %w", in.InputOffset(), err)
	}
	k.Item, k.Origin = key.(string), stream.OriginImport // the decoder refuses other keys
	if err := in.Decode(&k.Text); err != nil {
		return k, fmt.Errorf("item %q, at byte %d: a text is needed: %w", k.Item, in.InputOffset(), err)
	}
	if k.Text = strings.TrimSpace(k.Text); k.Text == "" {
		return k, fmt.Errorf("item %q: its text is empty (leave the item out, and one will be written)", k.Item)
	}
	if len(k.Text) > stream.MaxKnowledgeText {
		return k, fmt.Errorf("item %q: its text has %d bytes, which is more than %d", k.Item, len(k.Text), stream.MaxKnowledgeText)
	}
	return k, nil
}

func importBatch(ctx context.Context, client *kgo.Client, topic string, enc Encoder, batch []stream.Knowledge) error {
	texts := make([]string, len(batch))
	for i := range batch {
		texts[i] = batch[i].Text
	}
	vectors, err := enc.Encode(ctx, texts)
	if err != nil {
		return fmt.Errorf("encoding texts: %w", err)
	}
	recs := make([]*kgo.Record, len(batch))
	for i, k := range batch {
		k.Vector, k.Encoder = vectors[i], enc.Version()
		if recs[i], err = record(topic, importSource, time.Now(), k); err != nil {
			return fmt.Errorf("item %q: %w", k.Item, err)
		}
	}
	if err := client.ProduceSync(ctx, recs...).FirstErr(); err != nil {
		return fmt.Errorf("writing to topic %s: %w", topic, err)
	}
	return nil
}
