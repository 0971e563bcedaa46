/** OCR-VQA (Mishra et al., ICDAR 2019): book covers with about five questions each, scored by ROUGE-L as in the paper. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { rougeL } from '../metrics.ts';
import type { Context, Question, Task } from '../task.ts';
import { checkOptions, chosen, type Dataset, type DatasetOptions, datasetTask, pictureRows, SHORT_ANSWER } from './dataset.ts';
import { type Fields, fieldsOf } from './fields.ts';
import { pictureFile } from './picture.ts';
import { checkFolder, kindOf, misplaced, type Place } from './place.ts';

const COLUMNS = ['image_id', 'questions', 'answers'];

export const ocrVqa: Dataset = {
  about: 'a book cover and about five questions whose answers are printed on it; ROUGE-L',
  files: 'howard-hou/OCR-VQA: test-*.parquet, here or in data/; or the original dataset.json with images/',
  async open(folder, options = {}) {
    checkOptions(options);
    const place: Place = { dataset: 'ocr-vqa', folder };
    checkFolder(place);
    const isOriginal = kindOf(path.join(folder, 'dataset.json')) === 'file';
    const contexts = isOriginal ? original(place, options) : await fromParquet(place, options);
    const task: Omit<Task, 'size' | 'contexts'> = {
      name: 'ocr-vqa',
      about: ocrVqa.about,
      metricName: 'ROUGE-L',
      metric: rougeL,
      maxNewTokens: 64,
    };
    return datasetTask(task, contexts);
  },
};

async function fromParquet(place: Place, options: DatasetOptions): Promise<Context[]> {
  const rows = await pictureRows(place, options, 'test', COLUMNS, ['image']);
  return rows.map(({ row, picture }) => ({
    id: row.text('image_id'),
    numImages: 1,
    images: async () => [await picture('image')],
    questions: questionsOf(row, options),
  }));
}

/** Numbers of the splits in dataset.json. */
const SPLITS: Readonly<Record<string, number>> = { train: 1, validation: 2, test: 3 };

/** The form its authors ship: one JSON object, image id to questions and answers, and pictures as files named after the id. */
function original(place: Place, options: DatasetOptions): Context[] {
  const split = options.split ?? 'test';
  const number = SPLITS[split];
  if (!number) throw misplaced(place, `no split '${split}' in dataset.json; it has ${Object.keys(SPLITS).join(', ')}`);
  const all = Object.entries(parsed(place)).map(([id, record]) => ({ id, row: fieldsOf(place, `dataset.json, ${id}`, record) }));
  const mine = all.filter(({ row }) => row.integer('split') === number);
  if (!mine.length) throw misplaced(place, `dataset.json has no entry of split '${split}' (${number})`);
  const files = picturesByStem(place);
  const taken = chosen(mine.length, options).map((index) => mine[index] as { id: string; row: Fields });
  const missing = taken.filter(({ id }) => !files.has(id));
  if (missing.length)
    throw misplaced(
      place,
      `${missing.length} of ${taken.length} pictures are missing, the first is images/${missing[0]?.id}.jpg (or .gif, .png)`,
    );
  return taken.map(({ id, row }) => ({
    id,
    numImages: 1,
    images: async () => [await pictureFile(place, `images/${files.get(id)}`)],
    questions: questionsOf(row, options),
  }));
}

function parsed(place: Place): Record<string, unknown> {
  try {
    return JSON.parse(readFileSync(path.join(place.folder, 'dataset.json'), 'utf8')) as Record<string, unknown>;
  } catch (cause) {
    throw misplaced(place, `dataset.json is not JSON: ${(cause as Error).message}`, cause);
  }
}

function picturesByStem(place: Place): Map<string, string> {
  const folder = path.join(place.folder, 'images');
  if (kindOf(folder) !== 'folder') throw misplaced(place, "dataset.json has no folder 'images' beside it");
  return new Map(readdirSync(folder).map((file) => [path.parse(file).name, file]));
}

function questionsOf(row: Fields, { questions: most }: DatasetOptions): Question[] {
  const [questions, answers] = [row.texts('questions'), row.texts('answers')];
  if (questions.length !== answers.length) throw row.wrong(`${questions.length} questions but ${answers.length} answers`);
  return questions.slice(0, most).map((question, i) => ({ text: `${question}\n${SHORT_ANSWER}`, answers: [answers[i] as string] }));
}
