/** Reads safetensors files by ranges: the header once, then any rows of any tensor. Spec: https://github.com/huggingface/safetensors#format */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { AttentionPackError, FileFormatError } from '../errors.ts';

/** Bytes of one element of each type we know the size of; only float types can be read as weights. */
const ELEMENT_BYTES: Readonly<Record<string, number>> = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U64: 8,
  U32: 4,
  U16: 2,
  U8: 1,
  BOOL: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
};
const WEIGHT_TYPES = ['F32', 'F16', 'BF16'] as const;
type WeightType = (typeof WEIGHT_TYPES)[number];

// The reference implementation's limit: a longer header is an attack or garbage.
const MAX_HEADER_BYTES = 100e6;

export interface StoredTensor {
  readonly name: string;
  readonly type: string;
  readonly dims: readonly number[];
  /** First byte in the file. */
  readonly offset: number;
  readonly length: number;
}

/** An open safetensors file. Holds a file descriptor until {@link close}. */
export class SafetensorsFile {
  readonly path: string;
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  readonly #fd: number;

  /** @throws {FileFormatError} if the file is missing, truncated, or its header does not describe it. */
  constructor(file: string) {
    this.path = file;
    try {
      this.#fd = openSync(file, 'r');
    } catch (cause) {
      const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
      throw new FileFormatError(file, missing ? 'no such file' : String(cause), { cause });
    }
    try {
      this.tensors = readHeader(file, this.#fd);
    } catch (cause) {
      this.close();
      throw cause;
    }
  }

  /**
   * Rows [start, end) of a tensor seen as [dims[0], the rest], as float32. A scalar is one row.
   *
   * @throws {AttentionPackError} if the tensor's element type is not one of F32, F16, BF16.
   */
  rows(name: string, start: number, end: number): Float32Array {
    const tensor = this.tensors.get(name);
    if (!tensor) throw new FileFormatError(this.path, `has no tensor '${name}'`);
    const type = WEIGHT_TYPES.find((known) => known === tensor.type);
    if (!type) {
      throw new AttentionPackError(
        `${this.path}: tensor '${name}' is ${tensor.type}; weights must be ${WEIGHT_TYPES.join(', ')}: save the checkpoint unquantised`,
      );
    }
    const rowBytes = tensor.length / (tensor.dims[0] ?? 1);
    const bytes = new Uint8Array((end - start) * rowBytes);
    this.#read(bytes, tensor.offset + start * rowBytes);
    return toFloat32(bytes, type);
  }

  close(): void {
    closeSync(this.#fd);
  }

  #read(into: Uint8Array, offset: number): void {
    readFully(this.path, this.#fd, into, offset);
  }
}

function readHeader(file: string, fd: number): Map<string, StoredTensor> {
  const fileBytes = fstatSync(fd).size;
  if (fileBytes < 8) throw new FileFormatError(file, `not safetensors: ${fileBytes} bytes, 8 are needed for the header's length`);
  const prefix = new Uint8Array(8);
  readFully(file, fd, prefix, 0);
  const headerBytes = Number(new DataView(prefix.buffer).getBigUint64(0, true));
  if (headerBytes > MAX_HEADER_BYTES) throw new FileFormatError(file, `not safetensors: header of ${headerBytes} bytes`);
  const dataStart = 8 + headerBytes;
  if (dataStart > fileBytes) {
    throw new FileFormatError(file, `truncated: the header wants ${dataStart} bytes, the file has ${fileBytes}; download it again`);
  }
  const bytes = new Uint8Array(headerBytes);
  readFully(file, fd, bytes, 8);
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new FileFormatError(file, 'not safetensors: the header is not JSON', { cause });
  }
  if (typeof header !== 'object' || header === null || Array.isArray(header)) {
    throw new FileFormatError(file, 'not safetensors: the header is not an object');
  }
  const tensors = Object.entries(header)
    .filter(([name]) => name !== '__metadata__')
    .map(([name, entry]) => checkedTensor(file, name, entry, dataStart, fileBytes));
  refuseOverlap(file, tensors);
  return new Map(tensors.map((tensor) => [tensor.name, tensor]));
}

function checkedTensor(file: string, name: string, entry: unknown, dataStart: number, fileBytes: number): StoredTensor {
  const { dtype, shape, data_offsets: range } = (entry ?? {}) as Record<string, unknown>;
  if (typeof dtype !== 'string' || !isCounts(shape) || !isCounts(range) || range.length !== 2) {
    throw new FileFormatError(file, `header entry '${name}' needs dtype, shape and data_offsets`);
  }
  const elementBytes = ELEMENT_BYTES[dtype];
  if (!elementBytes) throw new FileFormatError(file, `tensor '${name}' has the unknown element type '${dtype}'`);
  const [begin, end] = range as [number, number];
  const wanted = shape.reduce((product, dim) => product * dim, elementBytes);
  if (end - begin !== wanted) {
    throw new FileFormatError(
      file,
      `tensor '${name}' ${dtype} [${shape}] takes ${wanted} bytes, its range ${begin} to ${end} has ${end - begin}`,
    );
  }
  if (dataStart + end > fileBytes) {
    throw new FileFormatError(
      file,
      `truncated: tensor '${name}' ends at byte ${dataStart + end}, the file has ${fileBytes}; download it again`,
    );
  }
  return { name, type: dtype, dims: shape, offset: dataStart + begin, length: end - begin };
}

function refuseOverlap(file: string, tensors: readonly StoredTensor[]): void {
  const sorted = tensors.filter((tensor) => tensor.length > 0).sort((a, b) => a.offset - b.offset);
  for (const [i, tensor] of sorted.entries()) {
    const next = sorted[i + 1];
    if (next && tensor.offset + tensor.length > next.offset) {
      throw new FileFormatError(file, `tensors '${tensor.name}' and '${next.name}' overlap at byte ${next.offset}`);
    }
  }
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
}

function readFully(file: string, fd: number, into: Uint8Array, offset: number): void {
  for (let done = 0; done < into.length; ) {
    const got = readSync(fd, into, done, Math.min(into.length - done, 2 ** 30), offset + done);
    if (got === 0) throw new FileFormatError(file, `cut short: ${into.length} bytes wanted at ${offset}`);
    done += got;
  }
}

function toFloat32(bytes: Uint8Array, type: WeightType): Float32Array {
  if (type === 'F32') return new Float32Array(bytes.buffer);
  const halves = new Uint16Array(bytes.buffer);
  const values = new Float32Array(halves.length);
  const bits = new Uint32Array(values.buffer);
  // bfloat16 is the upper half of a float32.
  if (type === 'BF16') for (let i = 0; i < halves.length; i++) bits[i] = (halves[i] as number) << 16;
  else for (let i = 0; i < halves.length; i++) bits[i] = HALF_BITS[halves[i] as number] as number;
  return values;
}

/** float32 bits of every float16: a table, as converting 7e9 weights one by one through a library takes minutes. */
const HALF_BITS: Uint32Array = Uint32Array.from({ length: 65536 }, (_, half) => {
  const sign = (half & 0x8000) << 16;
  const exponent = (half >> 10) & 31;
  const mantissa = half & 1023;
  if (exponent === 31) return (sign | 0x7f800000 | (mantissa << 13)) >>> 0;
  if (exponent > 0) return (sign | ((exponent + 112) << 23) | (mantissa << 13)) >>> 0;
  if (mantissa === 0) return sign >>> 0;
  const shift = Math.clz32(mantissa) - 21; // subnormal: move the leading one to the hidden place
  return (sign | ((113 - shift) << 23) | (((mantissa << shift) & 1023) << 13)) >>> 0;
});
