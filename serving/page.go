package serving

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"net/http"
	"strconv"
)

//go:embed page.html
var pageHTML []byte

// pagePolicy lets the page run its own style and script and nothing else: item
// titles and user ids come from outside.
var pagePolicy = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; img-src data:; connect-src 'self'" +
	"; style-src " + hashOf("style") + "; script-src " + hashOf("script")

// hashOf is the policy's name for the content of the page's only such element.
func hashOf(element string) string {
	_, rest, _ := bytes.Cut(pageHTML, []byte("<"+element+">"))
	content, _, found := bytes.Cut(rest, []byte("</"+element+">"))
	if !found {
		panic("BUG: page.html has no <" + element + ">")
	}
	sum := sha256.Sum256(content)
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

func page(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-cache")
	h.Set("Content-Length", strconv.Itoa(len(pageHTML)))
	_, _ = w.Write(pageHTML)
}
