package tensor

/*
#include <stdint.h>
#include <stdlib.h>
// Defined in gotch's C++ layer, but not wrapped by libtch.
extern void at_manual_seed(int64_t seed);
// at::set_num_threads(int) and at::get_num_threads() of libtorch.
extern void _ZN2at15set_num_threadsEi(int n);
extern int _ZN2at15get_num_threadsEv(void);
*/
import "C"

import (
	"unsafe"

	lib "github.com/sugarme/gotch/libtch"
)

func manualSeed(seed uint64) { C.at_manual_seed(C.int64_t(seed)) }

func setThreads(n int) { C._ZN2at15set_num_threadsEi(C.int(n)) }

func threads() int { return int(C._ZN2at15get_num_threadsEv()) }

// lastError returns and clears libtorch's error of this thread.
func lastError() string {
	p := lib.GetAndResetLastErr()
	if p == nil {
		return ""
	}
	s := C.GoString((*C.char)(unsafe.Pointer(p)))
	C.free(unsafe.Pointer(p))
	return s
}
