/** Generates ONNX files on the wire, from the .proto: any field of any message, with fields that no version of ONNX has in between. */
import fc, { type GeneratorValue } from 'fast-check';
import { type MessageField, type MessageType, MODEL, messageOf, scalarOf, wireTypeOf } from './schema.ts';

/** Bytes of models that have what every model must: a graph, an ir_version and an operator set. */
export const anyModel: fc.Arbitrary<Uint8Array> = fc.gen().map((generate) => new Generation(generate).message(MODEL, 0));

const REQUIRED = new Set(['ModelProto.ir_version', 'ModelProto.graph', 'ModelProto.opset_import']);
/** At least a few tensors must be long enough to be left in the file when a model is read. */
const LIKELY = new Set([
  'GraphProto.initializer',
  'GraphProto.node',
  'NodeProto.attribute',
  'TensorProto.raw_data',
  'SparseTensorProto.values',
]);
const MAX_MESSAGES = 60;
const MAX_DEPTH = 9;

class Generation {
  readonly #generate: GeneratorValue;
  #messages = 0;

  constructor(generate: GeneratorValue) {
    this.#generate = generate;
  }

  message(type: MessageType, depth: number): Uint8Array {
    this.#messages++;
    const parts: Uint8Array[] = [];
    const oneofs = new Set<string>();
    let long = false;
    for (const field of type.fieldsArray) {
      const name = `${type.name}.${field.name}`;
      const isWanted = REQUIRED.has(name) || this.#chance(LIKELY.has(name) ? 0.7 : 0.25);
      if (!isWanted || (field.partOf && oneofs.has(field.partOf.name)) || (long && /external|location/.test(field.name))) continue;
      if (messageOf(field) && !REQUIRED.has(name) && (this.#messages >= MAX_MESSAGES || depth >= MAX_DEPTH)) continue;
      if (field.partOf) oneofs.add(field.partOf.name);
      const bytes = this.#field(field, depth, REQUIRED.has(name));
      long ||= field.name === 'raw_data' && bytes.length >= 1024;
      parts.push(bytes);
    }
    if (this.#chance(0.3)) parts.push(this.#unknownField());
    // Protobuf promises readers nothing about order.
    if (this.#chance(0.2)) parts.reverse();
    return concat(parts);
  }

  #field(field: MessageField, depth: number, required: boolean): Uint8Array {
    const count = field.repeated ? this.#generate(fc.integer, { min: required ? 1 : 0, max: 3 }) : 1;
    const message = messageOf(field);
    const values = Array.from({ length: count }, () => (message ? this.message(message, depth + 1) : this.#scalar(field, required)));
    const wireType = wireTypeOf(field);
    // Lists of numbers come packed or not, whatever the schema says: readers must take both.
    if (field.repeated && wireType !== 2 && count > 0 && this.#chance(0.5)) return lengthDelimited(field.id, concat(values));
    return concat(values.map((value) => (wireType === 2 ? lengthDelimited(field.id, value) : concat([tag(field.id, wireType), value]))));
  }

  /** Encoded, without tag and length. */
  #scalar(field: MessageField, required: boolean): Uint8Array {
    switch (scalarOf(field)) {
      case 'int64':
        return varint(this.#generate(int64, required));
      case 'uint64':
        return varint(this.#generate(int64, false));
      case 'int32':
        return varint(BigInt(this.#generate(fc.integer)));
      case 'enum':
        return varint(BigInt(this.#generate(fc.constantFrom, 0, 1, 2, 5, 99)));
      case 'float':
        return new Uint8Array(Float32Array.of(this.#generate(fc.float, { noNaN: true })).buffer);
      case 'double':
        return new Uint8Array(Float64Array.of(this.#generate(fc.double, { noNaN: true })).buffer);
      case 'string':
        return new TextEncoder().encode(this.#generate(fc.string, { unit: 'grapheme', maxLength: 8 }));
      case 'bytes':
        return this.#bytes(field.name === 'raw_data' && this.#chance(0.5) ? this.#generate(fc.integer, { min: 1024, max: 3000 }) : 8);
    }
  }

  #bytes(length: number): Uint8Array {
    const seed = this.#generate(fc.integer, { min: 0, max: 255 });
    return Uint8Array.from({ length }, (_, i) => seed + 37 * i);
  }

  #unknownField(): Uint8Array {
    const number = this.#generate(fc.constantFrom, 200, 4095, 536_870_911);
    const wireType = this.#generate(fc.constantFrom, 0, 1, 2, 5);
    if (wireType === 0) return concat([tag(number, 0), varint(this.#generate(int64, false))]);
    const length = wireType === 1 ? 8 : wireType === 5 ? 4 : this.#generate(fc.constantFrom, 0, 5, 2000);
    return wireType === 2 ? lengthDelimited(number, this.#bytes(length)) : concat([tag(number, wireType), this.#bytes(length)]);
  }

  #chance(probability: number): boolean {
    return this.#generate(fc.integer, { min: 0, max: 99 }) >= 100 - 100 * probability;
  }
}

/** Any 64 bits, the ends often; `positive`: never 0. */
function int64(positive: boolean): fc.Arbitrary<bigint> {
  if (positive) return fc.bigInt({ min: 1n, max: 2n ** 63n - 1n });
  const extremes = fc.constantFrom(-(2n ** 63n), 2n ** 63n - 1n, 2n ** 53n + 1n, -1n, 0n);
  return fc.oneof(extremes, fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }));
}

export function varint(value: bigint): Uint8Array {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, value);
  for (; rest > 127n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  bytes.push(Number(rest));
  return Uint8Array.from(bytes);
}

export const tag = (number: number, wireType: number): Uint8Array => varint(BigInt(number * 8 + wireType));

export function lengthDelimited(number: number, payload: Uint8Array): Uint8Array {
  return concat([tag(number, 2), varint(BigInt(payload.length)), payload]);
}

export function concat(parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}
