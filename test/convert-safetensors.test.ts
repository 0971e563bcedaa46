import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Float16Array } from '@petamoriken/float16';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { toHalf } from '../src/convert/half.ts';
import { SafetensorsFile } from '../src/convert/safetensors.ts';
import { AttentionPackError, FileFormatError } from '../src/errors.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'attentionpack-safetensors-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Entry {
  dtype: string;
  shape: number[];
  data_offsets: number[];
}

function fileBytes(header: unknown, data: Uint8Array): Uint8Array {
  const text = new TextEncoder().encode(typeof header === 'string' ? header : JSON.stringify(header));
  const bytes = new Uint8Array(8 + text.length + data.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
  bytes.set(text, 8);
  bytes.set(data, 8 + text.length);
  return bytes;
}

function opened(bytes: Uint8Array): SafetensorsFile {
  const file = path.join(folder, 'model.safetensors');
  writeFileSync(file, bytes);
  return new SafetensorsFile(file);
}

const entry = (begin: number, end: number, more: Partial<Entry> = {}): Entry => ({
  dtype: 'F32',
  shape: [(end - begin) / 4],
  data_offsets: [begin, end],
  ...more,
});

describe('SafetensorsFile', () => {
  it('reads any rows of any matrix', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 9 }), fc.nat(8), fc.nat(8), (rows, columns, a, b) => {
        const values = Float32Array.from({ length: rows * columns }, (_, i) => i - 3.5);
        const header = { __metadata__: { format: 'pt' }, w: entry(0, 4 * values.length, { shape: [rows, columns] }) };
        const file = opened(fileBytes(header, new Uint8Array(values.buffer)));
        const [start, end] = [Math.min(a, b) % rows, rows];
        expect([...file.rows('w', start, end)]).toEqual([...values.subarray(start * columns, end * columns)]);
        file.close();
      }),
      { numRuns: 40, seed: 1 },
    );
  });

  it('widens every float16 as IEEE says', () => {
    const halves = Uint16Array.from({ length: 65536 }, (_, i) => i);
    const file = opened(fileBytes({ w: { dtype: 'F16', shape: [65536], data_offsets: [0, 131072] } }, new Uint8Array(halves.buffer)));
    const expected = new Float16Array(halves.buffer);
    const found = file.rows('w', 0, 65536);
    for (let i = 0; i < 65536; i++) if (!Object.is(found[i], expected[i])) expect([i, found[i]]).toEqual([i, expected[i]]);
    file.close();
  });

  it('widens bfloat16 by its upper half', () => {
    const file = opened(fileBytes({ w: { dtype: 'BF16', shape: [2], data_offsets: [0, 4] } }, Uint8Array.of(0x80, 0x3f, 0x20, 0xc0)));
    expect([...file.rows('w', 0, 2)]).toEqual([1, -2.5]);
    file.close();
  });

  it.each<[string, Uint8Array, string]>([
    ['an empty file', new Uint8Array(0), '0 bytes'],
    ['a header longer than the file', fileBytes('{}', new Uint8Array(0)).fill(99, 0, 1), 'truncated'],
    ['a header of gigabytes', Uint8Array.of(0, 0, 0, 0, 1, 0, 0, 0, 1), 'header of'],
    ['a header that is no JSON', fileBytes('{"w":', new Uint8Array(0)), 'not JSON'],
    ['a header that is no object', fileBytes([], new Uint8Array(0)), 'not an object'],
    ['an entry without a shape', fileBytes({ w: { dtype: 'F32', data_offsets: [0, 4] } }, new Uint8Array(4)), 'needs dtype'],
    ['a negative offset', fileBytes({ w: entry(-4, 0, { shape: [1] }) }, new Uint8Array(4)), 'needs dtype'],
    ['a range unlike the shape', fileBytes({ w: entry(0, 8, { shape: [3] }) }, new Uint8Array(8)), 'takes 12 bytes'],
    ['an unknown type', fileBytes({ w: entry(0, 4, { dtype: 'F7' }) }, new Uint8Array(4)), "'F7'"],
    ['data cut short', fileBytes({ w: entry(0, 64) }, new Uint8Array(63)), 'truncated'],
    ['overlapping tensors', fileBytes({ a: entry(0, 8), b: entry(4, 12) }, new Uint8Array(12)), 'overlap'],
  ])('refuses %s', (_, bytes, message) => {
    expect(() => opened(bytes)).toThrow(FileFormatError);
    expect(() => opened(bytes)).toThrow(message);
  });

  it('refuses to read weights that are not floats', () => {
    const file = opened(fileBytes({ w: entry(0, 4, { dtype: 'I32' }) }, new Uint8Array(4)));
    expect(() => file.rows('w', 0, 1)).toThrow(AttentionPackError);
    expect(() => file.rows('w', 0, 1)).toThrow('F32, F16, BF16');
    file.close();
  });

  it('opens any garbage with a FileFormatError or not at all', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => {
        try {
          opened(bytes).close();
        } catch (error) {
          expect(error).toBeInstanceOf(FileFormatError);
        }
      }),
      { numRuns: 60, seed: 2 },
    );
  });
});

describe('toHalf', () => {
  it('rounds to the nearest float16, ties to even', () => {
    fc.assert(
      fc.property(fc.array(fc.float({ noNaN: true }), { maxLength: 200 }), (values) => {
        const expected = new Uint16Array(new Float16Array(values).buffer);
        expect([...toHalf(Float32Array.from(values))]).toEqual([...expected]);
      }),
      { numRuns: 100, seed: 3 },
    );
    const edges = [
      65504,
      65519.99,
      65520,
      2 ** -24,
      2 ** -25,
      2 ** -25 * 1.0001,
      2 ** -14,
      2 ** -14 - 2 ** -26,
      1 + 2 ** -11,
      1 + 3 * 2 ** -11,
    ];
    expect([...toHalf(Float32Array.from(edges))]).toEqual([...new Uint16Array(new Float16Array(Float32Array.from(edges)).buffer)]);
  });
});
