#include <stddef.h>

// adam_squares is the sum of a gradient's.
double adam_squares(const float *g, size_t n);

// What adam_update is told of a step; see learning.update.
typedef struct { float scale, beta1, beta2, eps, decay, rate, root; } adam_step;

// adam_update updates a parameter w and its moments by n numbers of a gradient, which it clears.
void adam_update(float *restrict w, float *restrict m, float *restrict v, float *restrict g, size_t n, adam_step o);
