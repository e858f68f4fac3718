package experiments

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"

	"seralm/models/prequential"
)

// line is one curve of a plot.
type line struct {
	name   string
	file   string
	points plotter.XYs
}

// Plot draws a metric of result files, svg or png by the format's name: the validation
// by epoch, as the mean over seeds for as long as all of them learnt, or the window of a
// prequential run by event.
func Plot(w io.Writer, format, metric string, paths ...string) error {
	if !slices.Contains(CurveMetrics, metric) {
		return fmt.Errorf("curves hold no %q; they hold %s", metric, strings.Join(CurveMetrics, ", "))
	}
	var lines []line
	axes := map[string]bool{}
	for _, path := range paths {
		of, axis, err := curves(path, metric)
		if err != nil {
			return err
		}
		axes[axis] = true
		for _, l := range of {
			l.file = filepath.Base(path)
			// Prequential runs of one data set and one length of history have their
			// references in common.
			if !slices.ContainsFunc(lines, func(m line) bool { return m.name == l.name && slices.Equal(m.points, l.points) }) {
				lines = append(lines, l)
			}
		}
	}
	if len(axes) > 1 {
		return errors.New("learning curves and prequential curves do not go into one plot: name files of one kind")
	}
	p := plot.New()
	p.Y.Label.Text = metric
	for axis := range axes {
		p.X.Label.Text = axis
	}
	p.Add(plotter.NewGrid())
	for i, l := range lines {
		drawn, err := plotter.NewLine(l.points)
		if err != nil {
			return fmt.Errorf("the curve %q: %w", l.name, err)
		}
		drawn.Width, drawn.Color = vg.Points(1.5), plotutil.Color(i)    //nolint:misspell // gonum's names
		drawn.Dashes = plotutil.Dashes(i / len(plotutil.DefaultColors)) // others when colours begin again
		p.Add(drawn)
		p.Legend.Add(l.legend(lines), drawn)
	}
	// The legend has room of its own, above the curves.
	p.Legend.Top, p.Legend.Left = true, true
	p.Y.Max += 0.06 * float64(len(lines)) * (p.Y.Max - p.Y.Min)
	out, err := p.WriterTo(18*vg.Centimeter, 11*vg.Centimeter, format) //nolint:misspell // gonum's names
	if err != nil {
		return fmt.Errorf("drawing: %w", err)
	}
	_, err = out.WriteTo(w)
	return err
}

// legend tells the line from others of its name.
func (l line) legend(among []line) string {
	if slices.ContainsFunc(among, func(m line) bool { return m.name == l.name && m.file != l.file }) {
		return l.name + " (" + l.file + ")"
	}
	return l.name
}

// curves reads the curves of a result file, whichever kind it is.
func curves(path, metric string) (lines []line, axis string, err error) {
	of, err := protocolOf(path)
	if err != nil {
		return nil, "", err
	}
	if of == PrequentialProtocol {
		r, err := ReadPrequential(path)
		return r.lines(metric), "events", err
	}
	r, err := ReadHoldout(path)
	if err != nil {
		return nil, "", err
	}
	for _, a := range r.Arms {
		if points := a.curve(metric); len(points) > 0 {
			lines = append(lines, line{name: r.Dataset + " " + a.Name, points: points})
		}
	}
	if len(lines) == 0 {
		err = fmt.Errorf("%s has no arm that learns in epochs", filepath.Base(path))
	}
	return lines, "epoch", err
}

// curve is the mean of a metric over seeds, while all of them learn.
func (a *ArmResult) curve(metric string) plotter.XYs {
	var out plotter.XYs
	for epoch := 0; ; epoch++ {
		sum := 0.0
		for _, run := range a.Runs {
			if epoch >= len(run.Curve) {
				return out
			}
			sum += run.Curve[epoch].Validation[metric]
		}
		if len(a.Runs) == 0 {
			return out
		}
		out = append(out, plotter.XY{X: float64(epoch + 1), Y: sum / float64(len(a.Runs))})
	}
}

// lines are the windows of each arm.
func (r PrequentialResult) lines(metric string) []line {
	value := map[string]func(prequential.Summary) float64{
		"hit@10":         func(s prequential.Summary) float64 { return s.Hit10 },
		"ndcg@10":        func(s prequential.Summary) float64 { return s.NDCG10 },
		"masked_hit@10":  func(s prequential.Summary) float64 { return s.MaskedHit10 },
		"masked_ndcg@10": func(s prequential.Summary) float64 { return s.MaskedNDCG10 },
		logP:             func(s prequential.Summary) float64 { return s.LogP },
	}[metric]
	var out []line
	for _, arm := range r.Order {
		l := line{name: r.Dataset + " " + arm}
		for _, p := range r.Curve {
			l.points = append(l.points, plotter.XY{X: float64(p.Events), Y: value(p.Arms[arm])})
		}
		out = append(out, l)
	}
	return out
}
