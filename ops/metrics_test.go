package ops

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metricsql"
	"github.com/segmentio/encoding/json"
	"github.com/stretchr/testify/require"
)

// metric is one line of metrics.txt.
type metric struct {
	kind   string
	labels []string
}

func metrics(t *testing.T) map[string]metric {
	t.Helper()
	list := map[string]metric{}
	for line := range strings.Lines(string(read(t, "metrics.txt"))) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		require.GreaterOrEqual(t, len(words), 2, line)
		require.NotContains(t, list, words[0])
		require.Contains(t, []string{"counter", "gauge", "histogram"}, words[1], line)
		require.Equal(t, words[1] == "counter", strings.HasSuffix(words[0], "_total"), "%s: counters, and they alone, end in _total", words[0])
		list[words[0]] = metric{words[1], words[2:]}
	}
	return list
}

// use checks a PromQL expression against the list of metrics: that all exist and have
// the labels asked for, and that counters are read as rates.
func use(t *testing.T, list map[string]metric, expr, where string) {
	t.Helper()
	parsed, err := metricsql.Parse(strings.ReplaceAll(expr, "$__rate_interval", "5m"))
	require.NoError(t, err, where)
	overTime := map[string]bool{"rate": true, "increase": true}
	var walk func(e metricsql.Expr, rated bool)
	walk = func(e metricsql.Expr, rated bool) {
		switch e := e.(type) {
		case *metricsql.FuncExpr:
			for _, a := range e.Args {
				walk(a, rated || overTime[e.Name])
			}
		case *metricsql.AggrFuncExpr:
			for _, a := range e.Args {
				walk(a, rated)
			}
		case *metricsql.BinaryOpExpr:
			// "x unless x offset 15m" asks which series are new, not how high they are.
			walk(e.Left, rated || e.Op == "unless")
			walk(e.Right, rated || e.Op == "unless")
		case *metricsql.RollupExpr:
			walk(e.Expr, rated)
		case *metricsql.MetricExpr:
			require.Len(t, e.LabelFilterss, 1, where)
			checkSelector(t, list, e.LabelFilterss[0], rated, where)
		case *metricsql.NumberExpr, *metricsql.StringExpr, *metricsql.DurationExpr:
		default:
			t.Fatalf("%s: %T in %q is not understood by this test", where, e, expr)
		}
	}
	walk(parsed, false)
}

func checkSelector(t *testing.T, list map[string]metric, filters []metricsql.LabelFilter, rated bool, where string) {
	t.Helper()
	require.Equal(t, "__name__", filters[0].Label, where)
	name := filters[0].Value
	m, ok := list[name]
	if base, bucket := strings.CutSuffix(name, "_bucket"); bucket {
		m, ok = list[base]
		require.Equal(t, "histogram", m.kind, "%s: %s", where, name)
	}
	require.True(t, ok, "%s: no metric is called %s; metrics.txt lists them", where, name)
	require.True(t, rated || m.kind == "gauge", "%s: %s only ever rises; take its rate", where, name)
	for _, f := range filters[1:] {
		require.Contains(t, append([]string{"job", "instance"}, m.labels...), f.Label, "%s: %s", where, name)
	}
}

type rule struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func alerts(t *testing.T) []rule {
	t.Helper()
	var doc struct {
		Groups []struct{ Rules []rule }
	}
	parse(t, &doc, "prometheus/alerts.yml")
	var all []rule
	for _, g := range doc.Groups {
		all = append(all, g.Rules...)
	}
	require.NotEmpty(t, all)
	return all
}

func TestAlertsReadMetricsThatExistAndSayWhatToDo(t *testing.T) {
	list := metrics(t)
	runbook := string(read(t, root, "docs/OPERATIONS.md"))
	var names []string
	for _, a := range alerts(t) {
		use(t, list, a.Expr, a.Alert)
		require.Contains(t, []string{"page", "ticket"}, a.Labels["severity"], a.Alert)
		require.NotEmpty(t, a.Annotations["summary"], a.Alert)
		require.Equal(t, "docs/OPERATIONS.md#"+strings.ToLower(a.Alert), a.Annotations["runbook"], a.Alert)
		require.Contains(t, runbook, "\n### "+a.Alert+"\n", "the runbook has no section on %s", a.Alert)
		require.NotContains(t, names, a.Alert)
		names = append(names, a.Alert)
	}
	for _, m := range regexp.MustCompile(`(?m)^### (Seralm\w+)$`).FindAllStringSubmatch(runbook, -1) {
		require.Contains(t, names, m[1], "the runbook explains an alert that is gone")
	}
}

func TestEveryAlertHasAStoryInWhichItFiresAndOneInWhichItDoesNot(t *testing.T) {
	var doc struct {
		Tests []struct {
			Checks []struct {
				Alert  string           `yaml:"alertname"`
				Expect []map[string]any `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	parse(t, &doc, "prometheus/alerts_test.yml")
	fires, rests := map[string]bool{}, map[string]bool{}
	for _, story := range doc.Tests {
		for _, c := range story.Checks {
			if len(c.Expect) > 0 {
				fires[c.Alert] = true
			} else {
				rests[c.Alert] = true
			}
		}
	}
	for _, a := range alerts(t) {
		require.True(t, fires[a.Alert], "%s never fires", a.Alert)
		require.True(t, rests[a.Alert], "%s never rests", a.Alert)
	}
}

type panel struct {
	ID      int    `json:"id"`
	Type    string `json:"type"`
	Title   string `json:"title"`
	GridPos struct{ H, W, X, Y int }
	Targets []struct {
		Expr       string `json:"expr"`
		Datasource struct {
			UID string `json:"uid"`
		} `json:"datasource"`
	} `json:"targets"`
}

func TestDashboardShowsMetricsThatExist(t *testing.T) {
	var doc struct {
		UID    string  `json:"uid"`
		Panels []panel `json:"panels"`
	}
	require.NoError(t, json.Unmarshal(read(t, "grafana/dashboards/seralm.json"), &doc))
	require.Equal(t, "seralm", doc.UID)
	list := metrics(t)
	var rows []string
	taken, ids := map[[2]int]string{}, map[int]bool{}
	for _, p := range doc.Panels {
		require.False(t, ids[p.ID], "%s: its id is taken", p.Title)
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				require.Empty(t, taken[[2]int{x, y}], "%s lies on another panel", p.Title)
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			rows = append(rows, p.Title)
			continue
		}
		require.NotEmpty(t, p.Targets, p.Title)
		for _, q := range p.Targets {
			require.Equal(t, "${datasource}", q.Datasource.UID, p.Title)
			use(t, list, q.Expr, p.Title)
		}
	}
	require.Equal(t, []string{"Now", "Traffic", "Latency", "Learning", "Freshness", "Knowledge", "Health", "Alignment"}, rows)
}

// A metric that nobody looks at is either missing from the dashboard or not worth
// its memory.
func TestEveryMetricOfOursIsLookedAt(t *testing.T) {
	seen := string(read(t, "grafana/dashboards/seralm.json"))
	for _, a := range alerts(t) {
		seen += a.Expr
	}
	for name := range metrics(t) {
		require.Contains(t, seen, name)
	}
}

func TestPrometheusScrapesTheRolesThatAlertsSpeakOf(t *testing.T) {
	var doc struct {
		ScrapeConfigs []struct {
			Job string `yaml:"job_name"`
			DNS []struct {
				Names []string
				Port  int
			} `yaml:"dns_sd_configs"`
		} `yaml:"scrape_configs"`
	}
	parse(t, &doc, "prometheus/prometheus.yml")
	services := compose(t).ServiceNames()
	var jobs []string
	for _, s := range doc.ScrapeConfigs {
		jobs = append(jobs, s.Job)
		for _, d := range s.DNS {
			require.Subset(t, services, d.Names)
			require.Equal(t, 8080, d.Port)
		}
	}
	for _, a := range alerts(t) {
		for _, m := range regexp.MustCompile(`job=~?"([^"]+)"`).FindAllStringSubmatch(a.Expr, -1) {
			for job := range strings.SplitSeq(m[1], "|") {
				require.True(t, slices.Contains(jobs, job), "%s: nothing scrapes job %s", a.Alert, job)
			}
		}
	}
}
