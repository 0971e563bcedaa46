/**
 * Reads and writes .onnx files. Weights inside the file stay there: they are read as external data whose location is the file itself.
 *
 * Spec of external data: https://onnx.ai/onnx/repo-docs/ExternalData.html
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { AttentionPackError, FileFormatError } from '../errors.ts';
import { checkedLength, type ExternalRange, externalFile, externalLocations, externalRange, setExternal } from './external.ts';
import { type Model, ModelProto, type Tensor, TensorProto } from './proto.ts';
import { type ByteSource, bytesSource, fields, gather, header, type Piece, swapTensors } from './wire.ts';

/** A model and where it was read, so that its external data can be found. */
export interface ModelFile {
  readonly model: Model;
  /** Path of the .onnx file. Its folder is the root of all external data. */
  readonly path: string;
}

const RAW_DATA = 9;
/** Raw data from this size on stays in the file when a model is read. */
const LEAVE_MIN_BYTES = 1024;

/**
 * Reads the graph of an .onnx file; tensors of 1 KiB or more stay on disk, wherever they are.
 *
 * @throws {FileFormatError} if the file is missing, cut short, or not ONNX. External data is only checked when it is read.
 */
export function readModel(file: string): ModelFile {
  const source = openSource(file);
  try {
    const location = path.basename(file);
    const pieces = swapTensors(source, (start, end) => leaveInFile(source, location, start, end), LEAVE_MIN_BYTES);
    return { model: decode(gather(source, pieces), file), path: file };
  } catch (cause) {
    if (cause instanceof FileFormatError) throw cause;
    throw new FileFormatError(file, `not a readable ONNX file: ${(cause as Error).message}`, { cause });
  } finally {
    source.close();
  }
}

/** A model from bytes in memory, its weights included. `name` is used in errors. */
export function decodeModel(bytes: Uint8Array, name = 'model'): Model {
  try {
    for (const _ of fields(bytesSource(bytes), 0, bytes.length)); // protobufjs reads some garbage without complaint
    return decode(bytes, name);
  } catch (cause) {
    if (cause instanceof FileFormatError) throw cause;
    throw new FileFormatError(name, `not a readable ONNX file: ${(cause as Error).message}`, { cause });
  }
}

export function encodeModel(model: Model): Uint8Array {
  return ModelProto.encode(model).finish();
}

function decode(bytes: Uint8Array, name: string): Model {
  const model = ModelProto.decode(bytes) as Model;
  if (!model.graph || !model.irVersion) {
    throw new FileFormatError(name, 'not an ONNX model: it has no graph or no ir_version');
  }
  // Serialisers write fields by number, so a file cut right after its graph is still a message, but no longer a model.
  if (!model.opsetImport?.length) throw new FileFormatError(name, 'cut short, or not an ONNX model: it imports no operator set');
  return model;
}

/** The tensor as external data of its own file, if its raw data is worth leaving there. */
function leaveInFile(source: ByteSource, location: string, start: number, end: number): Piece[] | undefined {
  const pieces: Piece[] = [];
  let range: ExternalRange | undefined;
  for (const field of fields(source, start, end)) {
    const length = field.end - field.start;
    if (field.number === RAW_DATA && length >= LEAVE_MIN_BYTES) range = { location, offset: field.start, length };
    else pieces.push({ offset: field.tagStart, length: field.end - field.tagStart });
  }
  if (!range) return undefined;
  const marker: Tensor = {};
  setExternal(marker, range);
  pieces.push(TensorProto.encode(marker).finish());
  return pieces;
}

/**
 * Writes a model to `target`, atomically.
 *
 * Weights that lay inside the source file are streamed into the new one, unless `weights` is `refer`: then they are left as external data
 * under the source's file name, and the caller puts that file (a link will do) beside the new one. Other external data is never touched;
 * see `linkExternalData`.
 *
 * @throws {FileFormatError} if weights to be copied are missing or out of range.
 * @throws {AttentionPackError} if `refer` would make the new file refer to itself.
 */
export async function writeModel(file: ModelFile, target: string, weights: 'copy' | 'refer' = 'copy'): Promise<void> {
  const own = path.basename(file.path);
  if (weights === 'refer' && path.basename(target) === own && externalLocations(file).includes(own)) {
    throw new AttentionPackError(`${target} cannot refer to weights inside ${file.path}: give it another name, or copy the weights`);
  }
  const skeleton = bytesSource(encodeModel(file.model));
  const pieces: Piece[] =
    weights === 'refer'
      ? [{ offset: 0, length: skeleton.size }]
      : swapTensors(skeleton, (start, end) => bringHome(skeleton, file.path, start, end));
  const temporary = `${target}.${process.pid}.part`;
  try {
    await writePieces(temporary, skeleton, pieces, file);
    await rename(temporary, target);
  } catch (cause) {
    await rm(temporary, { force: true });
    throw cause;
  }
}

/** Stands for bytes of the source file in the middle of the pieces of a skeleton. */
class FileRange {
  readonly range: ExternalRange;
  readonly length: number;
  readonly offset = -1;

  constructor(range: ExternalRange) {
    this.range = range;
    this.length = range.length;
  }
}

/** The tensor with its raw data in it, if that lies in the source file. */
function bringHome(skeleton: ByteSource, source: string, start: number, end: number): Piece[] | undefined {
  const tensor = TensorProto.decode(skeleton.read(start, end - start)) as Tensor;
  const range = externalRange(tensor);
  if (range?.location !== path.basename(source)) return undefined;
  const length = checkedLength(source, tensor.name ?? '', range);
  delete tensor.externalData;
  delete tensor.dataLocation;
  return [TensorProto.encode(tensor).finish(), header(RAW_DATA, length), new FileRange({ ...range, length })];
}

async function writePieces(target: string, skeleton: ByteSource, pieces: Piece[], file: ModelFile): Promise<void> {
  const out = await open(target, 'w');
  const inputs = new Map<string, FileSource>();
  try {
    for (const piece of pieces) {
      if (piece instanceof Uint8Array) await out.writeFile(piece);
      else if (piece instanceof FileRange) {
        const { location, offset, length } = piece.range;
        let input = inputs.get(location);
        if (!input) inputs.set(location, (input = openSource(externalFile(file.path, location))));
        for (let done = 0; done < length; done += COPY_BYTES) {
          await out.writeFile(input.read(offset + done, Math.min(COPY_BYTES, length - done)));
        }
      } else await out.writeFile(skeleton.read(piece.offset, piece.length));
    }
    await out.sync();
  } finally {
    await out.close();
    for (const input of inputs.values()) input.close();
  }
}

const COPY_BYTES = 2 ** 20;
const WINDOW_BYTES = 64 * 2 ** 10;

interface FileSource extends ByteSource {
  close(): void;
}

/** A source over a file: short reads come from one window, long ones go past it. */
export function openSource(file: string): FileSource {
  let fd: number;
  try {
    fd = openSync(file, 'r');
  } catch (cause) {
    throw new FileFormatError(file, (cause as NodeJS.ErrnoException).code === 'ENOENT' ? 'no such file' : String(cause), { cause });
  }
  const stat = fstatSync(fd);
  if (!stat.isFile()) {
    closeSync(fd);
    throw new FileFormatError(file, stat.isDirectory() ? 'is a folder; name the .onnx file in it' : 'is not a file');
  }
  const { size } = stat;
  let window: Uint8Array = new Uint8Array(0);
  let windowStart = 0;
  const pull = (offset: number, length: number): Uint8Array => {
    const bytes = new Uint8Array(length);
    let done = 0;
    while (done < length) {
      const got = readSync(fd, bytes, done, length - done, offset + done);
      if (got === 0) throw new FileFormatError(file, `cut short: ${length} bytes wanted at ${offset}, the file has ${size}`);
      done += got;
    }
    return bytes;
  };
  return {
    size,
    read(offset, length) {
      if (length > WINDOW_BYTES) return pull(offset, length);
      if (offset < windowStart || offset + length > windowStart + window.length) {
        window = pull(offset, Math.max(length, Math.min(WINDOW_BYTES, size - offset)));
        windowStart = offset;
      }
      return window.subarray(offset - windowStart, offset - windowStart + length);
    },
    close: () => closeSync(fd),
  };
}
