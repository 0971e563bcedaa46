/** A slow, plain twin of CacheStore: a list of tokens for each sequence, and for each whether it stands in the window or in which segment. */
import { newRowsName, PRESENT_POSITIONS, rawKeysName } from '../../src/contract.ts';
import type { Encoder, Factors } from '../../src/encode/factor.ts';
import { toFloat16 } from '../../src/encode/quantise.ts';
import type { ResolvedCacheOptions } from '../../src/options.ts';
import { Tensor } from '../../src/ort.ts';
import type { Span } from '../../src/prefill.ts';
import type { ModelShape } from '../../src/shape.ts';

export interface PlainToken {
  readonly slot: number;
  readonly position: number;
  readonly isPadding: boolean;
  /** Number of the segment, over all sequences; undefined: in the window. */
  segment?: number;
}

interface PlainSpan {
  readonly sequence: number;
  readonly start: number;
  readonly end: number;
  readonly prompt: number;
}

/** A number that tells layer, kind, sequence, slot and column; all of them are whole, and below 2048, so that half precision holds them. */
export function cell(l: number, kind: 'raw' | 'key' | 'value', b: number, slot: number, column: number): number {
  return ((l * 17 + { raw: 1, key: 5, value: 11 }[kind] + b * 29 + slot * 37 + column * 53) % 199) - 99;
}

/** Positions differ from slots, as they do in padded sequences and in models that count from one. */
export function positionOf(b: number, slot: number): number {
  return 1000 * b + slot + 3;
}

export class PlainStore {
  readonly sequences: PlainToken[][];
  readonly #options: ResolvedCacheOptions;
  #open: PlainSpan[] = [];
  #numSegments = 0;

  constructor(batch: number, options: ResolvedCacheOptions) {
    this.sequences = Array.from({ length: batch }, () => []);
    this.#options = options;
  }

  get numSlots(): number {
    return this.sequences[0]?.length ?? 0;
  }

  begin(spans: readonly (readonly Span[])[], mask: readonly (readonly number[])[]): void {
    const at = this.numSlots;
    spans.forEach((row, sequence) => {
      const all = [...(this.sequences[sequence] ?? []).map((token) => (token.isPadding ? 0 : 1)), ...(mask[sequence] ?? [])];
      const firstToken = Math.max(0, all.indexOf(1));
      for (const { start, end } of row) {
        const trimmed = Math.max(at + start, firstToken + this.#options.sink);
        if (trimmed < at + end) this.#open.push({ sequence, start: trimmed, end: at + end, prompt: at });
      }
    });
  }

  append(mask: readonly (readonly number[])[]): void {
    mask.forEach((row, b) => {
      for (const visible of row) {
        const slot = this.sequences[b]?.length ?? 0;
        this.sequences[b]?.push({ slot, position: positionOf(b, slot), isPadding: !visible });
      }
    });
  }

  compact(): void {
    const { recent, compactAt, basisPer } = this.#options;
    const due = this.#open.filter(
      (span) =>
        span.end <= this.numSlots - recent &&
        (compactAt === 'span' || this.#open.every((other) => other.sequence !== span.sequence || other.end <= this.numSlots)),
    );
    const segmentOf = new Map<string, number>();
    for (const span of due) {
      const together = `${span.sequence} ${span.prompt}`;
      if (basisPer === 'image' || !segmentOf.has(together)) segmentOf.set(together, this.#numSegments++);
      for (const token of this.sequences[span.sequence] ?? []) {
        if (token.slot >= span.start && token.slot < span.end) token.segment = segmentOf.get(together) as number;
      }
    }
    this.#open = this.#open.filter((span) => !due.includes(span));
  }

  /** Whether `crop(length)` would take a segment apart. */
  cuts(length: number): boolean {
    return this.sequences.some((tokens) => {
      const before = new Set(tokens.slice(0, length).map((token) => token.segment));
      return tokens.slice(length).some(({ segment }) => segment !== undefined && before.has(segment));
    });
  }

  crop(length: number): void {
    for (const tokens of this.sequences) tokens.splice(length);
    this.#open = this.#open.filter((span) => span.end <= length);
  }

  /** Image tokens whose keys before rotary embedding are kept. */
  get pendingTokens(): number {
    return this.#open.reduce((sum, span) => sum + span.end - span.start, 0);
  }
}

/** What a packed decoder would return for `numTokens` new tokens of each sequence from slot `at` on. */
export function decoderOutputs(shape: ModelShape, batch: number, at: number, numTokens: number): Record<string, Tensor> {
  const outputs: Record<string, Tensor> = {};
  const rows = (l: number, kind: 'raw' | 'key' | 'value'): Float32Array => {
    const { numKvHeads, headDim } = shape.layers[l] as ModelShape['layers'][number];
    const out = new Float32Array(batch * numKvHeads * numTokens * headDim);
    for (let i = 0; i < out.length; i++) {
      const [d, n, h] = [i % headDim, Math.floor(i / headDim) % numTokens, Math.floor(i / headDim / numTokens) % numKvHeads];
      out[i] = cell(l, kind, Math.floor(i / headDim / numTokens / numKvHeads), at + n, h * headDim + d);
    }
    return out;
  };
  shape.layers.forEach(({ index, numKvHeads, headDim }, l) => {
    const dims = [batch, numKvHeads, numTokens, headDim];
    const typed = (values: Float32Array): Tensor =>
      shape.windowType === 'float16' ? new Tensor('float16', toFloat16(values), dims) : new Tensor('float32', values, dims);
    outputs[newRowsName(index, 'key')] = typed(rows(l, 'key'));
    outputs[newRowsName(index, 'value')] = typed(rows(l, 'value'));
    outputs[rawKeysName(index)] = new Tensor('float32', rows(l, 'raw'), dims);
  });
  const positions = Array.from({ length: batch * numTokens }, (_, i) => positionOf(Math.floor(i / numTokens), at + (i % numTokens)));
  outputs[PRESENT_POSITIONS] = new Tensor('int64', BigInt64Array.from(positions.map(BigInt)), [batch, numTokens]);
  return outputs;
}

/** Keeps the first `rank` columns and drops the others, so that what a packed token reads is known without a factorisation. */
export const FIRST_COLUMNS: Encoder = {
  factor(rows, numTokens, width, wanted): Promise<Factors> {
    const rank = Math.min(wanted, numTokens, width);
    const codes = Float32Array.from({ length: numTokens * rank }, (_, i) => rows[Math.floor(i / rank) * width + (i % rank)] as number);
    const basis = Float32Array.from({ length: rank * width }, (_, i) => (Math.floor(i / width) === i % width ? 1 : 0));
    return Promise.resolve({ codes, basis, rank, lostEnergy: 0, singularValues: new Float32Array(rank) });
  },
  dispose: () => Promise.resolve(),
};
