/**
 * Walks an ONNX file on the protobuf wire and swaps single tensors, reading nothing it does not need.
 *
 * protobufjs would decode the weights with the graph; this keeps them out of memory. Wire format: https://protobuf.dev/programming-guides/encoding/
 */

/** Random access to the bytes of a model, in a file or in memory. */
export interface ByteSource {
  readonly size: number;
  read(offset: number, length: number): Uint8Array;
}

/** Output in pieces: bytes made here, or a range of the source that need not be read yet. */
export type Piece = Uint8Array | SourceRange;

export interface SourceRange {
  readonly offset: number;
  readonly length: number;
}

/** Replaces the TensorProto at [start, end) of the source, or returns undefined to keep it as it is. */
export type SwapTensor = (start: number, end: number) => Piece[] | undefined;

type Kind = 'Model' | 'Graph' | 'Node' | 'Attribute' | 'Tensor' | 'Sparse' | 'Training' | 'Function';

/** Where tensors can lie: field number -> kind of the message in it. */
const NESTED: Record<Kind, Record<number, Kind>> = {
  Model: { 7: 'Graph', 20: 'Training', 25: 'Function' },
  Graph: { 1: 'Node', 5: 'Tensor', 15: 'Sparse' },
  Node: { 5: 'Attribute' },
  Attribute: { 5: 'Tensor', 6: 'Graph', 10: 'Tensor', 11: 'Graph', 22: 'Sparse', 23: 'Sparse' },
  Tensor: {},
  Sparse: { 1: 'Tensor', 2: 'Tensor' },
  Training: { 1: 'Graph', 2: 'Graph' },
  Function: { 7: 'Node', 11: 'Attribute' },
};

export class WireError extends Error {}

/**
 * The model of `source` with every tensor offered to `swap`; the lengths of all enclosing messages are made anew.
 *
 * @param minBytes messages shorter than this are copied whole: they cannot hold a tensor worth swapping.
 */
export function swapTensors(source: ByteSource, swap: SwapTensor, minBytes = 0): Piece[] {
  return walk(source, 'Model', 0, source.size, swap, minBytes);
}

function walk(source: ByteSource, kind: Kind, start: number, end: number, swap: SwapTensor, minBytes: number): Piece[] {
  const pieces: Piece[] = [];
  let copied = start; // everything before this offset is already in `pieces`
  const flush = (until: number): void => {
    if (until > copied) pieces.push({ offset: copied, length: until - copied });
    copied = until;
  };
  for (const field of fields(source, start, end)) {
    const nested = NESTED[kind][field.number];
    if (!nested || field.wireType !== 2 || field.end - field.start < minBytes) continue;
    const inner = nested === 'Tensor' ? swap(field.start, field.end) : walk(source, nested, field.start, field.end, swap, minBytes);
    if (!inner || isUnchanged(inner, field)) continue;
    flush(field.tagStart);
    pieces.push(header(field.number, lengthOf(inner)), ...inner);
    copied = field.end;
  }
  flush(end);
  return pieces;
}

function isUnchanged(pieces: readonly Piece[], field: Field): boolean {
  const [only] = pieces;
  return (
    pieces.length === 1 && only !== undefined && 'offset' in only && only.offset === field.start && only.length === field.end - field.start
  );
}

export interface Field {
  readonly number: number;
  readonly wireType: number;
  /** First byte of the tag. */
  readonly tagStart: number;
  /** Payload, without tag and length. */
  readonly start: number;
  readonly end: number;
}

/** The fields of the message at [start, end), one by one; payloads are skipped, not read. */
export function* fields(source: ByteSource, start: number, end: number): Generator<Field> {
  let at = start;
  while (at < end) {
    const tagStart = at;
    const head = source.read(at, Math.min(20, end - at)); // a tag and a length take at most ten bytes each
    const tag = varint(head, 0, at);
    const wireType = tag.value & 7;
    const number = Math.floor(tag.value / 8);
    if (number === 0) throw new WireError(`field number 0 at byte ${tagStart}`);
    at += tag.length;
    let payloadLength: number;
    if (wireType === 0) payloadLength = varint(head, tag.length, at).length;
    else if (wireType === 1) payloadLength = 8;
    else if (wireType === 5) payloadLength = 4;
    else if (wireType === 2) {
      const length = varint(head, tag.length, at);
      at += length.length;
      payloadLength = length.value;
    } else throw new WireError(`wire type ${wireType} at byte ${tagStart}`);
    if (at + payloadLength > end) {
      throw new WireError(`field ${number} at byte ${tagStart} needs ${payloadLength} bytes, ${end - at} are left`);
    }
    yield { number, wireType, tagStart, start: at, end: at + payloadLength };
    at += payloadLength;
  }
}

function varint(bytes: Uint8Array, from: number, at: number): { value: number; length: number } {
  let value = 0;
  for (let i = 0; i < 10; i++) {
    const byte = bytes[from + i];
    if (byte === undefined) throw new WireError(`cut short at byte ${at + i}`);
    value += (byte & 127) * 2 ** (7 * i);
    if (byte < 128) return { value, length: i + 1 };
  }
  throw new WireError(`number of more than ten bytes at byte ${at}`);
}

/** Tag and length of a length-delimited field. */
export function header(number: number, length: number): Uint8Array {
  const bytes: number[] = [];
  for (let value of [number * 8 + 2, length]) {
    for (; value >= 128; value = Math.floor(value / 128)) bytes.push((value % 128) + 128);
    bytes.push(value);
  }
  return Uint8Array.from(bytes);
}

export function lengthOf(pieces: readonly Piece[]): number {
  return pieces.reduce((sum, piece) => sum + piece.length, 0);
}

/** A source over bytes in memory. */
export function bytesSource(bytes: Uint8Array): ByteSource {
  return { size: bytes.length, read: (offset, length) => bytes.subarray(offset, offset + length) };
}

/** All pieces as one array. */
export function gather(source: ByteSource, pieces: readonly Piece[]): Uint8Array {
  const out = new Uint8Array(lengthOf(pieces));
  let at = 0;
  for (const piece of pieces) {
    out.set(piece instanceof Uint8Array ? piece : source.read(piece.offset, piece.length), at);
    at += piece.length;
  }
  return out;
}
