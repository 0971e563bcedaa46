import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { RawImage } from '@huggingface/transformers';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { chosen } from '../../src/eval/datasets/dataset.ts';
import { DATASETS, openDataset } from '../../src/eval/datasets/index.ts';
import { pythonTexts } from '../../src/eval/datasets/python-list.ts';
import type { Context, Task } from '../../src/eval/task.ts';

/** Few rows of each dataset in its true schema; `generate.py` beside them wrote them. */
const at = (name: string): string => fileURLToPath(new URL(`../fixtures/datasets/${name}`, import.meta.url));

const scratch = mkdtempSync(path.join(os.tmpdir(), 'attentionpack-datasets-'));
afterAll(() => rmSync(scratch, { recursive: true }));

/** A copy of a fixture that a test may spoil. */
function copyOf(name: string): string {
  const copy = mkdtempSync(path.join(scratch, `${name}-`));
  cpSync(at(name), copy, { recursive: true });
  return copy;
}

async function all(task: Task, from = 0): Promise<Context[]> {
  const contexts: Context[] = [];
  for await (const context of task.contexts(from)) contexts.push(context);
  return contexts;
}

async function firstOf(task: Task): Promise<Context> {
  const [first] = await all(task);
  if (!first) throw new Error('no context');
  return first;
}

/** The colour of a picture's first pixel; it names the row. */
const colour = ({ data, channels }: RawImage): number[] => [...data.slice(0, channels)];
/** JPEG keeps a colour to a few steps. */
const near = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((x, i) => Math.abs(x - (b[i] as number)) <= 4);

describe('A-OKVQA', () => {
  test("asks with the paper's prompt and takes the letter", async () => {
    const task = await openDataset('a-okvqa', at('a-okvqa'));
    expect(task).toMatchObject({ name: 'a-okvqa', metricName: 'letter accuracy', size: 5 });
    const contexts = await all(task);
    expect(contexts.map(({ id }) => id)).toEqual([0, 1, 2, 3, 4].map((i) => `22MexNkBPpdZGX6sxbxV${i}`));
    const [question] = contexts[0]?.questions ?? [];
    expect(question).toEqual({
      text: "What is in the motorcyclist's mouth?\nA. toothpick\nB. food\nC. popsicle stick\nD. cigarette\nAnswer with the option's letter from the given choices directly.",
      answers: ['D'],
      choices: ['toothpick', 'food', 'popsicle stick', 'cigarette'],
    });
    expect(question && [task.metric('D. cigarette', question), task.metric('A', question)]).toEqual([1, 0]);
  });

  test('every row has its own picture as RGB, over shards, row groups and encodings, in any order', async () => {
    const contexts = await all(await openDataset('a-okvqa', at('a-okvqa')));
    for (const i of [4, 0, 3, 1, 2]) {
      const [picture, ...more] = (await contexts[i]?.images()) ?? [];
      expect(more).toEqual([]);
      expect(picture).toMatchObject({ width: 6, height: 4, channels: 3 });
      // Row 2 is grey: PIL's luma of (80, 10, 0).
      expect(near(picture ? colour(picture) : [], i === 2 ? [30, 30, 30] : [40 * i, 10, 0]), `row ${i}`).toBe(true);
    }
  });

  test('contexts begin where asked, and the same options give the same ones', async () => {
    const task = await openDataset('a-okvqa', at('a-okvqa'), { limit: 3, seed: 9 });
    expect(task.size).toBe(3);
    const ids = (await all(task)).map(({ id }) => id);
    expect((await all(task, 2)).map(({ id }) => id)).toEqual(ids.slice(2));
    const again = await openDataset('a-okvqa', at('a-okvqa'), { limit: 3, seed: 9 });
    expect((await all(again)).map(({ id }) => id)).toEqual(ids);
    expect(ids).toEqual([...ids].sort());
  });

  test.each([
    ['test', "data/test-00000-of-00001-d306bf3ad53b6618.parquet, row 0: no 'correct_choice_idx': the test split's answers are not public"],
    ['val', "no file of split 'val'; looked for val-*.parquet here and in folders below, found files of 'test', 'validation'"],
  ])('split %s: %s', async (split, message) => {
    const folder = at('a-okvqa');
    await expect(openDataset('a-okvqa', folder, { split })).rejects.toThrow(`a-okvqa in '${folder}': ${message}`);
  });

  test.each([
    ['index', "index.parquet, row 1: 'correct_choice_idx' is 4, of 4 choices"],
    ['choices', "choices.parquet, row 1: 'choices' is [], wanted a list of texts"],
    ['question', "question.parquet, row 1: 'question' is missing, wanted a text"],
    ['columns', "columns.parquet has no column 'question_id', 'choices'; it has image, question, correct_choice_idx,"],
  ])('a broken %s fails when opened: %s', async (split, message) => {
    await expect(openDataset('a-okvqa', at('a-okvqa-broken'), { split })).rejects.toThrow(message);
  });

  test.each([
    ['picture', "picture.parquet, row 1: 'image' has no bytes"],
    ['path', "path.parquet, row 1: 'image' has only a path, 'COCO_1.jpg'; take the form of the dataset that holds its pictures"],
    ['junk', "junk.parquet, row 1: 'image' is no picture that can be read (13 bytes)"],
  ])('a broken %s fails when it is asked for: %s', async (split, message) => {
    const [good, bad] = await all(await openDataset('a-okvqa', at('a-okvqa-broken'), { split }));
    await expect(good?.images()).resolves.toHaveLength(1);
    await expect(bad?.images()).rejects.toThrow(message);
  });

  test('a missing shard, a cut file and a folder that is none are told', async () => {
    const missing = copyOf('a-okvqa');
    rmSync(path.join(missing, 'data/validation-00001-of-00002-5f1bbd4e3e9ae1b0.parquet'));
    await expect(openDataset('a-okvqa', missing)).rejects.toThrow('1 of 2 files data/*-of-00002 are missing: number 1 counted from 0');
    const cut = copyOf('a-okvqa');
    const file = path.join(cut, 'data/validation-00001-of-00002-5f1bbd4e3e9ae1b0.parquet');
    writeFileSync(file, readFileSync(file).subarray(0, 3000));
    await expect(openDataset('a-okvqa', cut)).rejects.toThrow(
      'data/validation-00001-of-00002-5f1bbd4e3e9ae1b0.parquet cannot be read as parquet: ',
    );
    await expect(openDataset('a-okvqa', path.join(scratch, 'none'))).rejects.toThrow("none': no such folder");
    await expect(openDataset('a-okvqa', at('msvd-qa'))).rejects.toThrow('found no parquet file at all');
  });

  test("Hugging Face's converted branch, split as folder, is read too", async () => {
    const folder = mkdtempSync(path.join(scratch, 'converted-'));
    cpSync(at('a-okvqa-broken/junk.parquet'), path.join(folder, 'default/validation/0000.parquet'));
    expect((await openDataset('a-okvqa', folder)).size).toBe(2);
  });
});

describe('OCR-VQA', () => {
  test.each([
    ['ocr-vqa', 3, 0],
    ['ocr-vqa-original', 2, 200],
  ])('%s: a cover with its questions in short-answer form, scored by ROUGE-L', async (name, size, blue) => {
    const task = await openDataset('ocr-vqa', at(name));
    expect(task).toMatchObject({ metricName: 'ROUGE-L', size });
    const [first, second] = await all(task);
    expect(first).toMatchObject({ id: '0006496350', numImages: 1 });
    expect(first?.questions).toHaveLength(4);
    const question = first?.questions[1];
    expect(question).toEqual({
      text: 'What is the title of this book?\nAnswer the question using a single word or phrase.',
      answers: ["Sharpe's Sword"],
    });
    expect(question && task.metric("SHARPE'S SWORD", question)).toBe(1);
    const [cover] = (await second?.images()) ?? [];
    expect(near(cover ? colour(cover) : [], [20, 60, blue]), String(cover && colour(cover))).toBe(true);
  });

  test('questions per cover can be limited', async () => {
    const contexts = await all(await openDataset('ocr-vqa', at('ocr-vqa'), { questions: 2, limit: 2 }));
    expect(contexts.map(({ questions }) => questions.length)).toEqual([2, 2]);
  });

  test('the original form has splits by number, and says what is missing', async () => {
    const folder = copyOf('ocr-vqa-original');
    await expect(openDataset('ocr-vqa', folder, { split: 'train' })).rejects.toThrow(
      '1 of 1 pictures are missing, the first is images/000711835X.jpg (or .gif, .png)',
    );
    await expect(openDataset('ocr-vqa', folder, { split: 'validation' })).rejects.toThrow(
      "dataset.json has no entry of split 'validation' (2)",
    );
    await expect(openDataset('ocr-vqa', folder, { split: 'dev' })).rejects.toThrow(
      "no split 'dev' in dataset.json; it has train, validation, test",
    );
    rmSync(path.join(folder, 'images'), { recursive: true });
    await expect(openDataset('ocr-vqa', folder)).rejects.toThrow("dataset.json has no folder 'images' beside it");
    const entry = { questions: ['Who?', 'What?'], answers: ['I'], split: 3 };
    cpSync(at('ocr-vqa-original/images'), path.join(folder, 'images'), { recursive: true });
    writeFileSync(path.join(folder, 'dataset.json'), JSON.stringify({ '0006496350': entry }));
    await expect(openDataset('ocr-vqa', folder)).rejects.toThrow('dataset.json, 0006496350: 2 questions but 1 answers');
    writeFileSync(path.join(folder, 'dataset.json'), '{"a": ');
    await expect(openDataset('ocr-vqa', folder)).rejects.toThrow('dataset.json is not JSON: ');
  });
});

describe('MMMU', () => {
  test("all subjects with the benchmark's prompt for LLaVA-1.5, options and pictures by number", async () => {
    const task = await openDataset('mmmu', at('mmmu'));
    const [first, second, third] = await all(task);
    expect(task.size).toBe(3);
    expect(first).toMatchObject({ id: 'validation_Accounting_1', numImages: 1 });
    expect(first?.questions[0]).toEqual({
      text: '<image 1> What is the payback period?\n(A) $6\n(B) $7\n(C) It\'s 8\n(D) A "ninth"\n(E) 1\\2\n\n\nAnswer with the option\'s letter from the given choices directly.',
      answers: ['B'],
      choices: ['$6', '$7', "It's 8", 'A "ninth"', '1\\2\n'],
      kind: 'Accounting',
    });
    expect(second).toMatchObject({ numImages: 3 });
    expect((await second?.images())?.map(colour)).toEqual([
      [70, 0, 30],
      [70, 0, 60],
      [70, 0, 90],
    ]);
    expect(third?.questions[0]).toMatchObject({ answers: ['24/7', '3.429'], kind: 'Art_Theory' });
    const open = third?.questions[0];
    expect(open?.text).toBe('Give the ratio in <image 1>.\nAnswer the question using a single word or phrase.');
    expect(open && [task.metric('The ratio is 3.429', open), task.metric('4', open)]).toEqual([1, 0]);
  });

  test('the test split, whose answers are hidden, is refused', async () => {
    await expect(openDataset('mmmu', at('mmmu'), { split: 'test' })).rejects.toThrow(
      "Accounting/test-00000-of-00001.parquet, row 0: no answer: the test split's answers are not public; use split 'validation' or 'dev'",
    );
  });

  test('lists of texts are read as Python writes them', () => {
    expect(pythonTexts(`['a', "it's", 'say \\'x\\' "y"', 'b\\\\c\\n\\xe9\\u2026', '']`)).toEqual([
      'a',
      "it's",
      `say 'x' "y"`,
      'b\\c\né…',
      '',
    ]);
    expect(pythonTexts('[]')).toEqual([]);
    for (const wrong of ['', 'a', "['a'", "['a' 'b']", '[1, 2]', "['a',, 'b']"]) expect(pythonTexts(wrong), wrong).toBeUndefined();
  });
});

describe('every dataset', () => {
  test('says in one line what it asks and which files it wants, and refuses unknown names and odd options', async () => {
    for (const { about, files } of Object.values(DATASETS)) expect(`${about}${files}`).not.toContain('\n');
    await expect(openDataset('vqa', '.')).rejects.toThrow("no dataset 'vqa'; there are a-okvqa, ocr-vqa, mmmu, msvd-qa, msrvtt-qa");
    await expect(openDataset('toString', '.')).rejects.toThrow("no dataset 'toString'");
    await expect(openDataset('mmmu', at('mmmu'), { limit: 0 })).rejects.toThrow('limit must be a whole number >= 1; got 0');
    await expect(openDataset('mmmu', at('mmmu'), { frames: 1.5 })).rejects.toThrow('frames must be a whole number >= 1; got 1.5');
  });

  test('a sample is ascending, without repeats, of the size asked for, and depends on the seed', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: 300 }), fc.nat(1000), (total, limit, seed) => {
        const indices = chosen(total, { limit, seed });
        expect(indices).toHaveLength(Math.min(total, limit));
        expect(indices.every((index, i) => index < total && index > (indices[i - 1] ?? -1))).toBe(true);
        expect(chosen(total, { limit, seed })).toEqual(indices);
        expect(chosen(total, { limit })).toEqual(Array.from({ length: Math.min(total, limit) }, (_, i) => i));
      }),
      { seed: 6 },
    );
    expect(chosen(1000, { limit: 10, seed: 1 })).not.toEqual(chosen(1000, { limit: 10, seed: 2 }));
  });

  test('an id that stands twice gets a number', async () => {
    const folder = mkdtempSync(path.join(scratch, 'twice-'));
    cpSync(at('a-okvqa-broken/junk.parquet'), path.join(folder, 'validation-00000-of-00002.parquet'));
    cpSync(at('a-okvqa-broken/junk.parquet'), path.join(folder, 'validation-00001-of-00002.parquet'));
    const ids = (await all(await openDataset('a-okvqa', folder))).map(({ id }) => id);
    expect(ids).toEqual(['22MexNkBPpdZGX6sxbxV0', '22MexNkBPpdZGX6sxbxV1', '22MexNkBPpdZGX6sxbxV0#2', '22MexNkBPpdZGX6sxbxV1#2']);
    expect((await (await firstOf(await openDataset('a-okvqa', folder))).images()).map(colour)).toEqual([[0, 10, 0]]);
  });
});
