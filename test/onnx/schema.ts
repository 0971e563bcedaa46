/** onnx-ml.proto as data, so that tests cover every field of every message, those of the next version too. */
import { readFileSync } from 'node:fs';
import protobuf from 'protobufjs';

const source = readFileSync(new URL('../../src/onnx/proto/onnx-ml.proto', import.meta.url), 'utf8');
const root = protobuf.parse(source, { keepCase: true }).root.resolveAll();

export type MessageType = protobuf.Type;
export type MessageField = protobuf.Field;

export const MODEL: MessageType = root.lookupType('onnx.ModelProto');

/** The type of a field's messages; undefined for scalars and enums. */
export function messageOf(field: MessageField): MessageType | undefined {
  return field.resolvedType instanceof protobuf.Type ? field.resolvedType : undefined;
}

export type Scalar = 'int32' | 'int64' | 'uint64' | 'float' | 'double' | 'string' | 'bytes' | 'enum';

export function scalarOf(field: MessageField): Scalar {
  return field.resolvedType instanceof protobuf.Enum ? 'enum' : (field.type as Scalar);
}

/** Wire types: 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes. */
export function wireTypeOf(field: MessageField): number {
  if (field.resolvedType instanceof protobuf.Type) return 2;
  return { int32: 0, int64: 0, uint64: 0, enum: 0, float: 5, double: 1, string: 2, bytes: 2 }[scalarOf(field)];
}
