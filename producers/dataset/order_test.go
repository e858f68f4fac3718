package dataset

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// compact writes a stream as "user item seq".
func compact(d *Dataset) []string {
	var out []string
	for _, e := range d.Interactions(0) {
		out = append(out, fmt.Sprintf("%s %s %d", e.Body.User, e.Body.Item, e.Body.Seq))
	}
	return out
}

// timed writes a stream as "user item time".
func timed(d *Dataset) []string {
	var out []string
	for _, e := range d.Interactions(0) {
		out = append(out, fmt.Sprintf("%s %s %s", e.Body.User, e.Body.Item, e.Time.Format("2006-01-02 15:04:05.000")))
	}
	return out
}

func TestOrder(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
		want  []string
		check func(*testing.T, Summary)
	}{
		{
			name:  "by time across users, by line where times tie",
			files: map[string]string{"interactions.csv": "user,item,timestamp\na,x,20\na,y,10\nb,z,10\nb,w,10\n"},
			want:  []string{"a y 1970-01-01 00:00:10.000", "b z 1970-01-01 00:00:10.000", "b w 1970-01-01 00:00:10.000", "a x 1970-01-01 00:00:20.000"},
			check: func(t *testing.T, s Summary) { require.Equal(t, Original, s.Times) },
		},
		{
			name:  "a sequences file overrules ties",
			files: map[string]string{"ratings.dat": "1::a::5::10\n1::b::5::10\n2::c::5::10\n1::d::5::10\n", "sequences.txt": "1 d a b\n2 c\n"},
			want:  []string{"1 d 1970-01-01 00:00:10.000", "1 a 1970-01-01 00:00:10.000", "1 b 1970-01-01 00:00:10.000", "2 c 1970-01-01 00:00:10.000"},
			check: func(t *testing.T, s Summary) { require.Zero(t, s.Raised) },
		},
		{
			name:  "a sequences file overrules times, which are raised",
			files: map[string]string{"ratings.dat": "1::a::5::30\n1::b::5::10\n2::c::5::20\n", "sequences.txt": "1 a b\n2 c\n"},
			want:  []string{"2 c 1970-01-01 00:00:20.000", "1 a 1970-01-01 00:00:30.000", "1 b 1970-01-01 00:00:30.000"},
			check: func(t *testing.T, s Summary) { require.Equal(t, 1, s.Raised) },
		},
		{
			name:  "an item that a user has twice is taken in turn",
			files: map[string]string{"ratings.dat": "1::a::5::10\n1::b::4::20\n1::a::3::30\n", "sequences.txt": "1 a b a\n"},
			want:  []string{"1 a 1970-01-01 00:00:10.000", "1 b 1970-01-01 00:00:20.000", "1 a 1970-01-01 00:00:30.000"},
		},
		{
			name:  "positions only: a day each, users side by side",
			files: map[string]string{"interactions.csv": "user_id,item_id,position\n1,a,0\n1,b,1\n2,c,0\n2,d,1\n"},
			want:  []string{"1 a 2000-01-01 00:00:00.000", "2 c 2000-01-01 12:00:00.000", "1 b 2000-01-02 00:00:00.000", "2 d 2000-01-02 12:00:00.000"},
			check: func(t *testing.T, s Summary) { require.Equal(t, Synthetic, s.Times) },
		},
		{
			name:  "no time and no position: the file is the stream",
			files: map[string]string{"interactions.csv": "user,item\nb,x\na,y\nb,z\n"},
			want:  []string{"b x 2000-01-01 00:00:00.000", "a y 2000-01-01 00:00:01.000", "b z 2000-01-01 00:00:02.000"},
			check: func(t *testing.T, s Summary) { require.Equal(t, Synthetic, s.Times) },
		},
		{
			name: "missing times are spread between known ones, a minute apart outside",
			files: map[string]string{"interactions.csv": "user_id,item_id,position,timestamp\n" +
				"1,a,0,\n1,b,1,600\n1,c,2,\n1,d,3,700\n1,e,4,\n2,f,0,\n"},
			want: []string{
				"1 a 1970-01-01 00:09:00.000", "1 b 1970-01-01 00:10:00.000", "2 f 1970-01-01 00:10:00.000",
				"1 c 1970-01-01 00:10:50.000", "1 d 1970-01-01 00:11:40.000", "1 e 1970-01-01 00:12:40.000",
			},
			check: func(t *testing.T, s Summary) {
				require.Equal(t, Interpolated, s.Times)
				require.Equal(t, 4, s.Filled)
			},
		},
		{
			name:  "positions with gaps and repeats are taken as they come, and counted",
			files: map[string]string{"interactions.csv": "user_id,item_id,position\n1,c,7\n1,a,0\n1,b,0\n1,d,8\n"},
			want:  []string{"1 a 2000-01-01 00:00:00.000", "1 b 2000-01-01 00:00:00.000", "1 c 2000-01-08 00:00:00.000", "1 d 2000-01-09 00:00:00.000"},
			check: func(t *testing.T, s Summary) {
				require.Equal(t, 1, s.Gaps)
				require.Equal(t, 1, s.SamePosition)
			},
		},
		{
			name:  "events twice are counted and kept",
			files: map[string]string{"interactions.csv": "user,item,time,value\n1,a,5,1\n1,a,5,1\n1,a,5,2\n1,a,5,\n1,a,5,\n1,a,6,1\n"},
			want: []string{
				"1 a 1970-01-01 00:00:05.000", "1 a 1970-01-01 00:00:05.000", "1 a 1970-01-01 00:00:05.000",
				"1 a 1970-01-01 00:00:05.000", "1 a 1970-01-01 00:00:05.000", "1 a 1970-01-01 00:00:06.000",
			},
			check: func(t *testing.T, s Summary) { require.Equal(t, 2, s.Duplicates) },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := Open(t.Context(), Options{Path: write(t, c.files)})
			require.NoError(t, err)
			require.Equal(t, c.want, timed(d))
			requireStream(t, d)
			if c.check != nil {
				c.check(t, d.Summary())
			}
		})
	}
}

// Filling a run as long as a file may be, over the widest span, must not overflow.
func TestFillTimesOverTheWidestSpan(t *testing.T) {
	one := make([]event, 3_000_000)
	for i := range one {
		one[i].time = noTime
	}
	one[0].time, one[len(one)-1].time = 0, maxTime
	var s Summary
	fillTimes(one, 0, &s)
	for i := 1; i < len(one); i++ {
		if one[i].time < one[i-1].time {
			t.Fatalf("the time falls at %d", i)
		}
	}
	require.Equal(t, len(one)-2, s.Filled)
	require.InDelta(t, maxTime/2, one[len(one)/2].time, float64(time.Hour/time.Millisecond))
}

// Lists of items that somebody sorted are no sequences, whatever their positions say.
func TestAnOrderByIDIsNamed(t *testing.T) {
	table := func(descend int) string {
		var b strings.Builder
		b.WriteString("user_id,item_id,position\n")
		for u := range 40 {
			for k := range 5 {
				item := 10*k + u%10
				if u == descend && k == 3 {
					item = 5
				}
				fmt.Fprintf(&b, "u%d,i%03d,%d\n", u, item, k)
			}
		}
		return b.String()
	}
	byID := func(interactions string) bool {
		d, err := Open(t.Context(), Options{Path: write(t, map[string]string{"interactions.csv": interactions})})
		require.NoError(t, err)
		return d.Summary().ByID
	}
	require.True(t, byID(table(-1)))
	require.False(t, byID(table(7)))
	require.False(t, byID("user_id,item_id,position\na,i1,0\na,i2,1\n"), "of so few it may be chance")
}
