/** What model a run measured, so that results and journals can be told apart. */
import { createHash } from 'node:crypto';
import { closeSync, existsSync, openSync, readdirSync, readSync, statSync } from 'node:fs';
import path from 'node:path';
import packageJson from '../../package.json' with { type: 'json' };
import { RUNTIME_VERSION } from '../ort.ts';
import type { JournalIdentity } from './journal.ts';

/** Files beside the weights that change what a model says. */
const SMALL_FILES = /^(config|tokenizer|tokenizer_config|preprocessor_config|processor_config|generation_config)\.json$|\.jinja$/;
const PART_BYTES = 2 ** 20;

/** @param dtype precision asked for; undefined: the model's own */
export function identityOf(model: string, dtype: string | undefined): JournalIdentity {
  return {
    model: existsSync(model) ? path.basename(path.resolve(model)) : model,
    fingerprint: existsSync(model) ? fingerprint(model) : model,
    dtype: dtype ?? '',
    attentionpack: packageJson.version,
    onnxruntime: RUNTIME_VERSION,
  };
}

/** SHA-256 over names, sizes and contents; of weights beyond 2 MiB only the first and the last MiB, so that 10 GB take no time. */
function fingerprint(folder: string): string {
  const hash = createHash('sha256');
  const files = [
    ...readdirSync(folder).filter((name) => SMALL_FILES.test(name)),
    ...(existsSync(path.join(folder, 'onnx')) ? readdirSync(path.join(folder, 'onnx')).map((name) => path.join('onnx', name)) : []),
  ].sort();
  for (const name of files) {
    const file = path.join(folder, name);
    const stat = statSync(file);
    if (!stat.isFile()) continue;
    hash.update(`${name.replaceAll('\\', '/')} ${stat.size}\n`);
    const fd = openSync(file, 'r');
    const first = Buffer.alloc(Math.min(stat.size, PART_BYTES));
    const last = Buffer.alloc(Math.min(stat.size - first.length, PART_BYTES));
    readSync(fd, first, 0, first.length, 0);
    readSync(fd, last, 0, last.length, stat.size - last.length);
    closeSync(fd);
    hash.update(first).update(last);
  }
  return hash.digest('hex');
}
