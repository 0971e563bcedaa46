/** A-OKVQA (Schwenk et al., arXiv 2206.01718) as in HuggingFaceM4/A-OKVQA: one picture, four options, scored by the letter. */
import { letterAccuracy } from '../metrics.ts';
import type { Context } from '../task.ts';
import { checkOptions, chosen, type Dataset, datasetTask, LETTER, letter } from './dataset.ts';
import type { Fields } from './fields.ts';
import { openTable } from './parquet.ts';
import { pictureOf } from './picture.ts';
import type { Place } from './place.ts';
import { splitFiles } from './splits.ts';

const COLUMNS = ['question_id', 'question', 'choices', 'correct_choice_idx'];

export const aOkvqa: Dataset = {
  about: 'one picture, a question of common knowledge, four options; letter accuracy',
  files: 'HuggingFaceM4/A-OKVQA: validation-*.parquet, here or in data/',
  async open(folder, options = {}) {
    checkOptions(options);
    const place: Place = { dataset: 'a-okvqa', folder };
    const table = await openTable(place, splitFiles(place, options.split ?? 'validation'), ['image', ...COLUMNS]);
    const indices = chosen(table.numRows, options);
    const rows = await table.rows(indices, COLUMNS);
    const contexts = rows.map((row, i): Context => {
      const index = indices[i] as number;
      return {
        id: row.text('question_id'),
        numImages: 1,
        images: async () => [await pictureOf(place, `${row.where}: 'image'`, await table.cell(index, 'image'))],
        questions: [questionOf(row)],
      };
    });
    return datasetTask(
      { name: 'a-okvqa', about: aOkvqa.about, metricName: 'letter accuracy', metric: letterAccuracy, maxNewTokens: 8 },
      contexts,
    );
  },
};

function questionOf(row: Fields): Context['questions'][number] {
  const choices = row.texts('choices');
  if (!row.has('correct_choice_idx'))
    throw row.wrong("no 'correct_choice_idx': the test split's answers are not public; use split 'validation'");
  const right = row.integer('correct_choice_idx');
  if (right < 0 || right >= choices.length) throw row.wrong(`'correct_choice_idx' is ${right}, of ${choices.length} choices`);
  const listed = choices.map((choice, i) => `${letter(i)}. ${choice}`);
  return { text: [row.text('question'), ...listed, LETTER].join('\n'), answers: [letter(right)], choices };
}
