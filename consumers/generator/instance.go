package generator

// Instance is one prediction problem of the stream: what a user had taken, and took
// next (the paper's (x, y)), in rows of the sampler's own vocabulary.
type Instance struct {
	user string
	x    []int32
	y    int32
	at   place
}

// place is where a record is.
type place struct {
	partition int32
	offset    int64
}
