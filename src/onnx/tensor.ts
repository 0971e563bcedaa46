/** Makes TensorProtos and reads their values, in every element type ONNX has; sub-byte types are packed low bits first, as the spec says. */
import { closeSync, openSync, readSync } from 'node:fs';
import { Float16Array } from '@petamoriken/float16';
import { assert, FileFormatError } from '../errors.ts';
import { checkedLength, type ExternalRange, externalFile, externalRange } from './external.ts';
import { DataType, type Tensor } from './proto.ts';

/** Bits of one element. Strings have no fixed size and are absent. */
const ELEMENT_BITS: Partial<Record<number, number>> = {
  [DataType.FLOAT]: 32,
  [DataType.UINT8]: 8,
  [DataType.INT8]: 8,
  [DataType.UINT16]: 16,
  [DataType.INT16]: 16,
  [DataType.INT32]: 32,
  [DataType.INT64]: 64,
  [DataType.BOOL]: 8,
  [DataType.FLOAT16]: 16,
  [DataType.DOUBLE]: 64,
  [DataType.UINT32]: 32,
  [DataType.UINT64]: 64,
  [DataType.COMPLEX64]: 64,
  [DataType.COMPLEX128]: 128,
  [DataType.BFLOAT16]: 16,
  [DataType.FLOAT8E4M3FN]: 8,
  [DataType.FLOAT8E4M3FNUZ]: 8,
  [DataType.FLOAT8E5M2]: 8,
  [DataType.FLOAT8E5M2FNUZ]: 8,
  [DataType.UINT4]: 4,
  [DataType.INT4]: 4,
  [DataType.FLOAT4E2M1]: 4,
  [DataType.FLOAT8E8M0]: 8,
  [DataType.UINT2]: 2,
  [DataType.INT2]: 2,
  [DataType.FLOAT6E2M3]: 6,
  [DataType.FLOAT6E3M2]: 6,
};

export function elementBits(type: number): number {
  const bits = ELEMENT_BITS[type];
  assert(bits !== undefined, `element type ${type} has no fixed size`);
  return bits;
}

export function dimsOf(tensor: Tensor): number[] {
  return (tensor.dims ?? []).map(Number);
}

export function numElements(tensor: Tensor): number {
  return dimsOf(tensor).reduce((product, dim) => product * dim, 1);
}

/** Bytes the tensor's raw data takes, from its shape and type. */
export function rawBytes(tensor: Tensor): number {
  return Math.ceil((numElements(tensor) * elementBits(tensor.dataType ?? 0)) / 8);
}

export function rawTensor(name: string, dataType: DataType, dims: readonly number[], rawData: Uint8Array): Tensor {
  const tensor: Tensor = { name, dataType, dims: [...dims], rawData };
  assert(rawData.length === rawBytes(tensor), `tensor '${name}' [${dims}] has ${rawData.length} bytes, wants ${rawBytes(tensor)}`);
  return tensor;
}

const bytesOf = (array: ArrayBufferView): Uint8Array => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);

export function floatTensor(name: string, dims: readonly number[], values: ArrayLike<number>, type: DataType = DataType.FLOAT): Tensor {
  assert(type === DataType.FLOAT || type === DataType.FLOAT16, `float tensor of type ${type}`);
  const array = type === DataType.FLOAT ? Float32Array.from(values) : new Float16Array(values);
  return rawTensor(name, type, dims, bytesOf(array));
}

export function int64Tensor(name: string, dims: readonly number[], values: readonly (number | bigint)[]): Tensor {
  return rawTensor(name, DataType.INT64, dims, bytesOf(BigInt64Array.from(values.map(BigInt))));
}

/**
 * The tensor's bytes as `raw_data` would hold them, wherever they lie. For all types but strings.
 *
 * @param modelPath the .onnx file the tensor came from; needed for external data.
 * @throws {FileFormatError} if external data is missing or out of range, or if there is more or less of it than the shape asks for.
 */
export function tensorBytes(tensor: Tensor, modelPath?: string): Uint8Array {
  const range = externalRange(tensor);
  if (range) {
    assert(modelPath, `tensor '${tensor.name}' is external and no model path was given`);
    // An entry without a length means the tensor's own, not the rest of a file it shares.
    const length = range.length < 0 && ELEMENT_BITS[tensor.dataType ?? 0] ? rawBytes(tensor) : range.length;
    return checkedSize(tensor, readRange(modelPath, tensor.name ?? '', { ...range, length }), modelPath);
  }
  return checkedSize(tensor, tensor.rawData?.length ? tensor.rawData : typedDataBytes(tensor), modelPath);
}

function readRange(modelPath: string, tensorName: string, range: ExternalRange): Uint8Array {
  const bytes = new Uint8Array(checkedLength(modelPath, tensorName, range));
  const fd = openSync(externalFile(modelPath, range.location), 'r');
  try {
    for (let done = 0; done < bytes.length; ) {
      const got = readSync(fd, bytes, done, bytes.length - done, range.offset + done);
      if (got === 0) throw new FileFormatError(modelPath, `external data file '${range.location}' became shorter while it was read`);
      done += got;
    }
  } finally {
    closeSync(fd);
  }
  return bytes;
}

/** The bytes, if there are as many as shape and type ask for; of types we do not know, any number. */
function checkedSize(tensor: Tensor, bytes: Uint8Array, modelPath = 'model'): Uint8Array {
  if (ELEMENT_BITS[tensor.dataType ?? 0] === undefined || bytes.length === rawBytes(tensor)) return bytes;
  const shape = `[${dimsOf(tensor).join(', ')}]`;
  throw new FileFormatError(
    modelPath,
    `tensor '${tensor.name ?? ''}' ${shape} has ${bytes.length} bytes of data, wants ${rawBytes(tensor)}`,
  );
}

/** The older typed fields (float_data, int32_data, ...) as raw bytes; int32_data carries all types of 16 bits and less. */
function typedDataBytes(tensor: Tensor): Uint8Array {
  const type = tensor.dataType ?? 0;
  if (tensor.floatData?.length) return bytesOf(Float32Array.from(tensor.floatData));
  if (tensor.doubleData?.length) return bytesOf(Float64Array.from(tensor.doubleData));
  if (tensor.int64Data?.length) return bytesOf(BigInt64Array.from(tensor.int64Data.map((v) => BigInt(v.toString()))));
  if (tensor.uint64Data?.length) {
    const values = tensor.uint64Data.map((v) => BigInt(v.toString()));
    return type === DataType.UINT32 ? bytesOf(Uint32Array.from(values.map(Number))) : bytesOf(BigUint64Array.from(values));
  }
  if (tensor.int32Data?.length) {
    const bits = elementBits(type);
    if (bits === 32) return bytesOf(Int32Array.from(tensor.int32Data));
    if (bits === 16) return bytesOf(Uint16Array.from(tensor.int32Data));
    if (bits === 6) return packSixBits(tensor.int32Data);
    return Uint8Array.from(tensor.int32Data); // 4-bit and 2-bit types hold two and four elements in each entry already
  }
  return new Uint8Array(0);
}

/** 6-bit elements, one in each entry, as a stream of bits from the lowest: four in three bytes. */
function packSixBits(elements: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(Math.ceil((elements.length * 6) / 8));
  for (const [i, element] of elements.entries()) {
    const [byte, shift] = [Math.floor((i * 6) / 8), (i * 6) % 8];
    bytes[byte] = (bytes[byte] as number) | (element << shift); // stores the low 8 bits
    if (shift > 2) bytes[byte + 1] = element >> (8 - shift);
  }
  return bytes;
}

/** Values as numbers, for shapes, axes, scalars and small tables. 64-bit integers beyond 2^53 lose precision. */
export function tensorValues(tensor: Tensor, modelPath?: string): number[] {
  const raw = tensorBytes(tensor, modelPath);
  const { buffer } = new Uint8Array(raw); // a copy: typed arrays need alignment, and slice() of a Buffer shares its pool
  switch (tensor.dataType) {
    case DataType.FLOAT:
      return [...new Float32Array(buffer)];
    case DataType.DOUBLE:
      return [...new Float64Array(buffer)];
    case DataType.FLOAT16:
      return [...new Float16Array(buffer)];
    case DataType.INT64:
      return [...new BigInt64Array(buffer)].map(Number);
    case DataType.UINT64:
      return [...new BigUint64Array(buffer)].map(Number);
    case DataType.INT32:
      return [...new Int32Array(buffer)];
    case DataType.UINT32:
      return [...new Uint32Array(buffer)];
    case DataType.INT16:
      return [...new Int16Array(buffer)];
    case DataType.UINT16:
      return [...new Uint16Array(buffer)];
    case DataType.INT8:
      return [...new Int8Array(buffer)];
    case DataType.UINT8:
    case DataType.BOOL:
      return [...new Uint8Array(buffer)];
    default:
      throw new Error(`attentionpack bug: values of element type ${tensor.dataType} are not numbers we read`);
  }
}
