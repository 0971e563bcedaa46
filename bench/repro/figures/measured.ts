/** Quality and time of settings side by side. */
import type { Quality, QualityRow } from '../quality.ts';
import type { StepRow, Steps } from '../steps.ts';

export interface Measured extends QualityRow {
  readonly step?: StepRow | undefined;
}

/** Rows of quality, each with its time where that was measured. */
export function measured({ quality, steps }: { readonly quality: Quality; readonly steps: Steps }): Measured[] {
  return quality.rows.map((row) => ({ ...row, step: steps.rows.find(({ setting }) => setting === row.setting) }));
}
