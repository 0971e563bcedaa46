/**
 * A slow, plain cache for tests: keeps every token dense and, before each step, deals the past out at random to packed segments and the
 * window, in any order, with unused rows between. Packing is exact: full rank, in a random orthogonal basis.
 */
import * as ort from 'onnxruntime-node';
import {
  axisName,
  basisName,
  codesName,
  MOST_NEW,
  newRowsName,
  PACKED_ORDER,
  PACKED_POSITIONS,
  PACKED_SLOTS,
  PRESENT_POSITIONS,
  rawKeysName,
  WINDOW_SLOTS,
  windowName,
} from '../../src/contract.ts';
import { DataType, floatTensor } from '../../src/onnx/index.ts';
import { type BasisType, type CodeType, columnsByAxis, type ModelShape, packsRawKeys, type RotaryMode } from '../../src/shape.ts';
import { floats, numbers } from './run.ts';

export interface DealOptions {
  readonly rotary: RotaryMode;
  readonly codes?: CodeType;
  readonly basis?: BasisType;
  /** Never an empty packed part or window: one masked row instead. */
  readonly dummyRows?: boolean;
  /** Rows of segments at most. */
  readonly maxSegments?: number;
  /** Deals everything to the window (`dense`) or everything to segments (`packed`); default: at random. */
  readonly deal?: 'dense' | 'packed';
  /** In `m-rope`: whether every step scores by axes, or none does; default: at random. */
  readonly byAxes?: boolean;
}

interface Token {
  readonly slot: number;
  /** On one axis or several. */
  readonly position: readonly number[];
  /** By layer: [W] each. */
  readonly keys: readonly Float32Array[];
  readonly rawKeys: readonly Float32Array[];
  readonly values: readonly Float32Array[];
}

export class PlainCache {
  readonly #shape: ModelShape;
  readonly #options: DealOptions;
  readonly #random: () => number;
  readonly #reflections = new Map<string, Reflection[]>();
  /** By sequence. */
  readonly #tokens: Token[][];

  constructor(shape: ModelShape, numSequences: number, options: DealOptions, random: () => number) {
    this.#shape = shape;
    this.#options = options;
    this.#random = random;
    this.#tokens = Array.from({ length: numSequences }, () => []);
  }

  /** Takes the new rows of a step whose first new slot was `firstSlot`. */
  append(results: ort.InferenceSession.ReturnType, firstSlot: number): void {
    const late = packsRawKeys(this.#options.rotary);
    const numNew = results[newRowsName(this.#shape.layers[0]?.index ?? 0, 'key')]?.dims[2] ?? 0;
    const all = this.#shape.layers.map(({ index }) => ({
      key: numbers(results[newRowsName(index, 'key')]),
      value: numbers(results[newRowsName(index, 'value')]),
      raw: late ? numbers(results[rawKeysName(index)]) : undefined,
    }));
    const positions = late ? (results[PRESENT_POSITIONS]?.data as BigInt64Array) : undefined;
    const axes = this.#shape.positionAxes ?? 1;
    for (const [b, tokens] of this.#tokens.entries()) {
      for (let n = 0; n < numNew; n++) {
        const row = (rows: Float32Array, l: number): Float32Array => {
          const { numKvHeads, headDim } = this.#shape.layers[l] as ModelShape['layers'][number];
          const out = new Float32Array(numKvHeads * headDim);
          for (let h = 0; h < numKvHeads; h++) {
            const at = ((b * numKvHeads + h) * numNew + n) * headDim;
            out.set(rows.subarray(at, at + headDim), h * headDim);
          }
          return out;
        };
        tokens.push({
          slot: firstSlot + n,
          position: Array.from({ length: axes }, (_, a) => Number(positions?.[(b * numNew + n) * axes + a] ?? 0)),
          keys: all.map((rows, l) => row(rows.key, l)),
          values: all.map((rows, l) => row(rows.value, l)),
          rawKeys: all.map((rows, l) => (rows.raw ? row(rows.raw, l) : new Float32Array(0))),
        });
      }
    }
  }

  /** The packed inputs and the window for the next step. */
  feeds(): Record<string, ort.Tensor> {
    const { rotary, dummyRows, maxSegments = 3, deal } = this.#options;
    const numSegments = Math.floor(this.#below(maxSegments + 1));
    const dealt = this.#tokens.map((tokens) => this.#deal(tokens, numSegments, deal));
    const slotsPerRow = Math.max(1, numSegments);
    const segmentSize = Math.max(dummyRows ? 1 : 0, ...dealt.flatMap(({ segments }) => segments.map((segment) => segment.length)));
    const windowSize = Math.max(dummyRows ? 1 : 0, ...dealt.map(({ window }) => window.length));
    const batch = dealt.length;

    const feeds: Record<string, ort.Tensor> = {
      [WINDOW_SLOTS]: int64(
        dealt.flatMap(({ window }) => padded(window, windowSize).map((token) => token?.slot ?? -1)),
        [batch, windowSize],
      ),
    };
    const packed = dealt.map(({ segments }) => padded(segments, slotsPerRow).map((segment) => padded(segment ?? [], segmentSize)));
    const packedList = packed.flatMap((segments) => segments.flat());
    feeds[PACKED_SLOTS] = int64(
      packedList.map((token) => token?.slot ?? -1),
      [batch, slotsPerRow * segmentSize],
    );
    if (packsRawKeys(rotary)) {
      const axes = this.#shape.positionAxes ?? 1;
      feeds[PACKED_POSITIONS] = int64(
        packedList.flatMap((token) => token?.position ?? new Array<number>(axes).fill(0)),
        [batch, slotsPerRow * segmentSize, ...(axes > 1 ? [axes] : [])],
      );
      if (rotary === 'm-rope') Object.assign(feeds, this.#axisFeeds(packed, segmentSize, axes));
    }

    const windowType = this.#shape.windowType === 'float16' ? DataType.FLOAT16 : DataType.FLOAT;
    for (const [l, { index, numKvHeads, headDim }] of this.#shape.layers.entries()) {
      const width = numKvHeads * headDim;
      for (const side of ['key', 'value'] as const) {
        const windowRows = new Float32Array(batch * windowSize * width);
        for (const [b, { window }] of dealt.entries()) {
          for (const [s, token] of window.entries()) {
            if (!token) continue;
            const row = (side === 'key' ? token.keys : token.values)[l] as Float32Array;
            for (let h = 0; h < numKvHeads; h++) {
              windowRows.set(row.subarray(h * headDim, (h + 1) * headDim), ((b * numKvHeads + h) * windowSize + s) * headDim);
            }
          }
        }
        feeds[windowName(index, side)] = floats(windowType, windowRows, [batch, numKvHeads, windowSize, headDim]);

        // r = 0 where nothing is packed, and a column more than needed now and then.
        const rank = segmentSize === 0 ? 0 : width + Math.floor(this.#below(2));
        const codes = new Float32Array(batch * slotsPerRow * segmentSize * rank);
        const basis = new Float32Array(batch * slotsPerRow * width * rank);
        for (const [place, segment] of packed.flat().entries()) {
          if (rank === 0) continue;
          const { v, basis: columns } = this.#reflection(numKvHeads, headDim, rank);
          const order =
            (side === 'key' && rotary === 'm-rope' && this.#shape.axisColumns && columnsByAxis(this.#shape.axisColumns)) || undefined;
          const ordered = order ? columns.map((_, i) => columns[i - (i % headDim) + (order[i % headDim] as number)] as number) : columns;
          basis.set(ordered, place * width * rank);
          for (const [t, token] of segment.entries()) {
            if (!token) continue;
            const keys = packsRawKeys(rotary) ? token.rawKeys : token.keys;
            const row = (side === 'key' ? keys : token.values)[l] as Float32Array;
            const dot = row.reduce((sum, x, w) => sum + x * (v[w] as number), 0);
            codes.set(
              row.map((x, w) => x - 2 * dot * (v[w] as number)),
              (place * segmentSize + t) * rank,
            );
          }
        }
        feeds[codesName(index, side)] = asType(this.#options.codes ?? 'float32', codes, [batch, slotsPerRow, segmentSize, rank]);
        feeds[basisName(index, side)] = asType(this.#options.basis ?? 'float32', basis, [batch, slotsPerRow, numKvHeads, rank, headDim]);
      }
    }
    return feeds;
  }

  /** Where packed tokens stand on each axis: each segment's places in any order, lines and columns cut into rows of any width. */
  #axisFeeds(
    packed: readonly (readonly (readonly (Token | undefined)[])[])[],
    segmentSize: number,
    axes: number,
  ): Record<string, ort.Tensor> {
    const [batch, perRow] = [packed.length, packed[0]?.length ?? 0];
    const segments = packed.flat();
    const all = segments.flat();
    const places = Array.from({ length: axes }, (_, axis) =>
      segments.map((segment) => [...new Set(segment.flatMap((token) => (token ? [token.position[axis] as number] : [])))]),
    );
    const longest = places.map((lists) => Math.max(0, ...lists.map((list) => list.length)));
    const placeOf = (t: number, axis: number): number => {
      const segment = Math.floor(t / segmentSize);
      return (
        segment * (longest[axis] as number) +
        ((places[axis] as number[][])[segment] as number[]).indexOf((all[t] as Token).position[axis] as number)
      );
    };
    const feeds: Record<string, ort.Tensor> = {};
    const order: number[][] = [];
    for (const [name, own] of [
      ['line', longest.map((_, axis) => axis).slice(0, -1)],
      ['column', [axes - 1]],
    ] as const) {
      const width = all.some(Boolean) ? 1 + Math.floor(this.#below(4)) : 0;
      const rows = new Map<string, number[]>();
      for (const t of all.keys()) {
        if (!all[t]) continue;
        const at = own.map((axis) => placeOf(t, axis)).join();
        const n = [...rows.keys()].filter((key) => key.startsWith(`${at} `)).length;
        const open = rows.get(`${at} ${n - 1}`);
        if (open && open.length < width) open.push(t);
        else rows.set(`${at} ${n}`, [t]);
      }
      const list = [...rows.values()];
      const tokens = list.flatMap((row) => Array.from({ length: width }, (_, i) => row[i] ?? 0));
      feeds[`packed.${name}_places`] = int32(
        own.flatMap((axis) => list.map((row) => placeOf(row[0] as number, axis))),
        [own.length, list.length],
      );
      feeds[`packed.${name}_tokens`] = int32(tokens, [list.length, width]);
      // Token 0 also pads rows; a row of its own has it first.
      order.push(
        [...all.keys()].map((t) =>
          all[t] ? list.findIndex((row) => row.includes(t)) * width + (list.find((row) => row.includes(t))?.indexOf(t) ?? 0) : 0,
        ),
      );
    }
    for (const [axis, lists] of places.entries())
      feeds[axisName(axis)] = int64(lists.flatMap((list) => padded(list, longest[axis] as number).map((p) => p ?? 0)), [batch, perRow, longest[axis] as number]); // biome-ignore format: a list
    feeds[PACKED_ORDER] = int32(order.flat(), [2, all.length]);
    const { byAxes = this.#below(2) < 1 } = this.#options;
    feeds[MOST_NEW] = int64([byAxes && all.some(Boolean) ? 1000 : 0], [1]);
    return feeds;
  }

  /**
   * A basis [Hkv, r, D] that is a reflection, I - 2·v·vᵀ: orthogonal, random, and cheap to apply, since it is its own inverse. A few are
   * made for each size and used again and again.
   */
  #reflection(numKvHeads: number, headDim: number, rank: number): Reflection {
    const key = `${numKvHeads} ${headDim} ${rank}`;
    const made = this.#reflections.get(key) ?? [];
    this.#reflections.set(key, made);
    const place = Math.floor(this.#below(3));
    return (made[place] ??= reflection(numKvHeads, headDim, rank, this.#random));
  }

  /** Cuts a shuffled past into segments and a window; undefined stands for an unused row. */
  #deal(tokens: readonly Token[], numSegments: number, deal: DealOptions['deal']): { segments: Token[][]; window: (Token | undefined)[] } {
    const order = [...tokens];
    for (let i = order.length - 1; i > 0; i--) {
      const j = Math.floor(this.#below(i + 1));
      [order[i], order[j]] = [order[j] as Token, order[i] as Token];
    }
    const segments: Token[][] = [];
    const share = (left: number, last: boolean): number => (last ? left : Math.floor(this.#below(left + 1)));
    const wanted = deal === 'dense' ? 0 : deal === 'packed' ? Math.max(1, numSegments) : numSegments;
    for (let m = 0; m < wanted; m++) segments.push(order.splice(0, share(order.length, deal === 'packed' && m === wanted - 1)));
    const window: (Token | undefined)[] = order;
    if (this.#below(2) < 1) window.splice(Math.floor(this.#below(window.length + 1)), 0, undefined);
    return { segments, window };
  }

  #below(limit: number): number {
    return ((this.#random() + 1) / 2) * limit;
  }
}

function padded<T>(list: readonly (T | undefined)[], length: number): (T | undefined)[] {
  return Array.from({ length }, (_, i) => list[i]);
}

function int64(values: readonly number[], dims: readonly number[]): ort.Tensor {
  return new ort.Tensor('int64', BigInt64Array.from(values.map(BigInt)), dims);
}

function int32(values: readonly number[], dims: readonly number[]): ort.Tensor {
  return new ort.Tensor('int32', Int32Array.from(values), dims);
}

function asType(type: CodeType | BasisType, values: Float32Array, dims: readonly number[]): ort.Tensor {
  if (type === 'int8') return new ort.Tensor('int8', Int8Array.from(values, Math.round), dims);
  if (type === 'float32') return new ort.Tensor('float32', values, dims);
  const bytes = floatTensor('', [values.length], values, DataType.FLOAT16).rawData as Uint8Array;
  return new ort.Tensor('float16', new Uint16Array(bytes.slice().buffer), dims);
}

interface Reflection {
  /** [W], of length 1. */
  readonly v: Float64Array;
  readonly basis: Float32Array;
}

function reflection(numKvHeads: number, headDim: number, rank: number, random: () => number): Reflection {
  const width = numKvHeads * headDim;
  const drawn = Float64Array.from({ length: width }, random);
  const norm = Math.hypot(...drawn);
  const v = drawn.map((x) => x / norm);
  const basis = new Float32Array(width * rank);
  for (let h = 0; h < numKvHeads; h++) {
    for (let r = 0; r < width; r++) {
      for (let d = 0; d < headDim; d++) {
        const column = h * headDim + d;
        basis[(h * rank + r) * headDim + d] = (r === column ? 1 : 0) - 2 * (v[r] as number) * (v[column] as number);
      }
    }
  }
  return { v, basis };
}
