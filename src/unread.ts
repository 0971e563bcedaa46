/** Ends streams that transformers.js opens on model files and nobody takes from: ONNX Runtime reads those files itself. */
import { AsyncLocalStorage } from 'node:async_hooks';
import fs, { type ReadStream } from 'node:fs';
import path from 'node:path';

/** Streams on model files that the load under way has opened. */
const loads = new AsyncLocalStorage<Set<ReadStream>>();

/**
 * Runs `load`, remembering the streams it opens on model files so that {@link stopReading} finds them.
 *
 * transformers.js 4.3 answers for a file with a response whose stream runs from the start, also where only the file's path is wanted: while the
 * first tokens are computed, the bytes of all weights gather in a queue without a reader (1.1 GB for mha-1.7b; see LOG.md, "Memory"). It offers
 * no way to have the path alone, so we stand in front of `fs.createReadStream`; what others open passes through untouched.
 */
export function rememberStreams<T>(load: () => Promise<T>): Promise<T> {
  hookStreams();
  return loads.run(new Set(), load);
}

/** Ends what the load under way reads of `file`, a .onnx file, and of its external data. To be called once its path is all that is needed. */
export function stopReading(file: string): void {
  const streams = loads.getStore();
  for (const stream of streams ?? []) {
    const opened = path.resolve(String(stream.path));
    if (!opened.startsWith(path.resolve(file)) || !MODEL_FILE.test(opened)) continue;
    stream.destroy();
    streams?.delete(stream);
  }
}

/** A model, or its external data as transformers.js names it: `model.onnx_data`, `model.onnx_data_1`, ... */
const MODEL_FILE = /\.onnx(_data(_\d+)?)?$/;

let hooked = false;

function hookStreams(): void {
  if (hooked) return;
  hooked = true;
  const original = fs.createReadStream;
  const createReadStream: typeof original = (file, options) => {
    const stream = original(file, options);
    if (MODEL_FILE.test(String(file))) loads.getStore()?.add(stream);
    return stream;
  };
  Object.assign(fs, { createReadStream });
}
