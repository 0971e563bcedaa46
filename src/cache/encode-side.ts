/** The way from factors to what is held: numbers of the wanted types, levels in bytes, steps and zeros. */

import { stepRows } from '../contract.ts';
import { columnOf } from '../encode/columns.ts';
import type { Factors } from '../encode/factor.ts';
import { type Column, quantiseColumn } from '../encode/levels.ts';
import { quantiseCodes, quantiseSymmetric, toFloat16 } from '../encode/quantise.ts';
import { type Bits, bitsOf, bytesOf, fieldsOf, packLevels, type Widths } from '../encode/widths.ts';
import { assert } from '../errors.ts';
import type { BasisType, CodeType } from '../shape.ts';
import { type BasisArray, type CodeArray, type Format, makeArray, type SideLayout, stepLength } from './format.ts';

/** A segment's factors as they are held. */
export interface EncodedSide {
  /** [T, code length]. */
  readonly codes: CodeArray;
  /** [basis rows, W]. */
  readonly basis: BasisArray;
  /** [K, r]: see `contract.ts`; empty where the types need none. */
  readonly steps: Float32Array;
  /** Share of the energy left out by truncation and by levels, 0 to 1; rounding to float16 and int8 codes beside a float basis are not counted. */
  readonly lostEnergy: number;
}

/** Factors in a format's element types, at most as many columns as the layout has. */
export function encodeSide(factors: Factors, format: Format, layout: SideLayout, width: number): EncodedSide {
  const { codes, basis } = format;
  if (stepRows(codes, basis)) return encodeInSteps(factors, format, layout, width);
  const plain = codes === 'int8' ? quantiseCodes(factors.codes, factors.basis, factors.rank) : factors;
  return {
    codes: codes === 'float16' ? toFloat16(plain.codes as Float32Array) : plain.codes,
    basis: basis === 'float16' ? toFloat16(plain.basis) : plain.basis,
    steps: new Float32Array(0),
    lostEnergy: factors.lostEnergy,
  };
}

/** Codes or basis, or both, as levels whose steps are kept apart. */
function encodeInSteps(factors: Factors, format: Format, layout: SideLayout, width: number): EncodedSide {
  const { split, rank } = layout;
  const numTokens = factors.rank ? factors.codes.length / factors.rank : 0;
  const [codeMaker, basisMaker] = [levelMaker(format.codes, split?.codes), levelMaker(format.basis, split?.basis)];
  const steps = new Float32Array(stepLength(format, layout));
  const [columns, rows]: [Levelled[], Levelled[]] = [[], []];
  let [factored, missed] = [0, 0];
  for (let c = 0; c < factors.rank; c++) {
    const { column, row, columnEnergy, rowEnergy } = columnOf(factors, c, width);
    factored += columnEnergy * rowEnergy;
    if (c >= rank) {
      missed += columnEnergy * rowEnergy;
      continue;
    }
    const [code, base] = [codeMaker(column, c), basisMaker(row, c)];
    columns.push(code);
    rows.push(base);
    missed += code.error * rowEnergy + base.error * columnEnergy;
    steps[c] = code.step * base.step;
    const zeros = [...(format.basis === 'mixed' ? [base.zero] : []), ...(format.codes === 'mixed' ? [code.zero] : [])];
    for (const [i, zero] of zeros.entries()) steps[(1 + i) * rank + c] = zero;
  }
  const { lostEnergy } = factors;
  return {
    codes: interleaved(format.codes, columns, split?.codes, numTokens),
    basis: stacked(format.basis, rows, split?.basis, width),
    steps,
    lostEnergy: factored > 0 ? Math.min(1, lostEnergy + ((1 - lostEnergy) * missed) / factored) : lostEnergy,
  };
}

/** A column as it will be held, with what it reads as: (number - zero) · step. */
interface Levelled {
  readonly numbers: Float32Array | Int8Array | Uint8Array;
  readonly step: number;
  readonly zero: number;
  readonly error: number;
}

/** Column c's numbers in a type; step and zero as the graph will read them, see {@link Field.factor}. */
function levelMaker(type: CodeType | BasisType, widths: Widths | undefined): (numbers: Float32Array, c: number) => Levelled {
  if (type === 'int8') return (numbers) => ({ ...quantiseSymmetric(numbers), zero: 0 });
  if (type !== 'mixed') return (numbers) => ({ numbers, step: 1, zero: 0, error: 0 });
  assert(widths, 'mixed without a split');
  const [bits, fields] = [bitsOf(widths), fieldsOf(widths)];
  return (numbers, c) => {
    const { levels, step, zero, error }: Column = quantiseColumn(numbers, bits[c] as Bits);
    const factor = fields[c]?.factor as number;
    return { numbers: levels, step: step / factor, zero: zero * factor, error };
  };
}

/** Columns side by side, [T, code length]. */
function interleaved(type: CodeType, columns: readonly Levelled[], widths: Widths | undefined, numTokens: number): CodeArray {
  const parts = asParts(type, columns, widths, numTokens);
  const length = type === 'mixed' ? bytesOf(widths as Widths) : columns.length;
  const out = makeArray(type === 'float16' ? 'float32' : type, numTokens * length);
  parts.forEach((part, c) => {
    for (let t = 0; t < numTokens; t++) out[t * length + c] = part[t] as number;
  });
  return type === 'float16' ? toFloat16(out as Float32Array) : out;
}

/** Rows one below the other, [basis rows, W]. */
function stacked(type: BasisType, rows: readonly Levelled[], widths: Widths | undefined, width: number): BasisArray {
  const parts = asParts(type, rows, widths, width);
  const out = makeArray(type === 'float16' ? 'float32' : type, parts.length * width);
  parts.forEach((part, c) => {
    out.set(part, c * width);
  });
  return type === 'float16' ? toFloat16(out as Float32Array) : out;
}

function asParts(
  type: CodeType | BasisType,
  levelled: readonly Levelled[],
  widths: Widths | undefined,
  length: number,
): ArrayLike<number>[] {
  const numbers = levelled.map((one) => one.numbers);
  return type === 'mixed' ? packLevels(numbers as Uint8Array[], widths as Widths, length) : numbers;
}
