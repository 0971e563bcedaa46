/**
 * Where packed tokens stand on each axis of their positions: the tables by which `m-rope` scores them; see `contract.ts`.
 *
 * A *line* is the tokens of one segment that share their places on all axes but the last, such as a row of one frame; a *column* those that share
 * the last. Both may be of any length and come cut into rows of one width, so that a product can take all of them at once.
 */
import { assert } from '../errors.ts';

/** Lines, or columns, cut into K rows of w tokens. */
export interface Sweep {
  /** w */
  readonly width: number;
  /** [axes, K] int32: where each row stands on each of its axes, as an index into that axis' positions, B·M·X of them. */
  readonly places: Int32Array;
  /** [K, w] int32: tokens of each row, counted over B·M·T; its first token again where it has fewer. */
  readonly tokens: Int32Array;
}

export interface AxisTables {
  /** By axis: [B, M, X] int64, the positions that tokens of a segment have on it, each once; 0 for padding. */
  readonly positions: readonly BigInt64Array[];
  readonly lines: Sweep;
  readonly columns: Sweep;
  /** [2, B·M·T] int32: where each token stands among the tokens of lines, and of columns; 0 for padding. */
  readonly order: Int32Array;
}

/** Extents of the packed part: all B·M segments have room for T tokens, whose positions are A numbers. */
export interface AxisExtents {
  readonly segments: number;
  readonly tokens: number;
  readonly axes: number;
}

/**
 * @param slots [B, M·T]; -1 for padding
 * @param positions [B, M·T, A]
 */
export function axisTables({ segments, tokens, axes }: AxisExtents, slots: BigInt64Array, positions: BigInt64Array): AxisTables {
  assert(axes > 1, `${axes} axes have no lines`);
  const known = Array.from({ length: axes }, () => Array.from({ length: segments }, () => new Map<bigint, number>()));
  const lines: Row[] = [];
  const columns: Row[] = [];
  for (let segment = 0; segment < segments; segment++) {
    const [byLine, byColumn] = [new Map<string, Row>(), new Map<string, Row>()];
    for (let token = segment * tokens; token < (segment + 1) * tokens; token++) {
      if ((slots[token] as bigint) < 0n) continue;
      const places = known.map((bySegment, axis) => {
        const places = bySegment[segment] as Map<bigint, number>;
        const position = positions[token * axes + axis] as bigint;
        const place = places.get(position) ?? places.size;
        places.set(position, place);
        return place;
      });
      put(byLine, lines, segment, places.slice(0, -1), token);
      put(byColumn, columns, segment, places.slice(-1), token);
    }
  }
  const lengths = known.map((bySegment) => Math.max(0, ...bySegment.map((places) => places.size)));
  const listed = known.map((bySegment, axis) => {
    const length = lengths[axis] as number;
    const list = new BigInt64Array(segments * length);
    bySegment.forEach((places, segment) => {
      list.set([...places.keys()], segment * length);
    });
    return list;
  });
  const order = new Int32Array(2 * segments * tokens);
  return {
    positions: listed,
    lines: cut(lines, lengths.slice(0, -1), order.subarray(0, segments * tokens)),
    columns: cut(columns, lengths.slice(-1), order.subarray(segments * tokens)),
    order,
  };
}

/** How many numbers of eight bytes the tables are made of, and how many of four. */
export function axisTableNumbers({ positions, lines, columns, order }: AxisTables): { positions: number; indices: number } {
  const length = (arrays: readonly { readonly length: number }[]): number => arrays.reduce((sum, array) => sum + array.length, 0);
  return { positions: length(positions), indices: length([lines.places, lines.tokens, columns.places, columns.tokens, order]) };
}

/** Bytes of the tables' buffers. */
export function axisTableBytes({ positions, lines, columns, order }: AxisTables): number {
  const buffers = [...positions, lines.places, lines.tokens, columns.places, columns.tokens, order];
  return buffers.reduce((sum, buffer) => sum + buffer.byteLength, 0);
}

interface Row {
  readonly segment: number;
  readonly places: readonly number[];
  readonly tokens: number[];
}

function put(rows: Map<string, Row>, list: Row[], segment: number, places: readonly number[], token: number): void {
  const key = places.join(' ');
  let row = rows.get(key);
  if (!row) {
    row = { segment, places, tokens: [] };
    rows.set(key, row);
    list.push(row);
  }
  row.tokens.push(token);
}

/** Cuts rows of any length into rows of the cheapest width, and notes in `order` where each token came to stand. */
function cut(rows: readonly Row[], lengths: readonly number[], order: Int32Array): Sweep {
  const width = cheapestWidth(rows.map((row) => row.tokens.length));
  const pieces = rows.flatMap((row) =>
    Array.from({ length: Math.ceil(row.tokens.length / width) }, (_, i) => ({
      ...row,
      tokens: row.tokens.slice(i * width, (i + 1) * width),
    })),
  );
  const places = new Int32Array(lengths.length * pieces.length);
  const tokens = new Int32Array(pieces.length * width);
  pieces.forEach((piece, k) => {
    lengths.forEach((length, axis) => {
      places[axis * pieces.length + k] = piece.segment * length + (piece.places[axis] as number);
    });
    for (let i = 0; i < width; i++) {
      const token = piece.tokens[i];
      tokens[k * width + i] = token ?? (piece.tokens[0] as number);
      if (token !== undefined) order[token] = k * width + i;
    }
  });
  return { width, places, tokens };
}

/** What a row costs beside its tokens, in tokens: its queries are gathered, r numbers for each head, where a token's codes are r. Measured. */
const ROW_COST = 12;

/** The width that makes rows of these lengths, cut to it and padded, cheapest; 0 if there are none. */
export function cheapestWidth(lengths: readonly number[]): number {
  const counts = new Map<number, number>();
  for (const length of lengths) counts.set(length, (counts.get(length) ?? 0) + 1);
  let best = { width: 0, cost: Number.POSITIVE_INFINITY };
  // Only widths that cut some length into equal parts can be best: between them padding grows and nothing falls.
  const widths = new Set(
    [...counts.keys()].flatMap((length) => Array.from({ length: Math.min(length, 64) }, (_, i) => Math.ceil(length / (i + 1)))),
  );
  for (const width of widths) {
    let cost = 0;
    for (const [length, count] of counts) cost += count * Math.ceil(length / width) * (width + ROW_COST);
    if (cost < best.cost) best = { width, cost };
  }
  return best.width;
}
