/** Files that are cut short, damaged, or no ONNX at all: always a FileFormatError with the file's name, never a crash, a hang or half a model. */
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FileFormatError } from '../../src/errors.ts';
import { decodeModel, encodeModel, type Model, readModel, writeModel } from '../../src/onnx/index.ts';
import { smallModel, testFolder } from './folder.ts';
import { anyModel, concat, lengthDelimited, tag, varint } from './generate.ts';

const folder = testFolder();

function expectRefused(name: string, content: Uint8Array | string): void {
  const file = folder.put(name, content);
  const error = caught(() => readModel(file));
  expect(error, `${content.length} bytes`).toBeInstanceOf(FileFormatError);
  expect((error as FileFormatError).file).toBe(file);
  expect((error as FileFormatError).message.startsWith(`${file}: `)).toBe(true);
}

function caught(action: () => unknown): unknown {
  try {
    action();
  } catch (error) {
    return error;
  }
  return undefined;
}

/** Where the fields of the model itself end. A file cut there is a message of its own, and nobody can tell that more was to come. */
function fieldEnds(bytes: Uint8Array): Set<number> {
  const ends = new Set<number>();
  for (let at = 0; at < bytes.length; ends.add(at)) {
    const wireType = (bytes[at++] as number) & 7;
    let [value, shift] = [0, 0];
    for (let byte = 128; byte >= 128; shift += 7) value += ((byte = bytes[at++] as number) & 127) * 2 ** shift;
    if (wireType === 2) at += value;
  }
  return ends;
}

describe('a model cut short', () => {
  const fixture = fileURLToPath(new URL('../fixtures/onnx/gemma-3-4b-it.fp32.6-layers.onnx.gz', import.meta.url));

  it.each([
    ['a small model, at every byte', () => encodeModel(smallModel()), 1],
    ['a published decoder, at every 331st byte', () => new Uint8Array(gunzipSync(readFileSync(fixture))), 331],
  ])('is refused (%s)', (_, make, step) => {
    const bytes = make();
    const ends = fieldEnds(bytes);
    let numRefused = 0;
    for (let length = bytes.length - 1; length >= 0; length -= step) {
      const cut = bytes.subarray(0, length);
      const error = caught(() => decodeModel(cut, 'the model'));
      if (ends.has(length) && error === undefined) {
        // What is left must be a whole model but for its last words.
        expect(decodeModel(cut).opsetImport?.length).toBeGreaterThan(0);
        continue;
      }
      expect(error, `${length} bytes`).toBeInstanceOf(FileFormatError);
      if (numRefused++ % 10 === 0) expectRefused('cut.onnx', cut);
    }
    expect(numRefused).toBeGreaterThan(Math.floor((bytes.length / step) * 0.99) - 2);
  });

  it('right after its graph, before its operator sets, is refused', () => {
    const model = smallModel();
    delete model.opsetImport;
    delete model.metadataProps;
    expectRefused('cut.onnx', encodeModel(model));
  });
});

describe('a damaged model', () => {
  it('is a model or a FileFormatError, nothing else', () => {
    const damage = fc.record({ bytes: anyModel, at: fc.nat(), to: fc.integer({ min: 0, max: 255 }) });
    fc.assert(
      fc.property(damage, ({ bytes, at, to }) => {
        bytes[at % bytes.length] = to;
        const file = folder.put('damaged.onnx', bytes);
        for (const read of [() => readModel(file).model, () => decodeModel(bytes)]) {
          const error = caught(read);
          if (error !== undefined) expect(error).toBeInstanceOf(FileFormatError);
        }
      }),
      { numRuns: 120, seed: 3 },
    );
  });

  it('of subgraphs nested ten thousand deep is refused', () => {
    const parts = [lengthDelimited(2, new TextEncoder().encode('innermost'))]; // GraphProto.name
    let length = parts[0]?.length ?? 0;
    for (let depth = 0; depth < 10_000; depth++) {
      for (const number of [6, 5, 1]) {
        const head = concat([tag(number, 2), varint(BigInt(length))]); // node { attribute { g { ... } } }, from the inside out
        parts.push(head);
        length += head.length;
      }
    }
    const graph = lengthDelimited(7, concat(parts.reverse()));
    expectRefused('deep.onnx', concat([Uint8Array.of(8, 10), graph, lengthDelimited(8, Uint8Array.of(16, 21))]));
  });
});

describe('what is no ONNX', () => {
  it('is refused: bytes at random', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 3000 }), (bytes) => expectRefused('random.onnx', bytes)),
      { numRuns: 200, seed: 4 },
    );
  });

  it.each([
    ['an empty file', ''],
    ['text', 'Not found. Redirecting to https://example.org/model.onnx\n'],
    ['a pointer left by git-lfs', 'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12345\n'],
    ['JSON', JSON.stringify({ architectures: ['LlamaForCausalLM'], layers: 32 }, null, 2)],
    ['a ZIP archive', Buffer.from('504b0304140000000800', 'hex')],
    ['zeros', new Uint8Array(5000)],
  ])('is refused: %s', (_, content) => expectRefused('other.onnx', content));

  it('is refused: a folder', () => {
    mkdirSync(folder.at('folder.onnx'));
    expect(() => readModel(folder.at('folder.onnx'))).toThrow(FileFormatError);
    expect(() => readModel(folder.at('folder.onnx'))).toThrow('is a folder');
  });

  it('is refused: no file at all', () => {
    expect(() => readModel(folder.at('absent.onnx'))).toThrow(FileFormatError);
    expect(() => readModel(folder.at('absent.onnx'))).toThrow(`${folder.at('absent.onnx')}: no such file`);
  });
});

describe('writing', () => {
  it('leaves no half-written file when the weights to copy have gone', async () => {
    const source = readModel(folder.put('model.onnx', encodeModel(smallModel())));
    rmSync(source.path);
    await expect(writeModel(source, folder.at('copy.onnx'))).rejects.toThrow(FileFormatError);
    expect(() => readFileSync(folder.at('copy.onnx'))).toThrow('ENOENT');
  });

  it('refuses weights that the source file does not have any more', async () => {
    const bytes = encodeModel(smallModel());
    const source = readModel(folder.put('model.onnx', bytes));
    folder.put('model.onnx', bytes.subarray(0, 400));
    await expect(writeModel(source, folder.at('copy.onnx'))).rejects.toThrow(/'w' wants bytes \d+ to \d+ of 'model.onnx', which has 400/);
  });

  it('may replace the file it read from', async () => {
    const file = folder.put('model.onnx', encodeModel(smallModel()));
    await writeModel(readModel(file), file);
    expect(decodeModel(readFileSync(file)) satisfies Model).toEqual(decodeModel(encodeModel(smallModel())));
  });

  it('does not make a file refer to itself', async () => {
    const source = readModel(folder.put('model.onnx', encodeModel(smallModel())));
    folder.put('packed/placeholder', '');
    await expect(writeModel(source, folder.at('packed/model.onnx'), 'refer')).rejects.toThrow('cannot refer to weights inside');
    await writeModel(source, path.join(path.dirname(source.path), 'packed.onnx'), 'refer');
  });
});
