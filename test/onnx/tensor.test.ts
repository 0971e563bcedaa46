/** Tensors of every element type, in raw and in typed fields, and attributes of every kind. */
import { Float16Array } from '@petamoriken/float16';
import fc from 'fast-check';
import Long from 'long';
import { describe, expect, it } from 'vitest';
import {
  type AttributeValue,
  attribute,
  DataType,
  decodeModel,
  elementBits,
  encodeModel,
  float,
  floatAttribute,
  floatTensor,
  int64Tensor,
  intAttribute,
  intsAttribute,
  makeAttribute,
  type Node,
  numElements,
  rawBytes,
  rawTensor,
  stringAttribute,
  type Tensor,
  tensorBytes,
  tensorValues,
} from '../../src/onnx/index.ts';

const bytes = (array: ArrayBufferView): Uint8Array => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);

/** What comes back when the tensor was written to a file and read. */
function written(tensor: Tensor): Tensor {
  const model = decodeModel(encodeModel({ irVersion: 10, opsetImport: [{ version: 21 }], graph: { initializer: [tensor] } }));
  return model.graph?.initializer?.[0] as Tensor;
}

/** Element type, its typed field with some values, and the same values as raw data. */
const TYPED: [type: keyof typeof DataType, dims: number[], field: Partial<Tensor>, raw: Uint8Array][] = [
  ['FLOAT', [3], { floatData: [1.5, -0, 3e38] }, bytes(Float32Array.of(1.5, -0, 3e38))],
  ['COMPLEX64', [1], { floatData: [1.5, -2] }, bytes(Float32Array.of(1.5, -2))],
  ['DOUBLE', [2], { doubleData: [Math.PI, -1e300] }, bytes(Float64Array.of(Math.PI, -1e300))],
  ['COMPLEX128', [1], { doubleData: [Math.PI, 2] }, bytes(Float64Array.of(Math.PI, 2))],
  ['INT64', [3], { int64Data: [Long.MAX_VALUE, Long.MIN_VALUE, -1] }, bytes(BigInt64Array.of(2n ** 63n - 1n, -(2n ** 63n), -1n))],
  ['UINT64', [2], { uint64Data: [Long.MAX_UNSIGNED_VALUE, 7] }, bytes(BigUint64Array.of(2n ** 64n - 1n, 7n))],
  ['UINT32', [2], { uint64Data: [2 ** 32 - 1, 7] }, bytes(Uint32Array.of(2 ** 32 - 1, 7))],
  ['INT32', [2], { int32Data: [-(2 ** 31), 7] }, bytes(Int32Array.of(-(2 ** 31), 7))],
  ['INT16', [2], { int32Data: [-32768, 7] }, bytes(Int16Array.of(-32768, 7))],
  ['UINT16', [2], { int32Data: [65535, 7] }, bytes(Uint16Array.of(65535, 7))],
  ['INT8', [2], { int32Data: [-128, 7] }, bytes(Int8Array.of(-128, 7))],
  ['UINT8', [2], { int32Data: [255, 7] }, Uint8Array.of(255, 7)],
  ['BOOL', [2], { int32Data: [1, 0] }, Uint8Array.of(1, 0)],
  ['FLOAT16', [2], { int32Data: [0x3c00, 0xc000] }, bytes(new Float16Array([1, -2]))],
  ['BFLOAT16', [2], { int32Data: [0x3f80, 0xc000] }, bytes(Uint16Array.of(0x3f80, 0xc000))],
  ['FLOAT8E4M3FN', [2], { int32Data: [0x7e, 0xfe] }, Uint8Array.of(0x7e, 0xfe)],
  ['FLOAT8E4M3FNUZ', [2], { int32Data: [0x7f, 0x80] }, Uint8Array.of(0x7f, 0x80)],
  ['FLOAT8E5M2', [2], { int32Data: [0x7b, 0xfc] }, Uint8Array.of(0x7b, 0xfc)],
  ['FLOAT8E5M2FNUZ', [2], { int32Data: [0x7f, 0x80] }, Uint8Array.of(0x7f, 0x80)],
  ['FLOAT8E8M0', [2], { int32Data: [0x7f, 0xff] }, Uint8Array.of(0x7f, 0xff)],
  ['INT4', [3], { int32Data: [0x78, 0x0f] }, Uint8Array.of(0x78, 0x0f)],
  ['UINT4', [3], { int32Data: [0xf1, 0x02] }, Uint8Array.of(0xf1, 0x02)],
  ['FLOAT4E2M1', [4], { int32Data: [0xf1, 0x32] }, Uint8Array.of(0xf1, 0x32)],
  ['INT2', [5], { int32Data: [0b11100100, 0b01] }, Uint8Array.of(0b11100100, 0b01)],
  ['UINT2', [4], { int32Data: [0b00011011] }, Uint8Array.of(0b00011011)],
  // x0 | x1 << 6 | x2 << 12 | x3 << 18, then x4 alone
  ['FLOAT6E2M3', [5], { int32Data: [1, 2, 3, 63, 33] }, Uint8Array.of(0x81, 0x30, 0xfc, 33)],
  ['FLOAT6E3M2', [3], { int32Data: [63, 0, 63] }, Uint8Array.of(0x3f, 0xf0, 0x03)],
];

describe('a tensor', () => {
  it.each(TYPED)('of %s has the same bytes in its typed field as in raw data, also after writing', (name, dims, field, raw) => {
    const dataType = DataType[name];
    const typed: Tensor = { name: 't', dataType, dims, ...field };
    expect(rawBytes(typed)).toBe(raw.length);
    expect(Buffer.from(tensorBytes(typed))).toEqual(Buffer.from(raw));
    expect(Buffer.from(tensorBytes(written(typed)))).toEqual(Buffer.from(raw));
    expect(Buffer.from(tensorBytes(written(rawTensor('t', dataType, dims, raw))))).toEqual(Buffer.from(raw));
  });

  it('of every element type that has a size is among those above', () => {
    const untested = Object.entries(DataType).filter(([name]) => !TYPED.some(([type]) => type === name));
    expect(untested.map(([name]) => name)).toEqual(['UNDEFINED', 'STRING']);
    expect(() => elementBits(DataType.STRING)).toThrow('no fixed size');
  });

  it.each(TYPED.filter(([name]) => /^U?INT(8|16|32|64)$|^FLOAT(16)?$|^DOUBLE$|^BOOL$/.test(name)))(
    'of %s reads as numbers wherever its bytes begin',
    (name, dims, field, raw) => {
      const values = Object.values(field).flat().map(Number);
      const expected = name === 'FLOAT16' ? [1, -2] : name === 'FLOAT' ? [...Float32Array.from(values)] : values;
      const unaligned = new Uint8Array(raw.length + 1);
      unaligned.set(raw, 1);
      expect(tensorValues({ dataType: DataType[name], dims, rawData: unaligned.subarray(1) })).toEqual(expected);
    },
  );

  it('of a type from the future keeps its bytes', () => {
    const tensor = written({ name: 't', dataType: 77, dims: [3], rawData: Uint8Array.of(1, 2, 3, 4, 5) });
    expect(tensor.dataType).toBe(77);
    expect([...tensorBytes(tensor)]).toEqual([1, 2, 3, 4, 5]);
  });

  it('of strings keeps them, as bytes that need not be text', () => {
    const stringData = [Uint8Array.of(0xff, 0xfe), new TextEncoder().encode('żółw'), new Uint8Array(0)];
    expect(written({ name: 't', dataType: DataType.STRING, dims: [3], stringData }).stringData?.map((s) => [...s])).toEqual(
      stringData.map((s) => [...s]),
    );
  });

  it('without elements has no bytes', () => {
    for (const dims of [[0], [3, 0, 2]]) expect(tensorBytes({ dataType: DataType.FLOAT, dims })).toHaveLength(0);
    expect(numElements({ dims: [] })).toBe(1);
  });

  it('of a wrong number of bytes cannot be made', () => {
    expect(() => rawTensor('t', DataType.FLOAT, [2], new Uint8Array(7))).toThrow("tensor 't' [2] has 7 bytes, wants 8");
  });

  it('of 64-bit integers or floats is made from numbers', () => {
    expect(tensorValues(int64Tensor('t', [3], [1, -2, 2n ** 53n]))).toEqual([1, -2, 2 ** 53]);
    expect(tensorValues(floatTensor('t', [2], [0.5, -65504], DataType.FLOAT16))).toEqual([0.5, -65504]);
  });
});

describe('an attribute', () => {
  const node = (value: AttributeValue): Node => {
    const made: Node = { opType: 'Op', attribute: [makeAttribute('a', value)] };
    const model = decodeModel(encodeModel({ irVersion: 10, opsetImport: [{ version: 21 }], graph: { node: [made] } }));
    return model.graph?.node?.[0] as Node;
  };

  it('holds 64-bit integers exactly', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), (value) => {
        expect(BigInt(String(attribute(node(value), 'a')?.i))).toBe(value);
      }),
      { seed: 1, examples: [[2n ** 63n - 1n], [-(2n ** 63n)], [2n ** 53n + 1n]] },
    );
  });

  it('reads back as what it was made of', () => {
    expect(intAttribute(node(-7), 'a', 0)).toBe(-7);
    expect(floatAttribute(node(float(0.25)), 'a', 0)).toBe(0.25);
    expect(stringAttribute(node('grüß'), 'a', '')).toBe('grüß');
    expect(intsAttribute(node([3, -1, 0]), 'a')).toEqual([3, -1, 0]);
    expect(intsAttribute(node([]), 'a')).toEqual([]);
    expect(tensorValues(attribute(node({ tensor: int64Tensor('t', [1], [5]) }), 'a')?.t as Tensor)).toEqual([5]);
    expect(attribute(node({ graph: { name: 'body' } }), 'a')?.g?.name).toBe('body');
  });

  it('that is absent reads as the fallback', () => {
    const bare: Node = { opType: 'Op' };
    expect([intAttribute(bare, 'a', 4), floatAttribute(bare, 'a', 0.5), stringAttribute(bare, 'a', 'x')]).toEqual([4, 0.5, 'x']);
    expect(intsAttribute(bare, 'a')).toBeUndefined();
  });

  it('of a number that is no integer, or of more than 64 bits, is our own bug', () => {
    for (const value of [0.5, Number.NaN, 2 ** 53, 2n ** 63n]) expect(() => makeAttribute('a', value)).toThrow('attentionpack bug');
  });
});
