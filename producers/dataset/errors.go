package dataset

import (
	"fmt"
	"strconv"
	"strings"
)

// FormatError says what is wrong with a file, where, and what to do about it.
type FormatError struct {
	File   string // as it was opened
	Line   int    // from 1; 0 = the file as a whole
	Column int    // field of the line, from 1; 0 = the line as a whole
	Name   string // of the column, where it has one
	What   string
	Remedy string
	Err    error // the cause, where there is one
}

func (e *FormatError) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		b.WriteString(":" + strconv.Itoa(e.Line))
	}
	b.WriteString(": ")
	switch {
	case e.Column > 0 && e.Name != "":
		fmt.Fprintf(&b, "column %d (%s): ", e.Column, e.Name)
	case e.Column > 0:
		fmt.Fprintf(&b, "column %d: ", e.Column)
	}
	b.WriteString(e.What)
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	if e.Remedy != "" {
		b.WriteString(" (" + e.Remedy + ")")
	}
	return b.String()
}

func (e *FormatError) Unwrap() error { return e.Err }

// quote shows the beginning of what a file holds: a damaged file can hold anything.
func quote[T string | []byte](s T) string {
	const most = 48
	if len(s) > most {
		return strconv.Quote(string(s[:most])) + "..."
	}
	return strconv.Quote(string(s))
}
