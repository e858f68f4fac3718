package tensor

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdlib.h>
*/
import "C"

import (
	"fmt"
	"unsafe"

	lib "github.com/sugarme/gotch/libtch"
)

// openCUDA loads libtorch's CUDA half, which registers itself. The binary is
// linked without it, so that one build serves machines with and without a GPU.
// It runs on the thread that computes: dlerror is thread-local too.
func openCUDA(device int32) error {
	name := C.CString("libtorch_cuda.so")
	defer C.free(unsafe.Pointer(name))
	if C.dlopen(name, C.RTLD_NOW|C.RTLD_GLOBAL) == nil {
		return fmt.Errorf("device cuda:%d: libtorch_cuda.so cannot be loaded (%s); build with SERALM_LIBTORCH "+
			"pointing at a PyTorch that has CUDA, or set the device to cpu", device, C.GoString(C.dlerror()))
	}
	if n := lib.AtcCudaDeviceCount(); device >= n {
		return fmt.Errorf("device cuda:%d: libtorch sees %d GPUs; set the device to cpu or to one of them", device, n)
	}
	return nil
}
