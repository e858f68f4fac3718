package pregenerator

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/stream"
)

// importSource is the ce_source of ready texts.
const importSource = "seralm/import"

// Import writes ready texts to the knowledge topic: r is a JSON object of item ids and
// texts, or what Export wrote, gzipped or not. It returns how many were written. On an
// error these stay, and importing the same file again is harmless.
func Import(ctx context.Context, client *kgo.Client, names stream.Names, enc Encoder, r io.Reader, progress func(written int)) (written int, err error) {
	var batch []stream.Knowledge
	flush := func() error {
		if err := importBatch(ctx, client, names.Knowledge(), enc, batch); err != nil {
			return err
		}
		written, batch = written+len(batch), batch[:0]
		progress(written)
		return nil
	}
	for k, err := range readyTexts(r) {
		if err != nil {
			return written, err
		}
		if batch = append(batch, k); len(batch) < vectorBatch {
			continue
		}
		if err := flush(); err != nil {
			return written, err
		}
	}
	if len(batch) > 0 {
		err = flush()
	}
	return written, err
}

// lineBytes is more than a line of an export has.
const lineBytes = 64 << 10

// readyTexts yields the texts of a file, up to the first error.
func readyTexts(r io.Reader) iter.Seq2[stream.Knowledge, error] {
	return func(yield func(stream.Knowledge, error) bool) {
		b, err := unzip(r)
		if err != nil {
			yield(stream.Knowledge{}, err)
			return
		}
		read := object
		if exported(b) {
			read = lines
		}
		if err := read(json.NewDecoder(b), func(k stream.Knowledge) bool { return yield(k, nil) }); err != nil {
			yield(stream.Knowledge{}, err)
		}
	}
}

func unzip(r io.Reader) (*bufio.Reader, error) {
	b := bufio.NewReaderSize(r, lineBytes)
	if magic, _ := b.Peek(2); string(magic) != "\x1f\x8b" { // a file too short for it is no gzip either
		return b, nil
	}
	z, err := gzip.NewReader(b)
	if err != nil {
		return nil, fmt.Errorf("reading it as gzip: %w", err)
	}
	return bufio.NewReaderSize(z, lineBytes), nil
}

// exported says whether the first line is one of an export.
func exported(b *bufio.Reader) bool {
	begin, _ := b.Peek(lineBytes)
	line, _, _ := bytes.Cut(begin, []byte("\n"))
	var k struct{ Item, Encoder *string }
	return json.Unmarshal(line, &k) == nil && k.Item != nil && k.Encoder != nil
}

// lines reads an export. What has the vector of its title only has no text.
func lines(in *json.Decoder, yield func(stream.Knowledge) bool) error {
	for {
		var was stream.Knowledge
		err := in.Decode(&was)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("at byte %d: %w", in.InputOffset(), err)
		}
		if was.Origin == stream.OriginTitle {
			continue
		}
		k, err := readyText(was.Item, was.Text)
		if err != nil || !yield(k) {
			return err
		}
	}
}

// object reads {"item": "text", ...}.
func object(in *json.Decoder, yield func(stream.Knowledge) bool) error {
	if err := delimiter(in, '{'); err != nil {
		return err
	}
	for in.More() {
		key, err := in.Token()
		if err != nil {
			return fmt.Errorf("at byte %d: %w", in.InputOffset(), err)
		}
		item := key.(string) // the decoder refuses other keys
		var text string
		if err := in.Decode(&text); err != nil {
			return fmt.Errorf("item %q, at byte %d: a text is needed: %w", item, in.InputOffset(), err)
		}
		k, err := readyText(item, text)
		if err != nil || !yield(k) {
			return err
		}
	}
	return delimiter(in, '}')
}

func delimiter(in *json.Decoder, want json.Delim) error {
	token, err := in.Token()
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("the file ends too early: it must be one JSON object, {\"item\": \"text\", ...}, or an export")
	case err != nil:
		return fmt.Errorf("at byte %d: %w", in.InputOffset(), err)
	case token != want:
		return fmt.Errorf("at byte %d: the file must be one JSON object, {\"item\": \"text\", ...}, or an export", in.InputOffset())
	}
	return nil
}

func readyText(item, text string) (k stream.Knowledge, err error) {
	k.Item, k.Origin = item, stream.OriginImport
	if k.Text = strings.TrimSpace(text); k.Text == "" {
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
