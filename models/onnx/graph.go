package onnx

import (
	"encoding/binary"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	pb "seralm/models/onnx/internal/onnxpb"
	"seralm/models/safetensors"
	"seralm/models/snapshot"
)

// Opset 17 is the first with LayerNormalization; IR 8 goes with it.
const (
	opset     = 17
	irVersion = 8
)

// Names of a graph's inputs, and of the output that it has.
const (
	inputHistory = "history" // int64 [1, T], 1 <= T <= MaxLen, rows, oldest first
	inputItems   = "items"   // float32 [R, d]
	outputScores = "scores"  // float32 [1, R], of a Scorer
	outputUser   = "user"    // float32 [1, d], of Users
)

// graph builds a GraphProto. Nodes are added in the order of evaluation; each add
// returns the name of its output.
type graph struct {
	proto   *pb.GraphProto
	weights map[string]snapshot.Tensor
	n       int
	err     error // the first
}

func newGraph(name string, weights map[string]snapshot.Tensor) *graph {
	return &graph{proto: &pb.GraphProto{Name: proto.String(name)}, weights: weights}
}

// node adds an operator with one output.
func (g *graph) node(op string, inputs []string, attrs ...*pb.AttributeProto) string {
	return g.nodes(op, inputs, 1, attrs...)[0]
}

func (g *graph) nodes(op string, inputs []string, outputs int, attrs ...*pb.AttributeProto) []string {
	names := make([]string, outputs)
	for i := range names {
		g.n++
		names[i] = fmt.Sprintf("%s_%d", op, g.n)
	}
	g.proto.Node = append(g.proto.Node, &pb.NodeProto{OpType: proto.String(op), Name: proto.String(names[0]), Input: inputs, Output: names, Attribute: attrs})
	return names
}

// length is the length of the history, [1].
func (g *graph) length() string {
	return g.node("Slice", []string{g.node("Shape", []string{inputHistory}), g.ints(1), g.ints(2)})
}

// padded stretches a history [T, d] to [L, d] with zeros at its end.
func (g *graph) padded(x string, a snapshot.Architecture) string {
	missing := g.node("Sub", []string{g.ints(int64(a.MaxLen)), g.length()})
	return g.node("Pad", []string{x, g.node("Concat", []string{g.ints(0, 0), missing, g.ints(0)}, attrInt("axis", 0))})
}

// weight returns the values of a tensor of the snapshot, whose shape must be as said.
func (g *graph) weight(name string, shape ...int64) []float32 {
	t, ok := g.weights[name]
	switch {
	case !ok:
		g.fail(fmt.Errorf("the snapshot lacks tensor %s", name))
	case !slices.Equal(t.Shape, shape):
		g.fail(fmt.Errorf("tensor %s is %v, the architecture says %v", name, t.Shape, shape))
	default:
		return t.Data
	}
	n := int64(1)
	for _, d := range shape {
		n *= d
	}
	return make([]float32, n)
}

func (g *graph) fail(err error) {
	if g.err == nil {
		g.err = err
	}
}

// floats adds a constant.
func (g *graph) floats(name string, values []float32, shape ...int64) string {
	g.proto.Initializer = append(g.proto.Initializer, &pb.TensorProto{
		Name: proto.String(name), Dims: shape, DataType: proto.Int32(int32(pb.TensorProto_FLOAT)), RawData: safetensors.FromFloat32s(values),
	})
	return name
}

// ints adds a constant vector; a name used before is the same constant.
func (g *graph) ints(values ...int64) string {
	name := fmt.Sprint("ints_", values)
	for _, t := range g.proto.Initializer {
		if t.GetName() == name {
			return name
		}
	}
	var raw []byte
	for _, v := range values {
		raw = binary.LittleEndian.AppendUint64(raw, uint64(v))
	}
	g.proto.Initializer = append(g.proto.Initializer, &pb.TensorProto{
		Name: proto.String(name), Dims: []int64{int64(len(values))}, DataType: proto.Int32(int32(pb.TensorProto_INT64)), RawData: raw,
	})
	return name
}

// linear is x Wᵀ + b of the snapshot's name.weight [out, in] and name.bias, for
// several names side by side: [.., in] -> [.., sum of out].
func (g *graph) linear(x string, in, out int64, names ...string) string {
	width := out * int64(len(names))
	w, b := make([]float32, in*width), make([]float32, 0, width)
	for k, name := range names {
		weight := g.weight(name+".weight", out, in)
		for o := range out {
			for i := range in {
				w[i*width+int64(k)*out+o] = weight[o*in+i]
			}
		}
		b = append(b, g.weight(name+".bias", out)...)
	}
	wName := g.floats(names[0]+".weight_t", w, in, width)
	bName := g.floats(names[0]+".bias_all", b, width)
	return g.node("Add", []string{g.node("MatMul", []string{x, wName}), bName})
}

// conv is a convolution with the snapshot's name.weight, of a shape [out, in, ...], and
// name.bias.
func (g *graph) conv(x, name string, shape []int64, attrs ...*pb.AttributeProto) string {
	w := g.floats(name+".weight", g.weight(name+".weight", shape...), shape...)
	b := g.floats(name+".bias", g.weight(name+".bias", shape[0]), shape[0])
	return g.node("Conv", []string{x, w, b}, attrs...)
}

const layerNormEps = 1e-12

func (g *graph) layerNorm(x, name string, d int64) string {
	w := g.floats(name+".weight", g.weight(name+".weight", d), d)
	b := g.floats(name+".bias", g.weight(name+".bias", d), d)
	return g.node("LayerNormalization", []string{x, w, b}, attrInt("axis", -1), attrFloat("epsilon", layerNormEps))
}

// gelu is the exact one: x/2 (1 + erf(x/sqrt 2)). ONNX Runtime fuses the pattern.
func (g *graph) gelu(x string) string {
	root := g.scalar("sqrt2", 1.4142135381698608)
	one, half := g.scalar("one", 1), g.scalar("half", 0.5)
	e := g.node("Erf", []string{g.node("Div", []string{x, root})})
	return g.node("Mul", []string{g.node("Mul", []string{x, g.node("Add", []string{e, one})}), half})
}

func (g *graph) scalar(name string, v float32) string {
	for _, t := range g.proto.Initializer {
		if t.GetName() == name {
			return name
		}
	}
	return g.floats(name, []float32{v})
}

// finish declares inputs and the output [1, width], and serialises the model.
func (g *graph) finish(x, name string, a snapshot.Architecture, width any) ([]byte, error) {
	if g.err != nil {
		return nil, fmt.Errorf("exporting %s: %w", a.Name, g.err)
	}
	g.proto.Node = append(g.proto.Node, &pb.NodeProto{OpType: proto.String("Identity"), Input: []string{x}, Output: []string{name}})
	g.proto.Input = []*pb.ValueInfoProto{
		value(inputHistory, pb.TensorProto_INT64, 1, "T"),
		value(inputItems, pb.TensorProto_FLOAT, "R", a.Dim),
	}
	g.proto.Output = []*pb.ValueInfoProto{value(name, pb.TensorProto_FLOAT, 1, width)}
	return proto.Marshal(&pb.ModelProto{
		IrVersion: proto.Int64(irVersion), ProducerName: proto.String("seralm"), Graph: g.proto,
		OpsetImport: []*pb.OperatorSetIdProto{{Domain: proto.String(""), Version: proto.Int64(opset)}},
	})
}

// value describes an input or output; a dimension is a number or the name of a
// size that varies.
func value(name string, kind pb.TensorProto_DataType, dims ...any) *pb.ValueInfoProto {
	shape := &pb.TensorShapeProto{}
	for _, d := range dims {
		dim := &pb.TensorShapeProto_Dimension{}
		switch d := d.(type) {
		case string:
			dim.Value = &pb.TensorShapeProto_Dimension_DimParam{DimParam: d}
		case int:
			dim.Value = &pb.TensorShapeProto_Dimension_DimValue{DimValue: int64(d)}
		case int64:
			dim.Value = &pb.TensorShapeProto_Dimension_DimValue{DimValue: d}
		}
		shape.Dim = append(shape.Dim, dim)
	}
	return &pb.ValueInfoProto{Name: proto.String(name), Type: &pb.TypeProto{Value: &pb.TypeProto_TensorType{
		TensorType: &pb.TypeProto_Tensor{ElemType: proto.Int32(int32(kind)), Shape: shape},
	}}}
}

func attrInt(name string, v int64) *pb.AttributeProto {
	return &pb.AttributeProto{Name: proto.String(name), Type: pb.AttributeProto_INT.Enum(), I: proto.Int64(v)}
}

func attrInts(name string, v ...int64) *pb.AttributeProto {
	return &pb.AttributeProto{Name: proto.String(name), Type: pb.AttributeProto_INTS.Enum(), Ints: v}
}

func attrFloat(name string, v float32) *pb.AttributeProto {
	return &pb.AttributeProto{Name: proto.String(name), Type: pb.AttributeProto_FLOAT.Enum(), F: proto.Float32(v)}
}
