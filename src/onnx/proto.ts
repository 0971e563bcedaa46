/** The ONNX messages under short names, with the codec set so that fields newer than our schema survive. */
import Long from 'long';
import { configure, Reader, util } from 'protobufjs/minimal.js';
import { onnx } from './proto/onnx-ml.js';

// Without this, protobufjs drops fields that onnx-ml.proto does not name and a rewritten model would silently lose them.
Reader.discardUnknown = false;
// protobufjs looks for Long at run time and goes on without it: in a bundle, 64-bit integers would then be rounded to 53 bits.
util.Long = Long;
configure();

export const ModelProto: typeof onnx.ModelProto = onnx.ModelProto;
export const GraphProto: typeof onnx.GraphProto = onnx.GraphProto;
export const NodeProto: typeof onnx.NodeProto = onnx.NodeProto;
export const TensorProto: typeof onnx.TensorProto = onnx.TensorProto;
export const AttributeProto: typeof onnx.AttributeProto = onnx.AttributeProto;

export type Model = onnx.ModelProto.$Properties;
export type Graph = onnx.GraphProto.$Properties;
export type Node = onnx.NodeProto.$Properties;
export type Tensor = onnx.TensorProto.$Properties;
export type Attribute = onnx.AttributeProto.$Properties;
export type ValueInfo = onnx.ValueInfoProto.$Properties;
export type Dimension = onnx.TensorShapeProto.Dimension.$Properties;

export const AttributeType: typeof onnx.AttributeProto.AttributeType = onnx.AttributeProto.AttributeType;
export const DataType: typeof onnx.TensorProto.DataType = onnx.TensorProto.DataType;
export type DataType = onnx.TensorProto.DataType;
export const DataLocation: typeof onnx.TensorProto.DataLocation = onnx.TensorProto.DataLocation;
