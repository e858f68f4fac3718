package metrics

import "math"

// Spearman is the rank correlation of two lists of one length, -1 to 1. Equal values
// share the mean of their ranks; a list in which all are equal ranks nothing: 0.
func Spearman(a, b []float64) float64 {
	x, y := ranks(a), ranks(b)
	mean := float64(len(a)+1) / 2
	xy, xx, yy := 0.0, 0.0, 0.0
	for i := range x {
		dx, dy := x[i]-mean, y[i]-mean
		xy, xx, yy = xy+dx*dy, xx+dx*dx, yy+dy*dy
	}
	if xx == 0 || yy == 0 {
		return 0
	}
	return xy / math.Sqrt(xx*yy)
}

// ranks of few values: the lowest has 1.
func ranks(values []float64) []float64 {
	out := make([]float64, len(values))
	for i, v := range values {
		out[i] = 0.5
		for _, other := range values {
			if other < v {
				out[i]++
			} else if other == v { // v itself, too
				out[i] += 0.5
			}
		}
	}
	return out
}
