package serving

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The policy allows one style and one script by their hashes, and connections to
// this server. What it does not allow would silently not work.
func TestThePageNeedsNothingThatItsPolicyForbids(t *testing.T) {
	w := newRig(t).ask("GET", "/", "")
	require.Equal(t, 200, w.Code)
	require.Equal(t, "text/html; charset=utf-8", w.Header().Get("Content-Type"))
	policy := w.Header().Get("Content-Security-Policy")
	require.Contains(t, policy, "default-src 'none'")
	require.NotContains(t, policy, "unsafe")
	require.Regexp(t, `style-src 'sha256-[^ ]+'; script-src 'sha256-[^ ]+'$`, policy)

	html := w.Body.String()
	require.Equal(t, 1, strings.Count(html, "<style"))
	require.Equal(t, 1, strings.Count(html, "<script"))
	for _, forbidden := range []string{`\sstyle=`, `<[^>]+\son\w+=`, `https?://`, `innerHTML|outerHTML|insertAdjacentHTML|document\.write`, `\beval\(`} {
		require.NotRegexp(t, forbidden, html)
	}
	require.Equal(t, "no-referrer", w.Header().Get("Referrer-Policy"))
	require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
}

func TestTheScriptAsksOnlyForWhatThePageHas(t *testing.T) {
	html := string(pageHTML)
	for _, used := range regexp.MustCompile(`\$\("(\w+)"\)`).FindAllStringSubmatch(html, -1) {
		require.Contains(t, html, ` id="`+used[1]+`"`, used[1])
	}
}
