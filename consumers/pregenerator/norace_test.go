//go:build !race

package pregenerator

const racing = false
