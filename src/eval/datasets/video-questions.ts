/** Questions about clips, in the forms MSVD-QA and MSRVTT-QA are shipped in. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { type Fields, fieldsOf } from './fields.ts';
import { VIDEO_ENDINGS } from './frames.ts';
import { openTable } from './parquet.ts';
import { filesBelow, misplaced, type Place } from './place.ts';
import { splitFiles } from './splits.ts';

/** One question and answer about a clip. */
export interface ClipQuestion {
  /** The clip's name or number, without an ending. */
  readonly clip: string;
  /** Whether the clip goes by a number, as in the datasets' own files. */
  readonly isNumbered: boolean;
  readonly question: string;
  readonly answer: string;
}

/**
 * Reads the questions of a split; of several forms the first one there:
 * `test_qa.json` (Xu et al.'s own: video_id, question, answer; or video_name instead),
 * `test_q.json` and `test_a.json` (Video-LLaVA's: video_name, question, question_id; answer, question_id),
 * `test-*.parquet` (lmms-lab's form: video_name, question, answer).
 */
export async function clipQuestions(place: Place, split: string): Promise<ClipQuestion[]> {
  // The authors call the validation split 'val'.
  const names = split === 'validation' ? ['validation', 'val'] : [split];
  const files = filesBelow(place, '.json', 1);
  const find = (ending: string): string | undefined =>
    files.find((file) => names.some((name) => path.posix.basename(file) === `${name}${ending}`));
  const [joint, questions, answers] = [find('_qa.json'), find('_q.json'), find('_a.json')];
  if (joint) return jsonRows(place, joint).map((row) => clipQuestion(row, row));
  if (questions && answers) return joined(place, questions, answers);
  if (questions) throw misplaced(place, `${questions} has no ${questions.replace(/_q\.json$/, '_a.json')} beside it`);
  if (filesBelow(place, '.parquet').length) {
    const table = await openTable(place, splitFiles(place, split), ['question', 'answer']);
    const indices = Array.from({ length: table.numRows }, (_, i) => i);
    return (await table.rows(indices, ['question', 'answer', ...CLIP_KEYS.filter((key) => table.columns.includes(key))])).map((row) =>
      clipQuestion(row, row),
    );
  }
  throw misplaced(
    place,
    `no questions of split '${split}'; looked for ${names[0]}_qa.json, ${names[0]}_q.json with ${names[0]}_a.json, ${split}-*.parquet`,
  );
}

/** Under what a clip's name stands. */
const CLIP_KEYS = ['video_name', 'video_id', 'video'];

function clipQuestion(row: Fields, answers: Fields): ClipQuestion {
  const key = CLIP_KEYS.find((name) => row.has(name));
  if (!key) throw row.wrong(`none of ${CLIP_KEYS.map((name) => `'${name}'`).join(', ')}`);
  const clip = row.text(key);
  const isNumbered = /^\d+$/.test(clip);
  const { name, ext } = path.parse(clip);
  const hasEnding = VIDEO_ENDINGS.some((ending) => ending === ext.toLowerCase());
  return { clip: hasEnding ? name : clip, isNumbered, question: row.text('question'), answer: answers.text('answer') };
}

/** Joins questions and answers by question_id where the answers have one, else by their order. */
function joined(place: Place, questionFile: string, answerFile: string): ClipQuestion[] {
  const [questions, answers] = [jsonRows(place, questionFile), jsonRows(place, answerFile)];
  const byId = answers.every((answer) => answer.has('question_id'))
    ? new Map(answers.map((answer) => [answer.text('question_id'), answer]))
    : undefined;
  if (!byId && questions.length !== answers.length)
    throw misplaced(place, `${questionFile} has ${questions.length} questions, ${answerFile} ${answers.length} answers`);
  return questions.map((question, i) => {
    const answer = byId ? byId.get(question.text('question_id')) : answers[i];
    if (!answer) throw question.wrong(`no answer to question_id ${question.text('question_id')} in ${answerFile}`);
    return clipQuestion(question, answer);
  });
}

function jsonRows(place: Place, file: string): Fields[] {
  let rows: unknown;
  try {
    rows = JSON.parse(readFileSync(path.join(place.folder, file), 'utf8'));
  } catch (cause) {
    throw misplaced(place, `${file} is not JSON: ${(cause as Error).message}`, cause);
  }
  if (!Array.isArray(rows) || !rows.length) throw misplaced(place, `${file} holds no list of questions`);
  return rows.map((row, i) => fieldsOf(place, `${file}, row ${i}`, row));
}
