/** A-OKVQA (Schwenk et al., arXiv 2206.01718) as in HuggingFaceM4/A-OKVQA: one picture, four options, scored by the letter. */
import { letterAccuracy } from '../metrics.ts';
import type { Context } from '../task.ts';
import { checkOptions, type Dataset, datasetTask, LETTER, letter, pictureRows } from './dataset.ts';
import type { Fields } from './fields.ts';
import type { Place } from './place.ts';

const COLUMNS = ['question_id', 'question', 'choices', 'correct_choice_idx'];

export const aOkvqa: Dataset = {
  about: 'one picture, a question of common knowledge, four options; letter accuracy',
  files: 'HuggingFaceM4/A-OKVQA: validation-*.parquet, here or in data/',
  async open(folder, options = {}) {
    checkOptions(options);
    const place: Place = { dataset: 'a-okvqa', folder };
    const rows = await pictureRows(place, options, 'validation', COLUMNS, ['image']);
    const contexts = rows.map(
      ({ row, picture }): Context => ({
        id: row.text('question_id'),
        numImages: 1,
        images: async () => [await picture('image')],
        questions: [questionOf(row)],
      }),
    );
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
