package dataset

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// TimeFormat is how a time column is written.
type TimeFormat string

const (
	Seconds      TimeFormat = "s" // Unix time; a fraction is allowed
	Milliseconds TimeFormat = "ms"
	Microseconds TimeFormat = "us"
	Nanoseconds  TimeFormat = "ns"
	RFC3339      TimeFormat = "rfc3339"
	DateTime     TimeFormat = "datetime" // 2006-01-02 15:04:05, UTC
	Date         TimeFormat = "date"     // 2006-01-02, UTC
)

// maxTime is the latest time that is believed, in ms: the year 2100. A time in
// another unit than was said lies far beyond it.
const maxTime = 4102444800_000

// MaxValue bounds what is believed of a value (a rating, a price, a count).
const MaxValue = 1e9

// fault is what is wrong with a field.
type fault struct{ what, remedy string }

// parseTime returns the time in a field, in ms since 1970.
func parseTime(field []byte, format TimeFormat) (int64, *fault) {
	switch format {
	case "":
		format = Seconds
	case RFC3339:
		return parseCalendar(field, time.RFC3339Nano, "2015-04-30T22:01:59Z")
	case DateTime:
		return parseCalendar(field, time.DateTime, "2015-04-30 22:01:59")
	case Date:
		return parseCalendar(field, time.DateOnly, "2015-04-30")
	}
	var ms int64
	if n, ok := atoi(field); ok {
		switch format {
		case Milliseconds:
			ms = n
		case Microseconds:
			ms = n / 1e3
		case Nanoseconds:
			ms = n / 1e6
		default:
			ms = min(n, maxTime) * 1e3 // the bound is exceeded either way, and nothing overflows
		}
	} else {
		x, err := strconv.ParseFloat(string(field), 64)
		if err != nil || math.IsNaN(x) {
			return 0, &fault{quote(field) + " is not a number", "a time is Unix seconds unless its format is said: ms, us, ns, rfc3339, datetime or date"}
		}
		ms = int64(math.Floor(max(-1, min(x*unit(format), maxTime+1))))
	}
	if ms < 0 || ms > maxTime {
		return 0, &fault{fmt.Sprintf("%s is not a time between 1970 and 2100 in %q", quote(field), format), remedyUnit(field)}
	}
	return ms, nil
}

// unit returns how many ms a numeric format counts in.
func unit(format TimeFormat) float64 {
	switch format {
	case Milliseconds:
		return 1
	case Microseconds:
		return 1e-3
	case Nanoseconds:
		return 1e-6
	}
	return 1e3
}

// remedyUnit guesses in which unit a number is a time of our days.
func remedyUnit(field []byte) string {
	x, err := strconv.ParseFloat(string(field), 64)
	if err == nil {
		for _, format := range []TimeFormat{Seconds, Milliseconds, Microseconds, Nanoseconds} {
			if ms := x * unit(format); ms > 3e11 && ms <= maxTime { // 1979..2100
				return fmt.Sprintf("in %q it is %s: set the time's format to that", format, time.UnixMilli(int64(ms)).UTC().Format(time.DateOnly))
			}
		}
	}
	return "correct or remove the line"
}

func parseCalendar(field []byte, layout, example string) (int64, *fault) {
	t, err := time.Parse(layout, string(field))
	if err != nil {
		return 0, &fault{fmt.Sprintf("%s is not a time like %s", quote(field), example), "correct it, or set the time's format"}
	}
	if ms := t.UnixMilli(); ms >= 0 && ms <= maxTime {
		return ms, nil
	}
	return 0, &fault{quote(field) + " is not between the years 1970 and 2100", "correct or remove the line"}
}

// parseValue returns the number in a field; an empty one has none (NaN).
func parseValue(field []byte) (float64, *fault) {
	if len(field) == 0 {
		return math.NaN(), nil
	}
	if len(field) == 1 && field[0] >= '0' && field[0] <= '9' {
		return float64(field[0] - '0'), nil
	}
	x, err := strconv.ParseFloat(string(field), 64)
	switch {
	case err != nil && !math.IsInf(x, 0):
		return 0, &fault{quote(field) + " is not a number", "correct it, or leave the value column out of the mapping"}
	case math.IsNaN(x):
		return 0, &fault{"the value is NaN", "correct it, or leave the field empty where there is none"}
	case math.Abs(x) > MaxValue:
		return 0, &fault{fmt.Sprintf("the value %s is larger than %g", quote(field), MaxValue), "is this the value column? Correct the line or the mapping"}
	}
	return x, nil
}

// parsePosition returns a place in a user's sequence, from 0.
func parsePosition(field []byte) (uint32, *fault) {
	n, ok := atoi(field)
	if !ok || n < 0 || n > math.MaxUint32 {
		return 0, &fault{quote(field) + " is not a position: 0, 1, 2, ...", "correct it, or leave the position column out of the mapping"}
	}
	return uint32(n), nil
}

// atoi reads a plain integer of up to 18 digits.
func atoi(b []byte) (n int64, ok bool) {
	digits := b
	if len(digits) > 0 && digits[0] == '-' {
		digits = digits[1:]
	}
	if len(digits) == 0 || len(digits) > 18 {
		return 0, false
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	if len(digits) < len(b) {
		n = -n
	}
	return n, true
}
