// Force-included before gotch's C++ layer (see native.py). gotch v0.9.1 was
// written for libtorch 2.1; three functions it wraps changed their signature
// later. Nothing in SeRALM calls them, so they are replaced by ones that say so.
#pragma once
#ifdef __cplusplus
#include <torch/torch.h>
namespace torch {
[[noreturn]] inline void seralm_changed(const char *name) {
  throw std::runtime_error(std::string(name) + ": signature changed after libtorch 2.1");
}
inline at::Tensor _cslt_sparse_mm(const at::Tensor &, const at::Tensor &, const at::Tensor &, bool) {
  seralm_changed("_cslt_sparse_mm");
}
template <class... A> std::tuple<at::Tensor, at::Tensor> _scaled_mm(A &&...) { seralm_changed("_scaled_mm"); }
template <class... A> std::tuple<at::Tensor, at::Tensor> _scaled_mm_out(A &&...) {
  seralm_changed("_scaled_mm_out");
}
} // namespace torch
#endif
