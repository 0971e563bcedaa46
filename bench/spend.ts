/** What bytes are best spent for: logits against the dense model's, at the bytes that the same bits for every layer and side take. Figures: LOG.md. */
import type { CacheReport } from '../src/cache.ts';
import { modelNamed } from '../src/cli/embedded.ts';
import { dtypeOption, loadDense, loadPacked } from '../src/cli/models.ts';
import { prepare } from '../src/compare/context.ts';
import { holdPacked } from '../src/compare/packed.ts';
import { holdStock } from '../src/compare/stock.ts';
import type { Task } from '../src/eval/task.ts';
import { agreement } from '../src/loyalty.ts';
import type { CacheOptions } from '../src/options.ts';

export interface SpendRow {
  readonly name: string;
  readonly visualCompression: number;
  /** Root mean square difference of logits, each row about its mean. */
  readonly logits: number;
  /** Geometric mean over questions, which one question in doubt does not decide. */
  readonly kl: number;
  readonly top1: number;
  readonly tokens: number;
  readonly outputError: number | undefined;
}

const SPENDS = ['output', 'share', 'energy'] as const;

/** @param even settings without an allocator; each is followed by the allocator at the bytes it takes */
export async function spendSuite(
  model: 'pack-mha' | 'pack-gqa',
  task: Task,
  contexts: number,
  even: readonly CacheOptions[],
  moments?: string,
): Promise<SpendRow[]> {
  const folder = modelNamed(model);
  const load = { ...dtypeOption(folder, undefined), session_options: { intraOpNumThreads: 1 } };
  const dense = await loadDense(folder, load);
  const options = { codes: 'mixed', basis: 'mixed', window: 'float16', ...(moments !== undefined && { moments }) } as const;
  const { packed, processor } = await loadPacked(folder, { ...load, ...options });
  const sums = new Map<
    string,
    { compression: number; squares: number; count: number; logKl: number; questions: number; top1: number; tokens: number; error: number[] }
  >();
  let done = 0;
  for await (const context of task.contexts()) {
    if (done++ >= contexts) break;
    const asked = await prepare(
      dense,
      processor,
      await context.images(),
      context.questions.map(({ text }) => text),
    );
    await using held = await holdStock(dense, asked);
    const truths = [];
    for (const question of asked.questions) {
      const { tokens } = await held.answer(question, task.maxNewTokens);
      truths.push({ question, tokens, logits: (await held.force(question, tokens)).logits });
    }
    const measure = async (name: string, cache: CacheOptions): Promise<CacheReport> => {
      await using own = await holdPacked(packed, asked, cache);
      const report = own.lastReport;
      const sum = sums.get(name) ?? { compression: 0, squares: 0, count: 0, logKl: 0, questions: 0, top1: 0, tokens: 0, error: [] };
      sums.set(name, sum);
      sum.compression += report.visualCompression;
      if (report.allocation?.outputError !== undefined) sum.error.push(report.allocation.outputError);
      for (const { question, tokens, logits } of truths) {
        const forced = (await own.force(question, tokens)).logits;
        const vocab = logits.length / tokens.length;
        const { kl, top1 } = agreement(logits, forced, vocab);
        for (let row = 0; row < logits.length; row += vocab) {
          let [mean, squares] = [0, 0];
          for (let i = row; i < row + vocab; i++) {
            const difference = (logits[i] as number) - (forced[i] as number);
            mean += difference / vocab;
            squares += difference * difference;
          }
          sum.squares += squares - vocab * mean * mean;
          sum.count += vocab;
        }
        sum.logKl += Math.log(kl + 1e-7);
        sum.top1 += top1 * tokens.length;
        sum.tokens += tokens.length;
        sum.questions++;
      }
      return report;
    };
    for (const cache of even) {
      const name = JSON.stringify(cache);
      const { visualCompression } = await measure(name, cache);
      const { basisPer } = cache;
      for (const spend of SPENDS)
        await measure(`${name} ${spend}`, { compression: visualCompression, counted: 'images', spend, ...(basisPer && { basisPer }) });
    }
    console.error(`context ${done}`);
  }
  await packed.dispose();
  await dense.dispose();
  return [...sums].map(([name, { compression, squares, count, logKl, questions, top1, tokens, error }]) => ({
    name,
    visualCompression: compression / Math.min(done, contexts),
    logits: Math.sqrt(squares / count),
    kl: Math.exp(logKl / questions),
    top1: top1 / tokens,
    tokens,
    outputError: error.length ? error.reduce((sum, each) => sum + each, 0) / error.length : undefined,
  }));
}
