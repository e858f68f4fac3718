package dataset

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParseTime(t *testing.T) {
	for _, c := range []struct {
		field  string
		format TimeFormat
		want   string // empty: refused
	}{
		{"964982703", Seconds, "2000-07-30T18:45:03Z"},
		{"964982703", "", "2000-07-30T18:45:03Z"},
		{"964982703.25", Seconds, "2000-07-30T18:45:03.25Z"},
		{"9.64982703e8", "", "2000-07-30T18:45:03Z"},
		{"964982703123", Milliseconds, "2000-07-30T18:45:03.123Z"},
		{"964982703123456", Microseconds, "2000-07-30T18:45:03.123Z"},
		{"964982703123456789", Nanoseconds, "2000-07-30T18:45:03.123Z"},
		{"2015-04-30T22:01:59.5+02:00", RFC3339, "2015-04-30T20:01:59.5Z"},
		{"2015-04-30 22:01:59", DateTime, "2015-04-30T22:01:59Z"},
		{"2015-04-30", Date, "2015-04-30T00:00:00Z"},
		{"0", Seconds, "1970-01-01T00:00:00Z"},
		{"4102444800", Seconds, "2100-01-01T00:00:00Z"},
		{"4102444801", Seconds, ""}, {"-1", Seconds, ""}, {"-0.1", Seconds, ""}, {"", Seconds, ""}, {"NaN", Seconds, ""},
		{"Inf", Seconds, ""}, {"1e999", Seconds, ""}, {"9223372036854775807", Seconds, ""}, {"1 ", Seconds, ""},
		{"1950-01-01", Date, ""}, {"964982703", Date, ""}, {"2015-04-30", Seconds, ""},
	} {
		ms, f := parseTime([]byte(c.field), c.format)
		if c.want == "" {
			require.NotNil(t, f, c.field)
			require.NotEmpty(t, f.remedy)
			continue
		}
		require.Nil(t, f, c.field)
		require.Equal(t, c.want, time.UnixMilli(ms).UTC().Format(time.RFC3339Nano))
	}
}

func TestParseValue(t *testing.T) {
	for field, want := range map[string]float64{"5": 5, "3.5": 3.5, "-1": -1, "1e3": 1000, "0": 0} {
		got, f := parseValue([]byte(field))
		require.Nil(t, f)
		require.Equal(t, want, got)
	}
	none, f := parseValue(nil)
	require.Nil(t, f)
	require.True(t, math.IsNaN(none))
	for _, field := range []string{"NaN", "Inf", "1e10", "1e999", "x", "5 ", "0x"} {
		_, f := parseValue([]byte(field))
		require.NotNil(t, f, field)
	}
}

func FuzzFields(f *testing.F) {
	for _, s := range []string{"964982703", "-5", "1e9", "NaN", "2015-04-30", "3.5", "", "99999999999999999999"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, field []byte) {
		for _, format := range []TimeFormat{"", Seconds, Milliseconds, Microseconds, Nanoseconds, RFC3339, DateTime, Date} {
			if ms, f := parseTime(field, format); f == nil {
				require.True(t, ms >= 0 && ms <= maxTime, "%d", ms)
			}
		}
		if x, f := parseValue(field); f == nil {
			require.True(t, math.IsNaN(x) == (len(field) == 0) && !(math.Abs(x) > MaxValue))
		}
		_, _ = parsePosition(field)
	})
}
