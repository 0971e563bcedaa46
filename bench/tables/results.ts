/** Committed results of bench/results, newest first of their kind. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { PACKAGE_ROOT } from '../../src/cli/embedded.ts';

const FOLDER = path.join(PACKAGE_ROOT, 'bench', 'results');

/** The newest result whose name ends so, e.g. `eval-pack-mha`. */
export function newest<T>(ending: string): T {
  const file = readdirSync(FOLDER)
    .filter((name) => name.endsWith(`-${ending}.json`))
    .sort()
    .at(-1);
  if (!file) throw new Error(`${FOLDER} has no *-${ending}.json`);
  return JSON.parse(readFileSync(path.join(FOLDER, file), 'utf8')) as T;
}

interface Stage {
  readonly steps: number;
  readonly minutes: number;
}

/** What train/results.json says of a model. */
export interface Trained {
  readonly cost: {
    readonly stages: {
      readonly tower: Stage & { readonly pictures: number };
      readonly decoder: Stage & { readonly questions: number; readonly tokens: number };
    };
  };
}

export function trained(model: string): Trained {
  const all = JSON.parse(readFileSync(path.join(PACKAGE_ROOT, 'train', 'results.json'), 'utf8')) as Record<string, Trained>;
  const one = all[model];
  if (!one) throw new Error(`train/results.json has nothing of ${model}`);
  return one;
}
