package loadtest

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/encoding/json"
	"github.com/stretchr/testify/require"
)

// known is a report whose every figure can be worked out by hand: 990 look-ups take
// 1 to 990 us, 10 fail, 100 events take 10 ms.
func known() Report {
	o := Defaults()
	o.Users, o.Duration = []string{"ann"}, 10*time.Second
	r := newRun(o, nil, nil)
	r.began = time.Date(2024, 7, 14, 12, 0, 0, 0, time.UTC)
	at := r.measuredFrom()
	for i := 1; i <= 990; i++ {
		a := arrival{planned: at, counted: true}
		r.rec.done(a, at.Add(time.Microsecond), at.Add(time.Duration(i)*time.Microsecond), outcome{source: "personalised"})
	}
	for range 10 {
		r.rec.done(arrival{planned: at, counted: true}, at.Add(2*time.Millisecond), at.Add(3*time.Millisecond), outcome{class: "status_503"})
	}
	for range 100 {
		r.rec.done(arrival{planned: at, kind: event, counted: true}, at, at.Add(10*time.Millisecond), outcome{})
	}
	r.rec.dropped(arrival{planned: at, kind: event, counted: true})
	rep := r.report(false, 0, []Second{newSecond(time.Second, &r.rec.tick)})
	rep.Generator = Generator{CPUSeconds: 1.5, Cores: 0.1, GOMAXPROCS: 2, Go: "go1.26"}
	return rep
}

func TestReportGoldens(t *testing.T) {
	rep := known()
	objectives, err := ParseSLO("lookups.p98=1ms,errors=0.1%")
	require.NoError(t, err)
	require.ErrorIs(t, rep.Check(objectives), ErrSLO)
	for name, write := range map[string]func(*bytes.Buffer) error{
		"report.hgrm": func(b *bytes.Buffer) error { return rep.WriteHGRM(b) },
		"report.json": func(b *bytes.Buffer) error { return rep.WriteJSON(b) },
		"report.txt":  func(b *bytes.Buffer) error { return rep.WriteText(b) },
	} {
		var b bytes.Buffer
		require.NoError(t, write(&b))
		golden(t, name, b.String())
	}
}

func TestObjectives(t *testing.T) {
	for text, met := range map[string]bool{
		"lookups.p50=501us":    true,
		"lookups.p50=499us":    false,
		"lookups.p99=1ms":      true,  // exactly the 990 of 1,000 that succeeded
		"lookups.p99.1=1h":     false, // falls among the failed, whatever the bound
		"lookups.max=1h":       false,
		"events.p99=10.1ms":    true, // 100 of 101 were sent
		"events.p99.9=1h":      false,
		"p50=1ms":              true,
		"errors=1%":            true, // 11 of 1,101
		"errors=0.99%":         false,
		"lookups.errors=0.01":  true,
		"events.errors=0.9%":   false,
		"late=1%":              true, // 10 of 1,101
		"late=0.5%":            false,
		"rps=109":              true, // 1,090 in 10 s
		"rps=110":              false,
		"lookups.rps=99":       true,
		"freshness.p50=10s":    false, // never measured
		" p50=1ms , errors=2%": true,
	} {
		rep := known()
		objectives, err := ParseSLO(text)
		require.NoError(t, err, text)
		if met {
			require.NoError(t, rep.Check(objectives), text)
		} else {
			require.ErrorIs(t, rep.Check(objectives), ErrSLO, text)
		}
	}
	empty := Report{}
	objectives, err := ParseSLO("p99=1s")
	require.NoError(t, err)
	require.ErrorIs(t, empty.Check(objectives), ErrSLO, "a run that measured nothing met nothing")
}

func TestObjectivesThatMakeNoSense(t *testing.T) {
	for text, want := range map[string]string{
		"p99":              "write NAME=BOUND",
		"p99=fast":         "not a duration",
		"p99=-1ms":         "not a duration above 0",
		"p0=1ms":           "not a percentile",
		"p101=1ms":         "not a percentile",
		"pNaN=1ms":         "not a percentile",
		"errors=lots":      "not a share",
		"errors=101%":      "not a share",
		"errors=NaN":       "not a share",
		"rps=-1":           "not a number of requests",
		"quality=good":     `there is no "quality"`,
		"freshness.rps=1":  "freshness has p50",
		"everybody.p9=1ms": `there is no "everybody.p9"`,
	} {
		_, err := ParseSLO(text)
		require.ErrorContains(t, err, want, text)
	}
}

func FuzzParseSLO(f *testing.F) {
	for _, text := range []string{"p99=2ms,errors=0.1%", "lookups.p99.9=1s", "max=1ms", "freshness.p50=10ms", "=", ",", "rps=1e9", "late=0x1p-2"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		objectives, err := ParseSLO(text)
		if err == nil {
			rep := Report{}
			_ = rep.Check(objectives) // must not panic on a report of nothing
		}
	})
}

func run1(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	cmd := Command()
	var out, errs bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	cmd.SetArgs(args)
	err = cmd.ExecuteContext(t.Context())
	return out.String(), errs.String(), err
}

func TestCommandMeasuresReportsAndSetsTheExitCode(t *testing.T) {
	dir := t.TempDir()
	base := []string{"--target", (&shop{}).start(t, nil), "--rate", "100", "--duration", "200ms", "--warmup", "0s", "--users", "5"}
	jsonFile, hgrm := filepath.Join(dir, "r.json"), filepath.Join(dir, "r.hgrm")
	out, _, err := run1(t, append(base, "--json", jsonFile, "--hgrm", hgrm, "--slo", "p50=5s,errors=0")...)
	require.NoError(t, err)
	require.Contains(t, out, "look-ups")
	require.Contains(t, out, "SLO p50=5s: met")
	written, err := os.ReadFile(jsonFile)
	require.NoError(t, err)
	var rep Report
	require.NoError(t, json.Unmarshal(written, &rep))
	require.EqualValues(t, 20, rep.All.OK)
	table, err := os.ReadFile(hgrm)
	require.NoError(t, err)
	require.Contains(t, string(table), "Percentile")

	out, text, err := run1(t, append(base, "--json", "-", "--slo", "p50=1ns")...)
	require.ErrorIs(t, err, ErrSLO)
	require.NoError(t, json.Unmarshal([]byte(out), &rep), "nothing but JSON on standard output")
	require.Contains(t, text, "SLO p50=1ns: missed")
}

func TestCommandRefusesWrongFlags(t *testing.T) {
	for want, args := range map[string]string{
		"--slo: objective":     "--slo p99",
		"--stages: stage":      "--stages 5",
		"--users: population":  "--users ann",
		"--items: population":  "--items ann",
		"rate 0":               "--rate 0",
		"not a loopback":       "--target http://8.8.8.8",
		"unknown flag: --rats": "--rats 5",
	} {
		_, _, err := run1(t, strings.Fields(args)...)
		require.ErrorContains(t, err, want)
	}
}
