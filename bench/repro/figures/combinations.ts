/** Packing put together with eviction, quantisation and fusion. */
import type { PartResult } from '../part.ts';
import type { CombinationsData } from '../parts/combinations.ts';
import { code, times } from '../text.ts';
import { type Figure, nameOf } from './figure.ts';
import { type Measured, measured } from './measured.ts';
import { qualityTable } from './rank.ts';

export const combinations: Figure<CombinationsData> = {
  part: 'combinations',
  title: 'Combinations: eviction, quantisation, fusion',
  paper:
    'Packing goes together with token eviction (H2O, FastV), with quantisation of what is kept, and with fused kernels that spare writing rebuilt keys.',
  ours: 'Fusion here is attention on codes as they are (`post-rope`, and `m-rope` where keys turn by several axes) against rebuilding keys at each step (`rotate-late`). Eviction keeps half of the image tokens, once the prompt was read; `random` is its control. Codes and bases are float16, int8, or mixed at two bits a column.',
  draw: (results) => ({
    plots: [
      {
        name: 'combinations',
        title: 'divergence from dense against bytes',
        joined: false,
        columns: 2,
        x: { title: 'images, times smaller than dense float16', log: true },
        y: { title: 'KL to dense, nats', log: true },
        points: results.flatMap((result) =>
          measured(result.data).flatMap(({ setting, bytes, loyalty }) =>
            loyalty.kl > 0
              ? [{ panel: nameOf(result), series: familyOf(result, setting), x: bytes.visualCompression, y: Math.max(loyalty.kl, 1e-6) }]
              : [],
          ),
        ),
      },
    ],
    tables: results.map((result) => ({ model: nameOf(result), table: qualityTable(measured(result.data)) })),
    reading: results.flatMap(readingOf),
  }),
};

function familyOf({ data }: PartResult<CombinationsData>, setting: string): string {
  const found = data.settings.find((entry) => entry.setting === setting);
  if (!found) return setting;
  return found.fused === undefined ? found.family : `${found.family}, ${found.fused ? 'codes as they are' : 'keys rebuilt'}`;
}

function readingOf(result: PartResult<CombinationsData>): string[] {
  const rows = measured(result.data);
  const rowOf = (setting: string | undefined): Measured | undefined => rows.find((row) => row.setting === setting);
  const { settings } = result.data;
  const said: string[] = [];
  const rebuilt = settings.find(({ family, fused }) => family === 'packing' && fused === false);
  const other = rowOf(rebuilt?.setting);
  for (const { setting } of settings.filter(({ family, fused }) => family === 'packing' && fused === true)) {
    const row = rowOf(setting);
    const same = rebuilt && setting.replace(/rotary=[a-z-]+/, '') === rebuilt.setting.replace(/rotary=[a-z-]+/, '');
    if (!row?.step || !other?.step || !same) continue;
    said.push(
      `${code(setting)} takes ${row.step.msPerToken.toFixed(2)} ms per token at KL ${row.loyalty.kl.toFixed(4)}, rebuilding keys ${other.step.msPerToken.toFixed(2)} ms at ${other.loyalty.kl.toFixed(4)}`,
    );
  }
  const evicted = settings.filter(({ family }) => family === 'eviction').flatMap(({ setting }) => rowOf(setting) ?? []);
  const best = evicted.toSorted((a, b) => a.loyalty.kl - b.loyalty.kl)[0];
  if (best && other) {
    said.push(
      `of evictions alone ${code(best.setting)} diverges least, ${best.loyalty.kl.toFixed(4)} at ${times(best.bytes.visualCompression)} times smaller images; packing at ${times(other.bytes.visualCompression)} times ${other.loyalty.kl.toFixed(4)}`,
    );
  }
  return said.length ? [`${nameOf(result)}: ${said.join('; ')}.`] : [];
}
