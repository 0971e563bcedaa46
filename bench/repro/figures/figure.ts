/** What a section of the page is made from: the paper's figure, ours, and a drawing of the results. */
import type { PartName, PartResult } from '../part.ts';
import type { Plot } from '../plot.ts';

export interface Figure<Data> {
  readonly part: PartName;
  readonly title: string;
  /** What the paper shows. */
  readonly paper: string;
  /** What we measure, and on what. */
  readonly ours: string;
  /** @param results one of each model, at least one */
  draw(results: readonly PartResult<Data>[]): Drawn;
}

export interface Drawn {
  readonly plots: readonly Plot[];
  /** Markdown, under the name of the model it is of. */
  readonly tables: readonly { readonly model: string; readonly table: string }[];
  /** Sentences made from the numbers. */
  readonly reading: readonly string[];
}

export const nameOf = ({ model }: PartResult): string => model.model;
