package prompts

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"strings"
	"text/template"
)

//go:embed templates/*.tmpl
var files embed.FS

// Domains lists the domains that have a template of their own, and the one for
// everything else.
func Domains() []string { return []string{"movies", "books", "businesses", "generic"} }

// Item is what is known of an item before a model is asked.
type Item struct {
	ID, Title  string
	Categories []string
	Text       string // a description, of any length
}

// Bounds of what a prompt takes over from an item, in bytes. A small model on a
// CPU reads some hundred tokens a second, and gets lost in long descriptions.
const (
	maxTitle      = 200
	maxCategory   = 60
	maxCategories = 12
	maxText       = 800
)

// MaxBytes bounds a rendered prompt, system and user part together, whatever the
// item holds. No tokenizer makes more tokens than bytes.
const MaxBytes = 3 << 10

// Template makes prompts for the items of one domain. It is safe for concurrent use.
type Template struct {
	tmpl    *template.Template
	version string
}

// Load returns the template of a domain.
func Load(domain string) (*Template, error) {
	for _, known := range Domains() {
		if domain == known {
			t := &Template{tmpl: template.Must(template.ParseFS(files, "templates/"+domain+".tmpl"))}
			t.version = domain + "/" + t.part("version", fields{})
			return t, nil
		}
	}
	return nil, fmt.Errorf("there are no prompts for the domain %q; choose one of %s", domain, strings.Join(Domains(), ", "))
}

// Version names the template, e.g. "movies/1".
func (t *Template) Version() string { return t.version }

// Render returns the system and user part of the prompt that asks about an item.
// The item's text is data from outside: see the package's invariants.
func (t *Template) Render(item Item) (system, user string) {
	data := fields{Title: clean(item.Title, maxTitle), Text: clean(item.Text, maxText)}
	var categories []string
	for _, c := range item.Categories {
		if c = clean(c, maxCategory); c != "" && len(categories) < maxCategories {
			categories = append(categories, c)
		}
	}
	data.Categories = strings.Join(categories, ", ")
	if data.Title == "" && data.Categories == "" {
		// The id may say something ("heat-1995"); there is nothing else to name.
		if data.ID = clean(item.ID, maxTitle); data.ID == "" {
			data.ID = "unknown"
		}
	}
	return t.part("system", data), t.part("user", data)
}

// Hash identifies the prompt of an item: it changes when the template's version or
// a byte of the prompt does. Knowledge is kept under (item, prompt hash, version of
// the model), so that it is made again then and only then.
func (t *Template) Hash(item Item) string {
	system, user := t.Render(item)
	h := sha256.New()
	for _, part := range []string{t.version, system, user} {
		fmt.Fprintf(h, "%d:%s", len(part), part) // the length keeps parts apart
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// fields is what a template may show; an empty one is not shown.
type fields struct{ ID, Title, Categories, Text string }

func (t *Template) part(name string, data fields) string {
	var b strings.Builder
	if err := t.tmpl.ExecuteTemplate(&b, name, data); err != nil {
		panic("BUG: " + err.Error()) // our own template, and data of a fixed type
	}
	return strings.TrimSpace(b.String())
}
