package tensor

/*
#include <limits.h>
#include <malloc.h>
#include <stdlib.h>

// libtorch allocates its tensors by malloc, and by default glibc maps each large one
// anew and gives it back: a step writes to fresh pages again and again. Where what was
// freed is kept, it meets a third of the page faults.
static void keep_memory(void) {
	mallopt(M_MMAP_MAX, 0);
	mallopt(M_TRIM_THRESHOLD, INT_MAX);
	mallopt(M_TOP_PAD, 64 << 20);
}

// at::set_num_threads(int) and at::get_num_threads() of libtorch, which libtch
// does not wrap.
extern void _ZN2at15set_num_threadsEi(int n);
extern int _ZN2at15get_num_threadsEv(void);

// at::globalContext().setFlushDenormal(bool), likewise.
extern void *_ZN2at13globalContextEv(void);
extern _Bool _ZN2at7Context16setFlushDenormalEb(void *context, _Bool on);
*/
import "C"

import (
	"sync"
	"unsafe"

	lib "github.com/sugarme/gotch/libtch"
)

// keepMemory is of the process, once.
var keepMemory = sync.OnceFunc(func() { C.keep_memory() })

var settingThreads sync.Mutex

// setThreads sets the intra-op threads of the calling OS thread. libtorch keeps
// the number per OS thread, but a thread's first question replaces it by the last
// one set in the process: so it is asked here, before another thread sets its own.
func setThreads(n int) {
	settingThreads.Lock()
	defer settingThreads.Unlock()
	C._ZN2at15set_num_threadsEi(C.int(n))
	_ = threads()
}

// flushDenormals has the calling OS thread take numbers below 1e-38 for 0, where its
// processor can. What decays and is never fed again (the moments of a filter that no
// longer answers) comes to them, and a step over them costs eight times as much.
func flushDenormals() { C._ZN2at7Context16setFlushDenormalEb(C._ZN2at13globalContextEv(), true) }

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
