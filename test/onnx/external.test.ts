/** Weights outside the message: found where the model says, never outside its folder, and the same to ONNX Runtime however they are written. */
import { mkdirSync, readFileSync, statSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import { FileFormatError } from '../../src/errors.ts';
import {
  encodeModel,
  externalFile,
  externalLocations,
  externalRange,
  floatTensor,
  linkExternalData,
  type ModelFile,
  readModel,
  setExternal,
  type Tensor,
  tensorBytes,
  writeModel,
} from '../../src/onnx/index.ts';
import { smallModel, smallModelWithExternalData, testFolder, WEIGHTS } from './folder.ts';

const folder = testFolder();

function weights(file: ModelFile): Tensor {
  return file.model.graph?.initializer?.find((tensor) => tensor.name === 'w') as Tensor;
}

function putModel(location: string, offset?: number, length?: number): ModelFile {
  const { model, weights } = smallModelWithExternalData(location, offset, length);
  folder.put('model/model.onnx_data', weights);
  return readModel(folder.put('model/model.onnx', model));
}

async function outputOf(model: string): Promise<number[]> {
  const session = await InferenceSession.create(model);
  const { y } = await session.run({
    x: new OrtTensor(
      'float32',
      Float32Array.from({ length: 32 }, (_, i) => i / 8),
      [2, 16],
    ),
  });
  await session.release();
  return [...((y as OrtTensor).data as Float32Array)];
}

describe('external data', () => {
  it('is read from its range of its file', () => {
    const file = putModel('model.onnx_data', 64, 32);
    const tensor = { ...weights(file), dims: [8] };
    expect(tensorBytes(tensor, file.path)).toEqual(new Uint8Array(WEIGHTS.buffer, 64, 32));
  });

  it('without a length has that of its tensor, also in a file it shares', () => {
    const file = putModel('model.onnx_data', 32, -1);
    const tensor = { ...weights(file), dims: [2, 4] };
    tensor.externalData = tensor.externalData?.filter((entry) => entry.key !== 'length');
    expect(tensorBytes(tensor, file.path)).toEqual(new Uint8Array(WEIGHTS.buffer, 32, 32));
  });

  it('may lie in a folder below, and in a file that a hub cache links to', () => {
    const { model, weights: bytes } = smallModelWithExternalData('data/part.bin');
    const blob = folder.put('blobs/123', bytes);
    mkdirSync(folder.at('model/data'), { recursive: true });
    symlinkSync(blob, folder.at('model/data/part.bin'));
    const file = readModel(folder.put('model/model.onnx', model));
    expect(tensorBytes(weights(file), file.path)).toEqual(bytes);
  });

  it('may have a name that begins with two dots', () => {
    const { model, weights: bytes } = smallModelWithExternalData('..data');
    folder.put('..data', bytes);
    const file = readModel(folder.put('model.onnx', model));
    expect(tensorBytes(weights(file), file.path)).toEqual(bytes);
  });

  it.each([
    ['is missing', 'absent.bin', "external data file 'absent.bin' is missing"],
    ['has no name', '', "external data path '' leaves"],
    ['lies above the folder', '../secret.bin', "external data path '../secret.bin' leaves the model's folder"],
    ['lies above the folder by a detour', 'data/../../secret.bin', "leaves the model's folder"],
    ['is the folder itself', '.', "leaves the model's folder"],
    ['is a folder', 'data', "external data path 'data' is not a file"],
    ['has an absolute path', '/etc/hostname', "external data path '/etc/hostname' leaves the model's folder"],
    ['lies behind a link to a folder elsewhere', 'link/secret.bin', "'link/secret.bin' leaves the model's folder through a link"],
  ])('that %s is refused, naming model and path', (_, location, reason) => {
    folder.put('secret.bin', new Uint8Array(WEIGHTS.buffer));
    folder.put('model/data/placeholder', '');
    symlinkSync(folder.at('.'), folder.at('model/link'));
    const file = putModel(location);
    expect(() => tensorBytes(weights(file), file.path)).toThrow(FileFormatError);
    expect(() => tensorBytes(weights(file), file.path)).toThrow(reason);
    expect(() => tensorBytes(weights(file), file.path)).toThrow(file.path);
    expect(() => externalFile(file.path, location || '')).toThrow(location === 'data' ? 'is not a file' : FileFormatError);
  });

  it.each([
    ['ends behind its file', 1024, 1024],
    ['begins behind its file', 9999, 8],
    ['begins before its file', -8, 1536],
    ['begins nowhere', Number.NaN, 1536],
  ])('whose range %s is refused with both sizes', (_, offset, length) => {
    const file = putModel('model.onnx_data', offset, length);
    expect(() => tensorBytes(weights(file), file.path)).toThrow(FileFormatError);
    expect(() => tensorBytes(weights(file), file.path)).toThrow(/tensor 'w' wants bytes .* of 'model.onnx_data', which has 1536/);
  });

  it('that is more or less than the shape asks for is refused', () => {
    const file = putModel('model.onnx_data', 0, 1000);
    expect(() => tensorBytes(weights(file), file.path)).toThrow("tensor 'w' [16, 24] has 1000 bytes of data, wants 1536");
    expect(() => tensorBytes({ name: 't', dataType: 1, dims: [3], rawData: new Uint8Array(8) })).toThrow('wants 12');
    expect(() => tensorBytes({ name: 't', dataType: 1, dims: [3] })).toThrow('has 0 bytes');
  });

  it('is not touched by reading and writing a model that never reads it', async () => {
    const file = putModel('../elsewhere.bin');
    await writeModel(file, folder.at('copy.onnx'));
    expect(externalRange(weights(readModel(folder.at('copy.onnx'))))?.location).toBe('../elsewhere.bin');
  });
});

describe('a rewritten model runs in ONNX Runtime as the original does', () => {
  it('when its weights are copied in', async () => {
    const source = folder.put('model.onnx', encodeModel(smallModel()));
    await writeModel(readModel(source), folder.at('copy.onnx'));
    expect(statSync(folder.at('copy.onnx')).size).toBeGreaterThan(WEIGHTS.byteLength);
    expect(await outputOf(folder.at('copy.onnx'))).toEqual(await outputOf(source));
  });

  it('when it refers to the weights inside the original, here or linked into another folder', async () => {
    const source = folder.put('model.onnx', encodeModel(smallModel()));
    const file = readModel(source);
    expect(externalLocations(file)).toEqual(['model.onnx']);
    folder.put('packed/placeholder', '');
    linkExternalData(file, folder.at('packed'));
    for (const target of [folder.at('beside.onnx'), folder.at('packed/packed.onnx')]) {
      await writeModel(file, target, 'refer');
      expect(statSync(target).size).toBeLessThan(1024);
      expect(await outputOf(target)).toEqual(await outputOf(source));
    }
  });

  it('when its weights lie in a file of their own, in a folder below', async () => {
    const { model, weights: bytes } = smallModelWithExternalData('data/part.bin');
    folder.put('model/data/part.bin', bytes);
    const file = readModel(folder.put('model/model.onnx', model));
    folder.put('packed/placeholder', '');
    linkExternalData(file, folder.at('packed'));
    await writeModel(file, folder.at('packed/model.onnx'));
    expect(await outputOf(folder.at('packed/model.onnx'))).toEqual(await outputOf(file.path));
  });
});

describe('linking external data', () => {
  it('twice is the same as once', () => {
    const file = putModel('model.onnx_data');
    mkdirSync(folder.at('packed'));
    linkExternalData(file, folder.at('packed'));
    linkExternalData(file, folder.at('packed'));
    expect(statSync(folder.at('packed/model.onnx_data')).ino).toBe(statSync(folder.at('model/model.onnx_data')).ino);
  });

  it('does not take another file for the right one', () => {
    const file = putModel('model.onnx_data');
    const other = folder.put('packed/model.onnx_data', 'of some other model');
    expect(() => linkExternalData(file, path.dirname(other))).toThrow(`${other} exists and is not`);
    expect(readFileSync(other, 'utf8')).toBe('of some other model');
  });
});

it('setExternal leaves a tensor its name, type, shape and metadata', () => {
  const tensor: Tensor = { ...floatTensor('w', [2], [1, 2]), metadataProps: [{ key: 'k', value: 'v' }] };
  setExternal(tensor, { location: 'a', offset: 3, length: 8 });
  expect(tensor).toMatchObject({ name: 'w', dims: [2], dataType: 1, metadataProps: [{ key: 'k', value: 'v' }] });
  expect(tensor.rawData).toBeUndefined();
  expect(externalRange(tensor)).toEqual({ location: 'a', offset: 3, length: 8 });
});
