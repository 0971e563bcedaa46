/** How a cache's bytes were shared out, as a table. */
import prettyBytes from 'pretty-bytes';
import type { SideAllocation } from '../cache/allocation.ts';
import type { CacheReport } from '../cache.ts';
import { colours, printTable } from './output.ts';

/** Prints nothing where ranks and bits were given. */
export function printAllocation({ allocation, notes }: Pick<CacheReport, 'allocation' | 'notes'>): void {
  for (const note of notes) console.log(colours.dim(note));
  if (!allocation) return;
  const percent = (share: number): string => `${(100 * share).toFixed(share < 0.01 ? 2 : 1)} %`;
  const bits = (of: SideAllocation['codeBits']): string => (of ? `${of[8]}/${of[4]}/${of[2]}` : '');
  printTable(
    ['', 'columns', 'codes of 8/4/2 bits', 'basis', 'bytes', 'left out of it', 'of all left out'],
    allocation.layers.flatMap(({ layer, keys, values }) =>
      [
        { name: `layer ${layer} keys`, side: keys },
        { name: `layer ${layer} values`, side: values },
      ].map(({ name, side }) => [
        name,
        side.columns,
        bits(side.codeBits),
        bits(side.basisBits),
        prettyBytes(side.bytes),
        percent(side.lost),
        percent(side.errorShare),
      ]),
    ),
  );
  for (const reason of allocation.why) console.log(colours.dim(reason));
  if (allocation.overBytes)
    console.log(colours.dim(`what came behind the images takes ${prettyBytes(allocation.overBytes)} more than that`));
}
