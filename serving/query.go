package serving

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/segmentio/encoding/json"

	"seralm/serving/problem"
	"seralm/stream"
)

// Bounds of one look-up's lists.
const (
	maxHistory    = 1_000
	maxIDs        = 10_000 // of exclude and of candidates
	maxCategories = 64
)

// query is one look-up.
type query struct {
	User string `json:"user"`
	// History is the whole history, oldest first, in place of the stored one.
	History []string `json:"history"`
	// Session is what the user did since, newer than the stored history.
	Session     []string `json:"session"`
	N           int      `json:"n"`
	Exclude     []string `json:"exclude"`
	Candidates  []string `json:"candidates"`
	Categories  []string `json:"categories"`
	ExcludeSeen *bool    `json:"exclude_seen"`
	Explain     bool     `json:"explain"`
}

var queryFields = []string{"user", "history", "session", "n", "exclude", "candidates", "categories", "exclude_seen", "explain"}

// excludeSeen reports whether the history's items are left out, which is the default.
func (q *query) excludeSeen() bool { return q.ExcludeSeen == nil || *q.ExcludeSeen }

// limits are the configured bounds of n.
type limits struct{ defaultN, maxN int }

var recommendParameters = []string{"n", "exclude_seen", "categories", "exclude", "explain"}

// readParameters reads GET /v1/recommendations/{user}.
func readParameters(r *http.Request, lim limits) (*query, error) {
	q := &query{User: r.PathValue("user"), N: lim.defaultN}
	values, err := parameters(r.URL, recommendParameters)
	if err != nil {
		return nil, err
	}
	if q.N, err = count(values, "n", lim.defaultN, lim.maxN); err != nil {
		return nil, err
	}
	if values.Has("exclude_seen") {
		seen, err := boolean(values, "exclude_seen")
		if err != nil {
			return nil, err
		}
		q.ExcludeSeen = &seen
	}
	if q.Explain, err = boolean(values, "explain"); err != nil {
		return nil, err
	}
	q.Exclude = list(values["exclude"])
	q.Categories = list(values["categories"])
	if err := checkName("user", q.User); err != nil {
		return nil, err
	}
	return q, q.check(lim)
}

// readQuery reads the body of POST /v1/recommendations.
func readQuery(w http.ResponseWriter, r *http.Request, maxBody int64, lim limits) (*query, error) {
	if _, err := parameters(r.URL, nil); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return nil, problem.TooLarge(large.Limit)
		}
		return nil, problem.Body("it ended early: "+err.Error(), "send the whole body")
	}
	return decodeQuery(body, lim)
}

func decodeQuery(body []byte, lim limits) (*query, error) {
	q := &query{N: lim.defaultN}
	const remedy = `send a JSON object such as {"user": "u1", "n": 10}`
	// Look at the syntax first: an error about a field then is about its type. The
	// standard library's check bounds the depth of nesting; segmentio's recurses, and a
	// large enough body of brackets would overflow the stack and end the process.
	if !stdjson.Valid(body) {
		return nil, problem.Body("it is not valid JSON", remedy)
	}
	if !bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{")) {
		return nil, problem.Body("it is not a JSON object", remedy)
	}
	if _, err := json.Parse(body, q, json.DisallowUnknownFields|json.DontMatchCaseInsensitiveStructFields); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) && wrong.Field != "" {
			field, index, nested := strings.Cut(wrong.Field, ".")
			if nested {
				field += "[" + index + "]"
			}
			return nil, problem.Field(field, "it has the wrong type", "send "+typeName(wrong.Type))
		}
		if name, ok := unknownField(err); ok {
			return nil, problem.Field(quotable(name), "there is no such field", "use "+strings.Join(queryFields, ", "))
		}
		return nil, problem.Body(strings.TrimPrefix(err.Error(), "json: "), remedy)
	}
	if q.User != "" {
		if err := checkName("user", q.User); err != nil {
			return nil, err
		}
	}
	return q, q.check(lim)
}

// unknownField tells which field a strict parser met that it does not know.
func unknownField(err error) (string, bool) {
	quoted, ok := strings.CutPrefix(err.Error(), "json: unknown field ")
	if !ok {
		return "", false
	}
	name, err := strconv.Unquote(quoted)
	return name, err == nil
}

// typeName says what a field takes, in JSON's words.
func typeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Int:
		return "a whole number"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "a list of strings"
	default:
		return "a string"
	}
}

func (q *query) check(lim limits) error {
	if q.N < 1 || q.N > lim.maxN {
		return outOfBounds("n", strconv.Itoa(q.N), lim.maxN)
	}
	for _, l := range []struct {
		field string
		ids   []string
		max   int
	}{
		{"history", q.History, maxHistory},
		{"session", q.Session, maxHistory},
		{"exclude", q.Exclude, maxIDs},
		{"candidates", q.Candidates, maxIDs},
		{"categories", q.Categories, maxCategories},
	} {
		if len(l.ids) > l.max {
			return problem.Field(l.field, fmt.Sprintf("it has %d elements", len(l.ids)), fmt.Sprintf("send at most %d", l.max))
		}
		for i, id := range l.ids {
			if err := checkName(fmt.Sprintf("%s[%d]", l.field, i), id); err != nil {
				return err
			}
		}
	}
	return nil
}

// parameters parses the query string. A parameter that does not exist is an
// error: a misspelt one must not be answered as if it had its default.
func parameters(u *url.URL, known []string) (url.Values, error) {
	if u.RawQuery == "" {
		return nil, nil
	}
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, problem.Field("query string", err.Error(), "escape it as application/x-www-form-urlencoded")
	}
	for name := range values {
		if !slices.Contains(known, name) {
			remedy := "leave it out: there are no parameters here"
			if len(known) > 0 {
				remedy = "use " + strings.Join(known, ", ")
			}
			return nil, problem.Field(quotable(name), "there is no such parameter", remedy)
		}
	}
	return values, nil
}

// count reads a whole number between 1 and limit.
func count(values url.Values, name string, byDefault, limit int) (int, error) {
	text := values.Get(name)
	if !values.Has(name) {
		return byDefault, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > limit {
		return 0, outOfBounds(name, strconv.Quote(quotable(text)), limit)
	}
	return n, nil
}

func outOfBounds(field, got string, limit int) error {
	return problem.Field(field, "it is "+got, fmt.Sprintf("send a whole number from 1 to %d", limit))
}

func boolean(values url.Values, name string) (bool, error) {
	switch text := values.Get(name); {
	case text == "true", text == "" && values.Has(name): // ?explain
		return true, nil
	case text == "false", text == "":
		return false, nil
	default:
		return false, problem.Field(name, "it is "+strconv.Quote(quotable(text)), "send true or false")
	}
}

// list splits repeated and comma-separated values.
func list(values []string) (out []string) {
	for _, v := range values {
		for part := range strings.SplitSeq(v, ",") {
			if part = strings.TrimSpace(part); part != "" {
				out = append(out, part)
			}
		}
	}
	return out
}

// checkName applies the log's own rule for identifiers, so that what a look-up
// accepts is what an event could have named.
func checkName(field, s string) error {
	switch {
	case s == "":
		return problem.Field(field, "it is empty", "send an identifier")
	case len(s) > stream.MaxName:
		return problem.Field(field, fmt.Sprintf("it is %d bytes long", len(s)), fmt.Sprintf("send at most %d bytes", stream.MaxName))
	case !utf8.ValidString(s):
		return problem.Field(field, "it is not valid UTF-8", "encode it as UTF-8")
	case strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f }):
		return problem.Field(field, "it holds a control character", "send printable characters only")
	}
	return nil
}

// quotable shortens what a client sent before it is sent back.
func quotable(s string) string {
	const limit = 64
	if len(s) > limit {
		s = s[:limit] + "..."
	}
	return strings.ToValidUTF8(s, "?")
}
