/** The models that come with the package, by name. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { needed } from './args.ts';

/** Root of this package, from the sources as from the build. */
export const PACKAGE_ROOT: string = findRoot(path.dirname(fileURLToPath(import.meta.url)));

const embedded = (name: string): string => path.join(PACKAGE_ROOT, 'models', name);

/** The one of the demo, in LLaVA's layout; `embedded` for short. The other, `pack-gqa`, has Qwen2-VL's. */
export const EMBEDDED_MODEL: string = embedded('pack-mha');

/** What `--help` says of a model argument. */
export const MODEL_ARGUMENT = "model id or folder; 'embedded' (pack-mha) or 'pack-gqa' for those in the package";

/**
 * A model argument as a folder or id. A name of an embedded model means that one, unless there is a folder of that name here.
 *
 * @throws {AttentionPackError} if there is none
 */
export function modelNamed(argument: string | undefined): string {
  const name = needed('model', argument);
  if (name === 'embedded') return EMBEDDED_MODEL;
  return /^pack-\w+$/.test(name) && !existsSync(name) && existsSync(embedded(name)) ? embedded(name) : name;
}

function findRoot(folder: string): string {
  if (existsSync(path.join(folder, 'package.json'))) return folder;
  return findRoot(path.dirname(folder));
}
