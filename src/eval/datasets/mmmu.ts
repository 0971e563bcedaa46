/** MMMU (Yue et al., arXiv 2311.16502) as in MMMU/MMMU: thirty subjects, one to seven pictures, options or an open answer. */
import { mmmuAccuracy } from '../metrics.ts';
import type { Context, Question } from '../task.ts';
import { checkOptions, type Dataset, datasetTask, LETTER, letter, pictureRows, SHORT_ANSWER } from './dataset.ts';
import type { Fields } from './fields.ts';
import type { Place } from './place.ts';
import { pythonTexts } from './python-list.ts';

const COLUMNS = ['id', 'question', 'options', 'answer', 'question_type'];
const PICTURES = Array.from({ length: 7 }, (_, i) => `image_${i + 1}`);

export const mmmu: Dataset = {
  about: 'college questions of thirty subjects on one to seven pictures, options or open; accuracy by MMMU rules',
  files: 'MMMU/MMMU: a folder per subject with validation-*.parquet; or lmms-lab/MMMU: data/validation-*.parquet',
  async open(folder, options = {}) {
    checkOptions(options);
    const place: Place = { dataset: 'mmmu', folder };
    const rows = await pictureRows(place, options, 'validation', COLUMNS, PICTURES);
    const contexts = rows.map(({ row, picture }): Context => {
      const question = questionOf(row);
      const pictures = namedIn(question.text);
      return {
        id: row.text('id'),
        numImages: pictures.length,
        images: () => Promise.all(pictures.map(picture)),
        questions: [question],
      };
    });
    return datasetTask({ name: 'mmmu', about: mmmu.about, metricName: 'accuracy', metric: mmmuAccuracy, maxNewTokens: 128 }, contexts);
  },
};

/** The prompt of MMMU's own configuration for LLaVA-1.5. Pictures stand before the text, which names them "<image 1>" and so on. */
function questionOf(row: Fields): Question {
  const [question, answer, kind] = [row.text('question'), row.text('answer'), subjectOf(row.text('id'))];
  if (answer === '?') throw row.wrong("no answer: the test split's answers are not public; use split 'validation' or 'dev'");
  if (row.text('question_type') !== 'multiple-choice') {
    // Several wordings taken as right are a written-out list.
    return { text: `${question}\n${SHORT_ANSWER}`, answers: pythonTexts(answer) ?? [answer], kind };
  }
  const choices = pythonTexts(row.text('options'));
  if (!choices?.length) throw row.wrong(`'options' is no list of texts: ${row.text('options').slice(0, 60)}`);
  if (!/^[A-Z]$/.test(answer) || answer > letter(choices.length - 1))
    throw row.wrong(`'answer' is ${answer}, of ${choices.length} options`);
  const listed = choices.map((choice, i) => `(${letter(i)}) ${choice}\n`).join('');
  return { text: `${question}\n${listed}\n${LETTER}`, answers: [answer], choices, kind };
}

/** Columns of the pictures a question and its options name, in order of their number. */
function namedIn(text: string): string[] {
  const named = PICTURES.filter((_, i) => text.includes(`<image ${i + 1}>`));
  return named.length ? named : ['image_1'];
}

/** "validation_Art_Theory_3" is of "Art_Theory". */
function subjectOf(id: string): string {
  return id.match(/^[^_]+_(.+)_\d+$/)?.[1] ?? 'mmmu';
}
