/** Spans on their way into the packed part: what is kept of an image until it is complete, or of text until it is old, and when images are due. */
import { PRESENT_POSITIONS, rawKeysName } from '../contract.ts';
import { assert } from '../errors.ts';
import type { BasisPer, ResolvedCacheOptions } from '../options.ts';
import type { Tensor } from '../ort.ts';
import type { ModelShape } from '../shape.ts';
import type { WindowArray } from './window.ts';

/** Outputs of a packed decoder by name. */
export type Outputs = Readonly<Record<string, Tensor>>;

/** An image whose tokens are (partly) in the window, or text of one run that stands there. Slots [start, end) of one sequence. */
export interface OpenSpan {
  readonly sequence: number;
  readonly start: number;
  readonly end: number;
  /** First slot of the prompt that brought it. */
  readonly prompt: number;
  /** Keys before rotary embedding, one [T, W] per layer; none in `post-rope`, nor before the first token was run: images that only follow take no memory. */
  rawKeys: readonly Float32Array[];
  /** Rotary position of each token, [T, A]; likewise. */
  positions: Int32Array;
  /** Slots of its tokens, where those are not all of [start, end): some were evicted, or stand between images. Raw keys and positions are of these. */
  readonly slots?: readonly number[];
}

/** Slots of a span's tokens, those evicted left out. */
export function slotsOf({ start, end, slots }: OpenSpan): readonly number[] {
  return slots ?? Array.from({ length: end - start }, (_, t) => start + t);
}

/** Positions of an image's tokens, A numbers each: as they are, once the image was read. */
export function positionsOf(span: OpenSpan, axes: number): number[] {
  return span.positions.length ? [...span.positions] : new Array<number>(slotsOf(span).length * axes).fill(0);
}

/** Spans without the tokens at slots `gone[b]` of their sequence. What is left of an image still waits to be packed; one that lost all is forgotten. */
export function withoutEvicted(shape: ModelShape, spans: readonly OpenSpan[], gone: readonly ReadonlySet<number>[]): OpenSpan[] {
  return spans.flatMap((span) => partOf(shape, span, (slot) => !gone[span.sequence]?.has(slot)) ?? []);
}

/** A span of only some of its tokens, in buffers of their size; undefined if there are none. */
export function partOf(shape: ModelShape, span: OpenSpan, isKept: (slot: number) => boolean): OpenSpan | undefined {
  const before = slotsOf(span);
  const left = before.flatMap((slot, t) => (isKept(slot) ? [t] : []));
  if (left.length === before.length) return span;
  if (!left.length) return undefined;
  const rowsOf = <A extends Float32Array | Int32Array>(rows: A, width: number): A => {
    const out = new (rows.constructor as new (length: number) => A)(rows.length && left.length * width);
    if (rows.length) for (const [i, t] of left.entries()) out.set(rows.subarray(t * width, (t + 1) * width), i * width);
    return out;
  };
  const rawKeys = span.rawKeys.map((rows, l) => rowsOf(rows, (shape.layers[l]?.numKvHeads ?? 0) * (shape.layers[l]?.headDim ?? 0)));
  const positions = rowsOf(span.positions, span.positions.length / before.length);
  return { ...span, rawKeys, positions, slots: left.map((t) => before[t] as number) };
}

/** @param slots of its tokens; default: all of [start, end) */
export function openSpan(sequence: number, start: number, end: number, prompt: number, slots?: readonly number[]): OpenSpan {
  return { sequence, start, end, prompt, rawKeys: [], positions: new Int32Array(0), ...(slots && { slots }) };
}

/** Tokens for which raw keys and positions are kept. */
export function tokensKept(spans: readonly OpenSpan[]): number {
  return spans.reduce((sum, span) => sum + (span.rawKeys.length ? slotsOf(span).length : 0), 0);
}

/** Bytes of raw keys and positions as allocated. */
export function keptBytes(spans: readonly OpenSpan[]): number {
  return spans.flatMap(({ rawKeys, positions }) => [...rawKeys, positions]).reduce((sum, buffer) => sum + buffer.byteLength, 0);
}

/** Copies what is packed unless in `post-rope`, keys before rotary embedding and their positions, out of a run over the tokens from slot `at` on. */
export function keepRawKeys(shape: ModelShape, spans: readonly OpenSpan[], outputs: Outputs, at: number, numTokens: number): void {
  const open = spans.filter((span) => span.start < at + numTokens && span.end > at);
  if (!open.length) return;
  const positions = outputs[PRESENT_POSITIONS]?.data as BigInt64Array | undefined;
  assert(positions, `the decoder gave no ${PRESENT_POSITIONS}`);
  const axes = shape.positionAxes ?? 1;
  for (const span of open) {
    const slots = slotsOf(span);
    if (!span.rawKeys.length) {
      span.rawKeys = shape.layers.map(({ numKvHeads, headDim }) => new Float32Array(slots.length * numKvHeads * headDim));
      span.positions = new Int32Array(slots.length * axes);
    }
    /** Of each token of the run, its number in the span and in the run. */
    const places = slots.flatMap((slot, t) => (slot >= at && slot < at + numTokens ? [{ t, n: slot - at }] : []));
    for (const { t, n } of places) {
      for (let a = 0; a < axes; a++) span.positions[t * axes + a] = Number(positions[(span.sequence * numTokens + n) * axes + a]);
    }
    shape.layers.forEach(({ index, numKvHeads, headDim }, l) => {
      const raw = outputRows(outputs, rawKeysName(index));
      const target = span.rawKeys[l];
      assert(target && raw instanceof Float32Array, 'raw keys are float32');
      for (let h = 0; h < numKvHeads; h++) {
        for (const { t, n } of places) {
          const source = ((span.sequence * numKvHeads + h) * numTokens + n) * headDim;
          target.set(raw.subarray(source, source + headDim), (t * numKvHeads + h) * headDim);
        }
      }
    });
  }
}

/** Tokens that images begun before slot `seen` still lack: rows the window will be asked for next. */
export function tokensLacking(spans: readonly OpenSpan[], seen: number): number {
  return Math.max(0, ...spans.filter(({ start }) => start < seen).map(({ end }) => end - seen));
}

/** Spans to be packed now that `seen` slots are filled. With *context*, a sequence's spans wait for the last of them. */
export function dueSpans(spans: readonly OpenSpan[], seen: number, { recent, compactAt }: ResolvedCacheOptions): OpenSpan[] {
  const waiting = new Set(spans.filter((span) => span.end > seen).map((span) => span.sequence));
  return spans.filter((span) => span.end <= seen - recent && (compactAt === 'span' || !waiting.has(span.sequence)));
}

/** Spans that share a basis: each alone, or all that one prompt brought to a sequence. */
export function factoredTogether(spans: readonly OpenSpan[], basisPer: BasisPer): readonly (readonly OpenSpan[])[] {
  if (basisPer === 'image') return spans.map((span) => [span]);
  const groups = new Map<string, OpenSpan[]>();
  for (const span of spans) {
    const key = `${span.sequence} ${span.prompt}`;
    groups.set(key, [...(groups.get(key) ?? []), span]);
  }
  return [...groups.values()];
}

/** Rows of one output: floats, or the bits of float16 values. */
export function outputRows(outputs: Outputs, name: string): WindowArray {
  const data = outputs[name]?.data;
  assert(ArrayBuffer.isView(data), `the decoder gave no ${name}`);
  // Node versions with Float16Array hand fp16 over as such; its bits are what the window holds.
  return data instanceof Float32Array ? data : new Uint16Array(data.buffer, data.byteOffset, data.byteLength / 2);
}
