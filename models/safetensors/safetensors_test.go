package safetensors

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func sample() []Named {
	return []Named{
		{"b", F32, []int64{2, 2}, FromFloat32s([]float32{1, -2, 3.5, 0})},
		{"a", I64, []int64{}, []byte{1, 2, 3, 4, 5, 6, 7, 8}},
		{"empty", U8, []int64{0, 3}, []byte{}},
	}
}

func TestWhatIsEncodedDecodes(t *testing.T) {
	file, err := Encode(sample(), map[string]string{"step": "3"})
	require.NoError(t, err)
	got, meta, err := Decode(file)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"step": "3"}, meta)
	require.Equal(t, []string{"a", "b", "empty"}, []string{got[0].Name, got[1].Name, got[2].Name})
	values, err := got[1].Float32s()
	require.NoError(t, err)
	require.Equal(t, []float32{1, -2, 3.5, 0}, values)
	require.Zero(t, (8+binary.LittleEndian.Uint64(file))%8, "data is aligned")
}

func TestBytesDependOnContentsAlone(t *testing.T) {
	s := sample()
	a, err := Encode(s, nil)
	require.NoError(t, err)
	s[0], s[2] = s[2], s[0]
	b, err := Encode(s, nil)
	require.NoError(t, err)
	require.Equal(t, a, b)
}

func TestHalfFloats(t *testing.T) {
	for bits, want := range map[uint16]float32{
		0x3c00: 1, 0xc000: -2, 0x0000: 0, 0x7bff: 65504, 0x0400: 6.103515625e-05, 0x0001: 5.9604645e-08, 0x3555: 0.33325195,
	} {
		require.Equal(t, want, half(bits))
	}
	require.True(t, math.IsInf(float64(half(0xfc00)), -1))
	require.True(t, math.IsNaN(float64(half(0x7e00))))
	v, err := Named{DType: BF16, Data: []byte{0x80, 0x3f}}.Float32s()
	require.NoError(t, err)
	require.Equal(t, []float32{1}, v)
}

func file(header string, data string) []byte {
	out := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(out, header...), data...)
}

func TestHostileFilesAreRefusedByName(t *testing.T) {
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"too short":       {[]byte{1, 2}, "too few"},
		"endless header":  {binary.LittleEndian.AppendUint64(nil, math.MaxUint64), "header of"},
		"no JSON":         {file("{", ""), "header"},
		"out of range":    {file(`{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, "1234"), `tensor "w"`},
		"negative":        {file(`{"w":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}`, "1234"), `tensor "w"`},
		"wrong size":      {file(`{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}`, "1234"), `tensor "w"`},
		"overflow":        {file(`{"w":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}`, ""), "impossible"},
		"negative shape":  {file(`{"w":{"dtype":"F32","shape":[-1],"data_offsets":[0,0]}}`, ""), "impossible"},
		"unknown type":    {file(`{"w":{"dtype":"F8","shape":[1],"data_offsets":[0,1]}}`, "1"), `"F8"`},
		"overlap":         {file(`{"v":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"w":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}`, "123"), "overlap"},
		"unowned data":    {file(`{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, "123"), "belong to no tensor"},
		"trailing header": {file(`{} {}`, ""), "follows"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := Decode(c.file)
			require.ErrorIs(t, err, ErrFormat)
			require.ErrorContains(t, err, c.want)
		})
	}
}

func FuzzDecode(f *testing.F) {
	good, err := Encode(sample(), map[string]string{"k": "v"})
	require.NoError(f, err)
	f.Add(good)
	f.Add(file(`{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, "1234"))
	f.Fuzz(func(t *testing.T, b []byte) {
		tensors, meta, err := Decode(b)
		if err != nil {
			return
		}
		again, err := Encode(tensors, meta)
		require.NoError(t, err)
		back, _, err := Decode(again)
		require.NoError(t, err)
		require.Len(t, back, len(tensors))
	})
}
