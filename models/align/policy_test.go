package align

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// table is a policy small enough to enumerate: a softmax over 5 tokens with logits of
// its own for every beginning of a text.
type table struct {
	logits [][5]float64
	texts  []text
}

// text is one of all that the policy can write.
type text struct {
	tokens []int
	nodes  []int // logits that each token was drawn with
}

// newTable returns the policy over all texts of length tokens; with stop they end early
// after token 0.
func newTable(length int, stop bool, seed uint64) *table {
	p := &table{}
	r := rand.New(rand.NewPCG(seed, 7))
	var grow func(t text)
	grow = func(t text) {
		n := len(t.tokens)
		if n == length || stop && n > 0 && t.tokens[n-1] == 0 {
			p.texts = append(p.texts, t)
			return
		}
		node := len(p.logits)
		var logits [5]float64
		for i := range logits {
			logits[i] = 0.7 * r.NormFloat64()
		}
		p.logits = append(p.logits, logits)
		for token := range 5 {
			grow(text{append(slices.Clone(t.tokens), token), append(slices.Clone(t.nodes), node)})
		}
	}
	grow(text{})
	return p
}

// near returns a policy over the same texts whose logits differ by noise of that size.
func (p *table) near(size float64, seed uint64) *table {
	r := rand.New(rand.NewPCG(seed, 8))
	q := &table{slices.Clone(p.logits), p.texts}
	for n := range q.logits {
		for i := range q.logits[n] {
			q.logits[n][i] += size * r.NormFloat64()
		}
	}
	return q
}

func softmax(logits [5]float64) (p [5]float64) {
	top, sum := slices.Max(logits[:]), 0.0
	for i, l := range logits {
		p[i] = math.Exp(l - top)
		sum += p[i]
	}
	for i := range p {
		p[i] /= sum
	}
	return p
}

// logProbs of a text's tokens.
func (p *table) logProbs(t text) []float64 {
	out := make([]float64, len(t.tokens))
	for i, node := range t.nodes {
		out[i] = math.Log(softmax(p.logits[node])[t.tokens[i]])
	}
	return out
}

// probabilities of all texts.
func (p *table) probabilities() []float64 {
	out := make([]float64, len(p.texts))
	for i, t := range p.texts {
		out[i] = math.Exp(total(p.logProbs(t)))
	}
	return out
}

func total(x []float64) (sum float64) {
	for _, v := range x {
		sum += v
	}
	return sum
}

// score adds the gradient of sum_t c_t log pi(t) by the logits.
func (p *table) score(into []float64, t text, c []float32, weight float64) {
	for i, node := range t.nodes {
		for token, q := range softmax(p.logits[node]) {
			g := -q
			if token == t.tokens[i] {
				g++
			}
			into[5*node+token] += weight * float64(c[i]) * g
		}
	}
}

// gradient of a function of the policy, by differences: it shares nothing with what is
// tested.
func (p *table) gradient(f func() float64) []float64 {
	const h = 1e-5
	out := make([]float64, 5*len(p.logits))
	for n := range p.logits {
		for i := range p.logits[n] {
			was := p.logits[n][i]
			p.logits[n][i] = was + h
			up := f()
			p.logits[n][i] = was - h
			out[5*n+i] = (up - f()) / (2 * h)
			p.logits[n][i] = was
		}
	}
	return out
}

// marginal is log p(y|x) of Eq. 5.
func (p *table) marginal(rewards []float64) float64 { return math.Log(p.expected(rewards)) }

// expected reward.
func (p *table) expected(rewards []float64) (sum float64) {
	for i, q := range p.probabilities() {
		sum += q * rewards[i]
	}
	return sum
}

// kl is KL(pi || ref) of whole texts.
func (p *table) kl(ref *table) (sum float64) {
	for i, q := range p.probabilities() {
		sum += q * (math.Log(q) - total(ref.logProbs(p.texts[i])))
	}
	return sum
}

// rewards of all texts: probabilities that differ by a factor of e now and then.
func (p *table) rewards(seed uint64) []float64 {
	r := rand.New(rand.NewPCG(seed, 9))
	out := make([]float64, len(p.texts))
	for i := range out {
		out[i] = 0.02 * math.Exp(0.8*r.NormFloat64())
	}
	return out
}

// world is what a sample is made of.
type world struct {
	policy, behaviour, reference *table
	rewards                      []float64
	base                         float64
	all                          []Candidate
}

func newWorld(policy, behaviour, reference *table, rewards []float64) *world {
	w := &world{policy: policy, behaviour: behaviour, reference: reference, rewards: rewards}
	for i, t := range policy.texts {
		w.all = append(w.all, Candidate{rewards[i], len(t.tokens), float32s(policy.logProbs(t)), float32s(behaviour.logProbs(t)), float32s(reference.logProbs(t))})
	}
	return w
}

func float32s(x []float64) []float32 {
	out := make([]float32, len(x))
	for i, v := range x {
		out[i] = float32(v)
	}
	return out
}

func (w *world) sample(texts ...int) Sample {
	s := Sample{Base: w.base}
	for _, i := range texts {
		s.Candidates = append(s.Candidates, w.all[i])
	}
	return s
}

// estimate of the gradient from one tuple of texts.
func (w *world) estimate(t testing.TB, o Options, d Deviation, into []float64, weight float64, texts ...int) {
	t.Helper()
	r, err := Coefficients([]Sample{w.sample(texts...)}, o, d)
	if err != nil {
		require.NoError(t, err)
	}
	for i, n := range texts {
		w.policy.score(into, w.policy.texts[n], r.Coefficients[0][i], weight)
	}
}

// expectation of the estimate over all tuples of k texts of the behaviour policy.
func (w *world) expectation(t testing.TB, o Options, d Deviation, k int) []float64 {
	t.Helper()
	out := make([]float64, 5*len(w.policy.logits))
	mu := w.behaviour.probabilities()
	var each func(texts []int, p float64)
	each = func(texts []int, p float64) {
		if len(texts) == k {
			w.estimate(t, o, d, out, p, texts...)
			return
		}
		for i := range mu {
			each(append(texts, i), p*mu[i])
		}
	}
	each(make([]int, 0, k), 1)
	return out
}

func norm(g []float64) (sum float64) {
	for _, v := range g {
		sum += v * v
	}
	return math.Sqrt(sum)
}

func scaled(g []float64, by float64) []float64 {
	out := make([]float64, len(g))
	for i, v := range g {
		out[i] = by * v
	}
	return out
}

func minus(a, b []float64) []float64 {
	out := make([]float64, len(a))
	for i := range a {
		out[i] = a[i] - b[i]
	}
	return out
}

// exactly requires that the largest difference is 1e-4, and far below the gradient's
// size: an estimate of zero would not do.
func exactly(t *testing.T, want, got []float64) {
	t.Helper()
	require.Greater(t, norm(want), 5e-3)
	require.InDeltaSlice(t, want, got, 1e-4)
	require.Less(t, norm(minus(want, got)), 1e-3*norm(want))
}
