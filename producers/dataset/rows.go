package dataset

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"unicode/utf8"
)

// MaxLine bounds one row in bytes, so that a damaged file (an opened quote, a
// binary) ends in an error and not in all of memory.
const MaxLine = 1 << 20

// Encoding of a file's text.
type Encoding string

const (
	UTF8   Encoding = "utf-8"
	Latin1 Encoding = "latin-1"
	// mixed is what MovieLens' .dat files and u.item need: the older are latin-1,
	// the later (10M) UTF-8, and no file says which. A line that is valid UTF-8 is
	// taken as such.
	mixed Encoding = "mixed"
)

// dialect is how rows are told apart into fields.
type dialect struct {
	separator string
	quoted    bool // fields may stand in double quotes, RFC 4180
	encoding  Encoding
}

// rows reads a text row by row. It belongs to one goroutine.
type rows struct {
	file string
	dialect
	br *bufio.Reader
	// line is where the row last returned begins, read the lines read; from 1.
	line, read int
	long       []byte   // a line longer than br's buffer
	text       []byte   // a line turned into UTF-8
	fields     [][]byte // of the row last returned
	unquoted   []byte   // their text, where quotes had to be taken off
	ends       []int    // of each field in unquoted
}

func newRows(file string, r io.Reader, d dialect) *rows {
	return &rows{file: file, dialect: d, br: bufio.NewReaderSize(r, 64<<10)}
}

// next returns the fields of the next row that is not blank, valid until the next
// call, or io.EOF.
func (r *rows) next() ([][]byte, error) {
	for {
		line, err := r.nextLine()
		if err != nil {
			return nil, err
		}
		r.line = r.read
		if len(line) == 0 {
			continue
		}
		if r.quoted && bytes.IndexByte(line, '"') >= 0 {
			return r.splitQuoted(line)
		}
		r.split(line)
		return r.fields, nil
	}
}

func (r *rows) split(line []byte) {
	r.fields = r.fields[:0]
	for {
		i := indexString(line, r.separator)
		if i < 0 {
			r.fields = append(r.fields, line)
			return
		}
		r.fields = append(r.fields, line[:i:i])
		line = line[i+len(r.separator):]
	}
}

func indexString(b []byte, s string) int {
	if len(s) == 1 {
		return bytes.IndexByte(b, s[0])
	}
	return bytes.Index(b, []byte(s))
}

// splitQuoted splits a row in which some field is quoted. A quoted field may run
// over several lines, and the text of a field moves while unquoted grows: fields
// are cut out at the end.
func (r *rows) splitQuoted(rest []byte) ([][]byte, error) {
	r.unquoted, r.ends = r.unquoted[:0], r.ends[:0]
	for more := true; more; {
		var err error
		if len(rest) > 0 && rest[0] == '"' {
			if rest, err = r.quotedField(rest[1:]); err != nil {
				return nil, err
			}
			if len(rest) > 0 && indexString(rest, r.separator) != 0 {
				return nil, r.fail("write it as \"...\" with inner quotes doubled", "there is text after the closing quote")
			}
			more = len(rest) > 0
			rest = rest[min(len(r.separator), len(rest)):]
		} else {
			field := rest
			if i := indexString(rest, r.separator); i >= 0 {
				field, rest = rest[:i], rest[i+len(r.separator):]
			} else {
				more = false
			}
			if bytes.IndexByte(field, '"') >= 0 {
				return nil, r.fail("write it as \"...\" with inner quotes doubled", "there is a quote inside a field that is not quoted")
			}
			r.unquoted = append(r.unquoted, field...)
		}
		r.ends = append(r.ends, len(r.unquoted))
	}
	r.fields = r.fields[:0]
	from := 0
	for _, end := range r.ends {
		r.fields = append(r.fields, r.unquoted[from:end:end])
		from = end
	}
	return r.fields, nil
}

// quotedField appends the field that begins with rest to unquoted and returns what
// follows its closing quote.
func (r *rows) quotedField(rest []byte) ([]byte, error) {
	for {
		i := bytes.IndexByte(rest, '"')
		if i >= 0 {
			r.unquoted = append(r.unquoted, rest[:i]...)
			if rest = rest[i+1:]; len(rest) == 0 || rest[0] != '"' {
				return rest, nil
			}
			r.unquoted = append(r.unquoted, '"')
			rest = rest[1:]
			continue
		}
		r.unquoted = append(append(r.unquoted, rest...), '\n')
		if len(r.unquoted) > MaxLine {
			return nil, r.fail("close the quote", "a quoted field is longer than %d bytes", MaxLine)
		}
		var err error
		if rest, err = r.nextLine(); errors.Is(err, io.EOF) {
			return nil, r.fail("close it; or the file is truncated: get it again", "a quote is opened and never closed")
		} else if err != nil {
			return nil, err
		}
	}
}

// fail is an error at the field now being split.
func (r *rows) fail(remedy, format string, args ...any) error {
	return &FormatError{File: r.file, Line: r.line, Column: len(r.ends) + 1, What: fmt.Sprintf(format, args...), Remedy: remedy}
}

// nextLine returns the next line as UTF-8, without its end.
func (r *rows) nextLine() ([]byte, error) {
	line, err := r.br.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		r.long = append(r.long[:0], line...)
		for errors.Is(err, bufio.ErrBufferFull) && len(r.long) <= MaxLine {
			line, err = r.br.ReadSlice('\n')
			r.long = append(r.long, line...)
		}
		if line = r.long; len(line) > MaxLine {
			return nil, &FormatError{File: r.file, Line: r.read + 1, What: fmt.Sprintf("the line is longer than %d bytes", MaxLine), Remedy: "is this a text file, with line ends?"}
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, r.unreadable(err)
	}
	if len(line) == 0 {
		return nil, io.EOF
	}
	r.read++
	if n := len(line); line[n-1] == '\n' {
		line = line[:n-1]
	}
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	if r.read == 1 {
		if bytes.HasPrefix(line, []byte("\xff\xfe")) || bytes.HasPrefix(line, []byte("\xfe\xff")) {
			return nil, &FormatError{File: r.file, Line: 1, What: "the text is UTF-16", Remedy: "turn it into UTF-8, for example with iconv -f utf-16 -t utf-8"}
		}
		line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
	}
	return r.decode(line)
}

func (r *rows) decode(line []byte) ([]byte, error) {
	if r.encoding != Latin1 && utf8.Valid(line) {
		return line, nil
	}
	if r.encoding == UTF8 {
		return nil, &FormatError{File: r.file, Line: r.read, What: "the text is not valid UTF-8: " + quote(line), Remedy: "if it is Western European, set the encoding to latin-1; else turn it into UTF-8 with iconv"}
	}
	r.text = r.text[:0]
	for _, c := range line {
		r.text = utf8.AppendRune(r.text, rune(c)) // the first 256 code points are latin-1
	}
	return r.text, nil
}

// unreadable turns an error of the file or of its compression into what it means.
func (r *rows) unreadable(err error) error {
	var corrupt flate.CorruptInputError
	e := &FormatError{File: r.file, Line: r.read + 1, Err: err}
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		e.What, e.Remedy = "the gzip file ends in the middle", "it is truncated: get it again, and check with gzip -t"
	case errors.Is(err, gzip.ErrChecksum), errors.Is(err, gzip.ErrHeader), errors.As(err, &corrupt):
		e.What, e.Remedy = "the gzip file is damaged", "get it again, and check with gzip -t"
	default:
		e.What = "reading failed"
	}
	return e
}

// file is a file that is open for reading, decompressed where it is compressed.
type file struct {
	io.Reader
	f *os.File
}

func (f *file) Close() error { return f.f.Close() }

// openFile opens a file; whether it is gzip is told by its first bytes, for names
// lie.
func openFile(path string) (*file, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	out, err := decompressed(f, path)
	if err != nil {
		_ = f.Close() // only read from
		return nil, err
	}
	return &file{out, f}, nil
}

func decompressed(r io.Reader, path string) (io.Reader, error) {
	br := bufio.NewReaderSize(r, 256<<10)
	magic, err := br.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if !bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		return br, nil
	}
	z, err := gzip.NewReader(br)
	if err != nil {
		return nil, (&rows{file: path}).unreadable(err)
	}
	return z, nil
}
