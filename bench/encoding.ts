/** `npm run bench -- encoding`: what packing costs beside the prefill it belongs to, through a real decoder of few layers. */
import { PackedCache } from '../src/cache.ts';
import { packedSessionOf } from '../src/decode.ts';
import type { PackedOptions } from '../src/options.ts';
import { loadPackedTextModel, modelFolder } from './model.ts';
import { noise } from './noise.ts';
import { IMAGE_TOKENS, spansOf } from './opponents/packed.ts';
import { prefillBy } from './prefill.ts';

export interface EncodingRow {
  readonly packing: string;
  readonly images: number;
  readonly tokens: number;
  /** Of the whole prefill, packing included, and of packing alone; medians of the rounds. */
  readonly prefillMs: number;
  readonly compactMs: number;
  /** Median of the rounds' shares. */
  readonly share: number;
}

export interface EncodingOptions {
  readonly root: string;
  readonly shape: string;
  readonly dtype: 'q4' | 'q8' | 'fp32';
  /** All layers are alike, so a few tell the share. */
  readonly layers: number;
  readonly images: number;
  readonly rounds: number;
  readonly threads: number;
  readonly onProgress: (text: string) => void;
}

const PACKINGS: Readonly<Record<string, PackedOptions>> = {
  'rank 64 of each image': { rank: 64, codes: 'float16', basis: 'float16', window: 'float16' },
  'rank 64 of each image, as each is seen': { rank: 64, codes: 'float16', basis: 'float16', window: 'float16', compactAt: 'span' },
  'rank 192 of all images': { rank: 192, basisPer: 'context', codes: 'float16', basis: 'float16', window: 'float16' },
  auto: { preset: 'auto' },
};

export async function benchEncoding({
  root,
  shape,
  dtype,
  layers,
  images,
  rounds,
  threads,
  onProgress,
}: EncodingOptions): Promise<EncodingRow[]> {
  const folder = await modelFolder(root, { shape, dtype, accuracy: 4, layers }, onProgress);
  const context = images * IMAGE_TOKENS + 64;
  const rows: EncodingRow[] = [];
  for (const [packing, options] of Object.entries(PACKINGS)) {
    const model = await loadPackedTextModel(folder, { dtype, threads, packing: { rotary: 'post-rope', ...options } });
    const config = model.config as unknown as { readonly hidden_size?: number; readonly text_config?: { readonly hidden_size: number } };
    const hidden = config.text_config?.hidden_size ?? config.hidden_size ?? 0;
    const embeds = noise(context * hidden, 1);
    const measured: { prefillMs: number; compactMs: number }[] = [];
    for (let round = 0; round <= rounds; round++) {
      onProgress(`${packing}: round ${round} of ${rounds}`);
      await using cache = new PackedCache(model);
      const start = performance.now();
      await prefillBy(packedSessionOf(model), embeds, cache, spansOf('image', context), hidden);
      // The first makes the encoder's sessions.
      if (round) measured.push({ prefillMs: performance.now() - start, compactMs: cache.report().compactMs });
    }
    await model.dispose();
    const middle = (numbers: readonly number[]): number => [...numbers].sort((a, b) => a - b)[numbers.length >> 1] ?? Number.NaN;
    rows.push({
      packing,
      images,
      tokens: context,
      prefillMs: middle(measured.map(({ prefillMs }) => prefillMs)),
      compactMs: middle(measured.map(({ compactMs }) => compactMs)),
      share: middle(measured.map(({ prefillMs, compactMs }) => compactMs / prefillMs)),
    });
  }
  return rows;
}
