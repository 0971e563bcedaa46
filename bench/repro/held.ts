/** One context held in many caches at once, so that they can be timed in turn: what a busy machine does to one, it does to all. */
import { prepare } from '../../src/compare/context.ts';
import type { HeldContext } from '../../src/compare/held.ts';
import { type Magnitudes, widen } from '../../src/compare/quantised.ts';
import { holdStock } from '../../src/compare/stock.ts';
import { type ContextForms, openHolders } from '../../src/eval/holders.ts';
import { DENSE, parseSettings } from '../../src/eval/settings.ts';
import type { Context } from '../../src/eval/task.ts';
import type { Running } from './part.ts';
import { prepared } from './tasks.ts';

export interface HeldSetting {
  readonly setting: string;
  readonly held: HeldContext;
  /** Reading the pictures into the cache, encoding them left out: they were seen before. */
  readonly prefillMs: number;
}

export interface HeldSettings extends AsyncDisposable {
  /** Dense first. */
  readonly all: readonly HeldSetting[];
  readonly numTokens: number;
  readonly numVisualTokens: number;
}

/** Settings that the model cannot have are left out. */
export async function holdAll({ subject, signal }: Running, settings: readonly string[], context: Context): Promise<HeldSettings> {
  const holders = await openHolders(subject.model, parseSettings(settings.join(',')), subject.load);
  const all: HeldSetting[] = [];
  const close = async (): Promise<void> => {
    for (const { held } of all) await held[Symbol.asyncDispose]();
    await holders[Symbol.asyncDispose]();
  };
  try {
    const { dense, processor } = holders;
    const full = await prepared(dense, processor, context);
    // Once for the vision encoder, which remembers what it saw, and for memory to be there.
    await holdStock(dense, full);
    const start = performance.now();
    const held = await holdStock(dense, full);
    all.push({ setting: DENSE.name, held, prefillMs: performance.now() - start });
    const magnitudes: Magnitudes = new Map();
    widen(magnitudes, held.entries);
    const forms: ContextForms = {
      full,
      half: async () => prepare(dense, processor, await context.images(), ['']),
      dense: held,
      magnitudes,
    };
    for (const holder of holders.others) {
      signal.throwIfAborted();
      const begun = performance.now();
      const other = await holder.hold(forms);
      all.push({ setting: holder.setting.name, held: other, prefillMs: performance.now() - begun });
    }
    return { all, numTokens: full.numTokens, numVisualTokens: full.numVisualTokens, [Symbol.asyncDispose]: close };
  } catch (cause) {
    await close();
    throw cause;
  }
}
