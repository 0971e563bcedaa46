/** Turned-back moments against what they stand for: the squared errors of scores, query by query and token by token. */
import { describe, expect, it } from 'vitest';
import { MeanTurns } from '../../src/encode/unturned.ts';
import type { Turning } from '../../src/shape.ts';
import { gaussian } from './matrices.ts';

const [NUM_HEADS, HEAD_DIM, NUM_TOKENS, NUM_QUERIES] = [2, 8, 9, 11];

/** Rows of heads turned to their positions, the plain way. */
function turn(rows: Float32Array, positions: readonly number[], { interleaved, numTurned }: Turning, stretch = 1): Float32Array {
  const out = rows.slice();
  const width = rows.length / positions.length;
  positions.forEach((position, t) => {
    for (let h = 0; h < width / HEAD_DIM; h++) {
      for (let pair = 0; pair < numTurned / 2; pair++) {
        const angle = position * 10 ** (-pair / 1.5);
        const [i, j] = interleaved ? [2 * pair, 2 * pair + 1] : [pair, pair + numTurned / 2];
        const [x, y] = [rows[t * width + h * HEAD_DIM + i] as number, rows[t * width + h * HEAD_DIM + j] as number];
        out[t * width + h * HEAD_DIM + i] = stretch * (x * Math.cos(angle) - y * Math.sin(angle));
        out[t * width + h * HEAD_DIM + j] = stretch * (x * Math.sin(angle) + y * Math.cos(angle));
      }
    }
  });
  return out;
}

/** [Hkv, D, D]: the sum of q·qᵀ. */
function momentOf(queries: Float32Array): Float32Array {
  const out = new Float32Array(NUM_HEADS * HEAD_DIM * HEAD_DIM);
  for (let at = 0; at < queries.length; at += HEAD_DIM) {
    const h = (at / HEAD_DIM) % NUM_HEADS;
    for (let i = 0; i < HEAD_DIM; i++) {
      for (let j = 0; j < HEAD_DIM; j++) {
        const to = (h * HEAD_DIM + i) * HEAD_DIM + j;
        out[to] = (out[to] as number) + (queries[at + i] as number) * (queries[at + j] as number);
      }
    }
  }
  return out;
}

function meanTurns(raw: Float32Array, turned: Float32Array, numTokens: number, turning: Turning): MeanTurns {
  const turns = new MeanTurns(HEAD_DIM, turning);
  const width = raw.length / numTokens;
  for (let at = 0; at < raw.length; at += width) turns.add(raw.subarray(at, at + width), turned.subarray(at, at + width));
  return turns;
}

const LAYOUTS: readonly [string, Turning][] = [
  ['halves', { interleaved: false, numTurned: HEAD_DIM }],
  ['neighbours', { interleaved: true, numTurned: HEAD_DIM }],
  ['halves of the first columns', { interleaved: false, numTurned: 4 }],
  ['neighbours of the first columns', { interleaved: true, numTurned: 4 }],
];

describe.each(LAYOUTS)('pairs of %s', (_, turning) => {
  const positions = Array.from({ length: NUM_TOKENS }, (_, t) => 3 * t + 1);
  const raw = gaussian(NUM_TOKENS * NUM_HEADS * HEAD_DIM, 1);
  const queries = turn(
    gaussian(NUM_QUERIES * NUM_HEADS * HEAD_DIM, 2).map((value, i) => value * (1 + (i % 5))),
    Array.from({ length: NUM_QUERIES }, (_, n) => 40 + n),
    turning,
  );
  const moment = meanTurns(raw, turn(raw, positions, turning), NUM_TOKENS, turning).turnedBack(momentOf(queries));

  it('weigh an error before rotary embedding by what it does to scores behind it', () => {
    for (const seed of [5, 6, 7]) {
      const error = gaussian(NUM_HEADS * HEAD_DIM, seed);
      for (let h = 0; h < NUM_HEADS; h++) {
        let plain = 0;
        for (const position of positions) {
          const turned = turn(error, [position], turning);
          for (let n = 0; n < NUM_QUERIES; n++) {
            let score = 0;
            for (let d = 0; d < HEAD_DIM; d++)
              score += (queries[(n * NUM_HEADS + h) * HEAD_DIM + d] as number) * (turned[h * HEAD_DIM + d] as number);
            plain += score ** 2 / NUM_TOKENS;
          }
        }
        let weighed = 0;
        for (let i = 0; i < HEAD_DIM; i++)
          for (let j = 0; j < HEAD_DIM; j++)
            weighed +=
              (error[h * HEAD_DIM + i] as number) *
              (moment[(h * HEAD_DIM + i) * HEAD_DIM + j] as number) *
              (error[h * HEAD_DIM + j] as number);
        expect(weighed / plain).toBeCloseTo(1, 5);
      }
    }
  });

  it('come back where they were when turned forth, at one position', () => {
    const keys = raw.subarray(0, NUM_HEADS * HEAD_DIM);
    const one = meanTurns(keys, turn(keys, [7], turning), 1, turning);
    const before = momentOf(queries);
    const there = one.turnedBack(before);
    const back = one.turnedForth(there);
    expect(Math.max(...there.map((value, i) => Math.abs(value - (before[i] as number))))).toBeGreaterThan(1);
    expect(Math.max(...back.map((value, i) => Math.abs(value - (before[i] as number))))).toBeLessThan(1e-3);
  });

  it('do not change with tables that stretch', () => {
    const stretched = meanTurns(raw, turn(raw, positions, turning, turning.numTurned === HEAD_DIM ? 1.3 : 1), NUM_TOKENS, turning);
    const other = stretched.turnedBack(momentOf(queries));
    expect(Math.max(...other.map((value, i) => Math.abs(value - (moment[i] as number))))).toBeLessThan(1e-3);
  });

  it('come out the same whichever way a pair points, once every angle was met', () => {
    const everywhere = Array.from({ length: 4000 }, (_, t) => t * 100);
    const many = gaussian(everywhere.length * HEAD_DIM, 3);
    const all = meanTurns(many, turn(many, everywhere, turning), everywhere.length, turning);
    const [i, j] = turning.interleaved ? [0, 1] : [0, turning.numTurned / 2];
    const met = all.turnedBack(momentOf(queries));
    const [xx, yy, xy] = [met[i * HEAD_DIM + i], met[j * HEAD_DIM + j], met[i * HEAD_DIM + j]] as [number, number, number];
    expect(xx / yy).toBeCloseTo(1, 1);
    expect(xy / xx).toBeCloseTo(0, 1);
    const before = momentOf(queries);
    expect(xx + yy).toBeCloseTo((before[i * HEAD_DIM + i] as number) + (before[j * HEAD_DIM + j] as number), 1);
  });
});
