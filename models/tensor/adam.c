#include <math.h>

#include "adam.h"

// Of a large item table the passes over memory are what a step waits for, and each
// operation of libtorch is one: as those, Adam is 22 reads and writes of a table. Here it is
// seven, in the widest registers that the processor has.
#define WIDEST __attribute__((target_clones("avx512f", "avx2", "default"), optimize("O3", "no-math-errno", "no-trapping-math")))

enum { lanes = 16, block = 4096 };

WIDEST double adam_squares(const float *g, size_t n) {
	double sum = 0;
	for (size_t at = 0; at < n; at += block) {
		size_t end = at + block < n ? at + block : n, i = at;
		float lane[lanes] = {0};
		for (; i + lanes <= end; i += lanes)
			for (int k = 0; k < lanes; k++) lane[k] += g[i + k] * g[i + k];
		for (; i < end; i++) lane[0] += g[i] * g[i];
		for (int k = 0; k < lanes; k++) sum += lane[k];
	}
	return sum;
}

WIDEST void adam_update(float *restrict w, float *restrict m, float *restrict v, float *restrict g, size_t n, adam_step o) {
	for (size_t i = 0; i < n; i++) {
		float x = g[i] * o.scale;
		float first = m[i] + (1 - o.beta1) * (x - m[i]), second = v[i] + (1 - o.beta2) * (x * x - v[i]);
		m[i] = first;
		v[i] = second;
		w[i] -= w[i] * o.decay + o.rate * first / (sqrtf(second) * o.root + o.eps);
		g[i] = 0;
	}
}
