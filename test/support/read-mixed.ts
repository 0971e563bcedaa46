/** The slow, plain reader of held codes and bases: every number taken out of its byte one at a time, by the words of the contract. */
import type { Tensor } from 'onnxruntime-common';
import { basisName, basisWidthsName, codesName, codeWidthsName, type Side, stepsName } from '../../src/contract.ts';
import type { BasisType, CodeType } from '../../src/shape.ts';
import { numbers } from './run.ts';

export interface Types {
  readonly codes: CodeType;
  readonly basis: BasisType;
}

export interface Plain {
  readonly rank: number;
  /** [B, M, T, r] */
  readonly codes: Float64Array;
  /** [B, M, Hkv, r, D] */
  readonly basis: Float64Array;
}

/** Codes and basis whose product is the keys or values that these inputs stand for. */
export function readPlain(feeds: Readonly<Record<string, Tensor>>, layer: number, side: Side, types: Types): Plain {
  const read = (name: string): Tensor => {
    const tensor = feeds[name];
    if (!tensor) throw new Error(`no ${name}`);
    return tensor;
  };
  const [held, basis] = [read(codesName(layer, side)), read(basisName(layer, side))];
  const [batch = 0, segments = 0, tokens = 0, codeBytes = 0] = held.dims;
  const [, , numKvHeads = 0, basisBytes = 0, headDim = 0] = basis.dims;
  const codeWidths = types.codes === 'mixed' ? [...(read(codeWidthsName(layer, side)).data as BigInt64Array)].map(Number) : undefined;
  const basisWidths = types.basis === 'mixed' ? [...(read(basisWidthsName(layer, side)).data as BigInt64Array)].map(Number) : undefined;
  const rank = codeWidths ? columns(codeWidths) : basisWidths ? columns(basisWidths) : codeBytes;
  const steps = feeds[stepsName(layer, side)];
  const stepRows = steps?.dims[2] ?? 0;
  const step = (m: number, row: number, c: number): number => Number((steps as Tensor).data[(m * stepRows + row) * rank + c]);
  const zeroOfBasis = (m: number, c: number): number => (basisWidths ? step(m, 1, c) : 0);
  const zeroOfCodes = (m: number, c: number): number => (codeWidths ? step(m, stepRows - 1, c) : 0);

  const [codeNumbers, basisNumbers] = [values(held), values(basis)];
  const out: Plain = {
    rank,
    codes: new Float64Array(batch * segments * tokens * rank),
    basis: new Float64Array(batch * segments * numKvHeads * rank * headDim),
  };
  for (let m = 0; m < batch * segments; m++) {
    for (let c = 0; c < rank; c++) {
      for (let t = 0; t < tokens; t++) {
        const at = (i: number): number => codeNumbers[(m * tokens + t) * codeBytes + i] as number;
        const code = codeWidths ? level(at, codeWidths, c) : at(c);
        out.codes[(m * tokens + t) * rank + c] = code - zeroOfCodes(m, c);
      }
      for (let h = 0; h < numKvHeads; h++) {
        for (let d = 0; d < headDim; d++) {
          const at = (i: number): number => basisNumbers[((m * numKvHeads + h) * basisBytes + i) * headDim + d] as number;
          const entry = basisWidths ? level(at, basisWidths, c) : at(c);
          out.basis[((m * numKvHeads + h) * rank + c) * headDim + d] = (entry - zeroOfBasis(m, c)) * (steps ? step(m, 0, c) : 1);
        }
      }
    }
  }
  return out;
}

const columns = ([bytes8 = 0, bytes4 = 0, bytes2 = 0]: readonly number[]): number => bytes8 + 2 * bytes4 + 4 * bytes2;

/** Column c of a row of bytes, as a number: fields are read from the top of their byte down, the lowest one times what it was shifted by. */
function level(at: (i: number) => number, [bytes8 = 0, bytes4 = 0, bytes2 = 0]: readonly number[], c: number): number {
  if (c < bytes8) return at(c);
  if (c < bytes8 + 2 * bytes4) {
    const i = c - bytes8;
    return i < bytes4 ? Math.floor(at(bytes8 + i) / 16) : 16 * (at(bytes8 + i - bytes4) % 16);
  }
  const i = c - bytes8 - 2 * bytes4;
  const whole = at(bytes8 + bytes4 + (i % bytes2));
  const field = Math.floor(i / bytes2);
  return field === 3 ? 64 * (whole % 4) : Math.floor(whole / 4 ** (3 - field)) % 4;
}

function values(tensor: Tensor): ArrayLike<number> {
  return tensor.type === 'float16' ? numbers(tensor as never) : (tensor.data as Float32Array);
}
