/** Appends weights to data files beside a model as they are made, so that none is held; at the end they move into the .onnx file or stay out. */
import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import path from 'node:path';
import { type Model, rawBytes, rawTensor, setExternal, type Tensor, writeModel } from '../onnx/index.ts';

/** Up to this size a model is one file; beyond, weights lie outside. Protobuf ends at 2 GiB and browsers allocate the file twice. */
export const INLINE_MAX_BYTES = 1.5e9;
/** No data file grows beyond this unless one tensor alone does: browsers refuse arrays of 2 GiB. */
const CHUNK_BYTES = 1.9e9;
// Constants this small stay in the graph, where shape inference can see them.
const MIN_EXTERNAL_BYTES = 1024;
// Page alignment lets ONNX Runtime map large tensors; small ones would waste a page each.
const LARGE_BYTES = 2 ** 20;

export interface WrittenModel {
  /** Name of the .onnx file. */
  readonly file: string;
  /** External data files beside it: `<file>_data`, `<file>_data_1`, ... */
  readonly dataFiles: number;
  readonly bytes: number;
}

/** Weights of one model on their way to disk. Call {@link finish} or {@link abandon}. */
export class WeightsWriter {
  readonly #folder: string;
  readonly #file: string;
  readonly #inlineMaxBytes: number;
  #fd: number | undefined;
  #chunk = 0;
  #at = 0;
  #total = 0;

  /** @param file name of the .onnx file, e.g. `decoder_model_merged_q4.onnx`. */
  constructor(folder: string, file: string, inlineMaxBytes: number = INLINE_MAX_BYTES) {
    this.#folder = folder;
    this.#file = file;
    this.#inlineMaxBytes = inlineMaxBytes;
  }

  /** Writes a tensor whose bytes come in pieces, in order. */
  write(name: string, dataType: number, dims: readonly number[], pieces: Iterable<ArrayBufferView>): Tensor {
    const tensor: Tensor = { name, dataType, dims: [...dims] };
    const length = rawBytes(tensor);
    if (length < MIN_EXTERNAL_BYTES) return rawTensor(name, dataType, dims, gathered(length, pieces));
    const fd = this.#reserve(length);
    const offset = this.#at;
    for (const piece of pieces) this.#append(fd, new Uint8Array(piece.buffer, piece.byteOffset, piece.byteLength));
    setExternal(tensor, { location: dataName(this.#file, this.#chunk), offset, length });
    if (this.#at !== offset + length) throw new Error(`attentionpack bug: tensor '${name}' wrote ${this.#at - offset} of ${length} bytes`);
    return tensor;
  }

  /** Writes the .onnx file; weights of all tensors from {@link write} end up inside it if they are few enough. */
  async finish(model: Model): Promise<WrittenModel> {
    this.#close();
    const target = path.join(this.#folder, this.#file);
    const dataFiles = this.#total > 0 ? this.#chunk + 1 : 0;
    if (dataFiles !== 1 || this.#total > this.#inlineMaxBytes) {
      await writeModel({ model, path: target }, target, 'refer');
      return { file: this.#file, dataFiles, bytes: this.#total };
    }
    // writeModel streams weights in whose location is the source model's own name: the data file plays the source.
    const data = path.join(this.#folder, dataName(this.#file, 0));
    await writeModel({ model, path: data }, target);
    rmSync(data);
    return { file: this.#file, dataFiles: 0, bytes: this.#total };
  }

  abandon(): void {
    this.#close();
  }

  #reserve(length: number): number {
    if (this.#fd !== undefined && this.#at + length > CHUNK_BYTES) {
      this.#close();
      this.#chunk++;
      this.#at = 0;
    }
    this.#fd ??= openSync(path.join(this.#folder, dataName(this.#file, this.#chunk)), 'w');
    const alignment = length >= LARGE_BYTES ? 4096 : 64;
    const padding = (alignment - (this.#at % alignment)) % alignment;
    if (padding) this.#append(this.#fd, new Uint8Array(padding));
    return this.#fd;
  }

  #append(fd: number, bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done, Math.min(bytes.length - done, 2 ** 30));
    this.#at += bytes.length;
    this.#total += bytes.length;
  }

  #close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }
}

/** transformers.js asks for the data files of `x.onnx` under these names. */
export function dataName(file: string, chunk: number): string {
  return `${file}_data${chunk === 0 ? '' : `_${chunk}`}`;
}

function gathered(length: number, pieces: Iterable<ArrayBufferView>): Uint8Array {
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    bytes.set(new Uint8Array(piece.buffer, piece.byteOffset, piece.byteLength), at);
    at += piece.byteLength;
  }
  return bytes;
}
