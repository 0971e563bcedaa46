/** Explained variance: energy of keys and values against rank, heads combined or alone, images and text apart or together; figure 2. */
import { loadPacked } from '../../../src/cli/models.ts';
import { prompt, question } from '../../../src/prompt.ts';
import { collectRows } from '../../../src/spectrum/rows.ts';
import type { Part } from '../part.ts';
import { type LostCurve, type MatrixCurve, meanCurves, spectraOf } from '../spectra.ts';
import { firstContexts, QUALITY_TASK, qualityTask } from '../tasks.ts';

export interface VarianceData {
  readonly contexts: number;
  readonly curves: readonly LostCurve[];
}

export const variance: Part<VarianceData> = {
  name: 'variance',
  about: 'lost energy of keys and values against rank',
  minutes: 1,
  asks: ({ pixels }, { spectra }) => ({ task: QUALITY_TASK, pixels: pixels ?? null, contexts: spectra }),
  async measure({ subject, sizes, kept, signal, onProgress }) {
    const contexts = await firstContexts(qualityTask(subject), sizes.spectra);
    const all: MatrixCurve[] = [];
    await using models = await loaded();
    for (const [i, context] of contexts.entries()) {
      signal.throwIfAborted();
      onProgress(i / contexts.length, `spectra of context ${i + 1} of ${contexts.length}`);
      all.push(
        ...(await kept.once(context.id, async () => {
          const { packed, processor } = models;
          // All questions at once: there is little text in one.
          const text = context.questions.map((asked) => asked.text).join(' ');
          const images = await context.images();
          return spectraOf(await collectRows(packed, await prompt(processor, [question(text, images.length)], images)));
        })),
      );
    }
    return { contexts: contexts.length, curves: meanCurves(all) };

    async function loaded() {
      const both = await loadPacked(subject.model, { ...subject.load, rawKeys: true, rank: 8 });
      return { ...both, [Symbol.asyncDispose]: async () => void (await both.packed.dispose()) };
    }
  },
};
