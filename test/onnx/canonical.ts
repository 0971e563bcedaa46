/**
 * What an ONNX file means, as a comparable tree, read from the wire and from the .proto alone: nothing of `src/onnx` is used.
 *
 * Of equal meaning are: any order of different fields, packed and unpacked numbers, an explicit default data_location and none.
 */
import { type MessageField, type MessageType, messageOf, wireTypeOf } from './schema.ts';

export interface Meaning {
  [field: string]: (Meaning | string)[];
}

export function canonical(bytes: Uint8Array, type: MessageType): Meaning {
  const found: Meaning = {};
  for (let at = 0; at < bytes.length; ) {
    const tagStart = at;
    const tag = varint(bytes, at);
    const [number, wireType] = [Number(tag.value >> 3n), Number(tag.value & 7n)];
    const { start, end } = payload(bytes, tag.end, wireType);
    const field = type.fieldsById[number];
    const value = bytes.subarray(start, end);
    if (!field) add(found, 'unknown', hex(bytes.subarray(tagStart, end)));
    else if (field.name !== 'data_location' || value[0] !== 0) {
      for (const meaning of meanings(field, wireType, value)) add(found, field.name, meaning);
    }
    at = end;
  }
  return Object.fromEntries(Object.entries(found).sort(([a], [b]) => (a < b ? -1 : 1)));
}

function add(meaning: Meaning, name: string, value: Meaning | string): void {
  (meaning[name] ??= []).push(value);
}

/** One entry, or those of a packed list. */
function meanings(field: MessageField, wireType: number, value: Uint8Array): (Meaning | string)[] {
  const message = messageOf(field);
  if (message) return [canonical(value, message)];
  const own = wireTypeOf(field);
  if (own === 2) return [hex(value)];
  if (wireType !== 2) return [own === 0 ? String(varint(value, 0).value) : hex(value)];
  const list: string[] = [];
  for (let at = 0; at < value.length; ) {
    const { end } = payload(value, at, own);
    list.push(own === 0 ? String(varint(value, at).value) : hex(value.subarray(at, end)));
    at = end;
  }
  return list;
}

function payload(bytes: Uint8Array, at: number, wireType: number): { start: number; end: number } {
  if (wireType === 0) return { start: at, end: varint(bytes, at).end };
  if (wireType === 1) return { start: at, end: at + 8 };
  if (wireType === 5) return { start: at, end: at + 4 };
  const length = varint(bytes, at);
  return { start: length.end, end: length.end + Number(length.value) };
}

function varint(bytes: Uint8Array, at: number): { value: bigint; end: number } {
  let value = 0n;
  for (let i = 0; ; i++) {
    const byte = bytes[at + i] ?? 0;
    value |= BigInt(byte & 127) << BigInt(7 * i);
    if (byte < 128) return { value: BigInt.asUintN(64, value), end: at + i + 1 };
  }
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
