package tensor

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
*/
import "C"

import (
	"errors"

	lib "github.com/sugarme/gotch/libtch"
)

// openCUDA loads libtorch's CUDA half, which registers itself. The binary is
// linked without it, so that one build serves machines with and without a GPU.
func openCUDA() error {
	name := C.CString("libtorch_cuda.so")
	if C.dlopen(name, C.RTLD_NOW|C.RTLD_GLOBAL) == nil {
		return errors.New("device cuda: libtorch_cuda.so cannot be loaded (" + C.GoString(C.dlerror()) +
			"); build with SERALM_LIBTORCH pointing at a PyTorch that has CUDA, or set recommender.device to cpu")
	}
	if !lib.AtcCudaIsAvailable() {
		return errors.New("device cuda: libtorch finds no usable GPU; set recommender.device to cpu")
	}
	return nil
}
