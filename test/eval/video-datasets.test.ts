import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { RawImage } from '@huggingface/transformers';
import fc from 'fast-check';
import { afterAll, afterEach, describe, expect, test, vi } from 'vitest';
import { evenly } from '../../src/eval/datasets/frames.ts';
import { openDataset } from '../../src/eval/datasets/index.ts';
import type { Context, Task } from '../../src/eval/task.ts';

const at = (name: string): string => fileURLToPath(new URL(`../fixtures/datasets/${name}`, import.meta.url));

const scratch = mkdtempSync(path.join(os.tmpdir(), 'attentionpack-clips-'));
afterAll(() => rmSync(scratch, { recursive: true }));
afterEach(() => vi.unstubAllEnvs());

function copyOf(name: string): string {
  const copy = mkdtempSync(path.join(scratch, `${name}-`));
  cpSync(at(name), copy, { recursive: true });
  return copy;
}

async function all(task: Task): Promise<Context[]> {
  const contexts: Context[] = [];
  for await (const context of task.contexts()) contexts.push(context);
  return contexts;
}

/** Frame i of a clip has red 20 i. */
const frameNumbers = (frames: readonly RawImage[]): number[] => frames.map(({ data }) => Math.round((data[0] as number) / 20));

test('frames are spread evenly from the first to the last, in order', () => {
  expect(evenly(11, 8)).toEqual([0, 1, 2, 4, 5, 7, 8, 10]); // numpy.linspace(0, 10, 8, dtype=int)
  expect(evenly(300, 4)).toEqual([0, 99, 199, 299]);
  expect(evenly(3, 8)).toEqual([0, 0, 0, 0, 1, 1, 1, 2]);
  expect([evenly(9, 1), evenly(1, 2)]).toEqual([[4], [0, 0]]);
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 5000 }), fc.integer({ min: 2, max: 64 }), (total, count) => {
      const indices = evenly(total, count);
      expect(indices).toHaveLength(count);
      expect([indices[0], indices.at(-1)]).toEqual([0, total - 1]);
      const steps = indices.slice(1).map((index, i) => index - (indices[i] as number));
      expect(Math.min(...steps)).toBeGreaterThanOrEqual(0);
      expect(Math.max(...steps) - Math.min(...steps)).toBeLessThanOrEqual(1);
    }),
    { seed: 8 },
  );
});

describe('MSVD-QA from test_qa.json and folders of frames', () => {
  test('questions are grouped by clip, found by number or by its name on YouTube', async () => {
    const task = await openDataset('msvd-qa', at('msvd-qa'));
    expect(task).toMatchObject({ metricName: 'exact match', size: 3 });
    const contexts = await all(task);
    expect(contexts.map(({ id, questions }) => [id, questions.length])).toEqual([
      ['1301', 3],
      ['1302', 1],
      ['1303', 1],
    ]);
    expect(contexts[0]).toMatchObject({ isClip: true, numImages: 8 });
    const [question] = contexts[0]?.questions ?? [];
    expect(question).toEqual({
      text: 'who is slicing an onion?\nAnswer the question using a single word or phrase.',
      answers: ['woman'],
      kind: 'who',
    });
    expect(question && [task.metric('A woman.', question), task.metric('A girl', question)]).toEqual([1, 0]);
  });

  test('eight frames in order of their numbers, or as many as asked for', async () => {
    const [first, second] = await all(await openDataset('msvd-qa', at('msvd-qa')));
    expect(frameNumbers((await first?.images()) ?? [])).toEqual([0, 1, 2, 4, 5, 7, 8, 10]);
    expect(frameNumbers((await second?.images()) ?? [])).toEqual([0, 0, 0, 0, 1, 1, 1, 2]);
    const [four] = await all(await openDataset('msvd-qa', at('msvd-qa'), { frames: 4, limit: 1, questions: 1 }));
    expect(four).toMatchObject({ numImages: 4, questions: [{ answers: ['woman'] }] });
    expect(frameNumbers((await four?.images()) ?? [])).toEqual([0, 3, 6, 10]);
  });

  test('missing clips, questions and answers are told before anything runs', async () => {
    const folder = copyOf('msvd-qa');
    rmSync(path.join(folder, 'frames/vid1302'), { recursive: true });
    await expect(openDataset('msvd-qa', folder)).rejects.toThrow(
      `msvd-qa in '${folder}': 1 of 3 clips are missing, the first is vid1302 or -7KMZQEsJW4_205_208; looked in ., videos, video, YouTubeClips,`,
    );
    await expect(openDataset('msvd-qa', folder, { split: 'train' })).rejects.toThrow(
      "no questions of split 'train'; looked for train_qa.json, train_q.json with train_a.json, train-*.parquet",
    );
    writeFileSync(
      path.join(folder, 'val_qa.json'),
      '[{"video_id": 1301, "question": "who?", "answer": "man"}, {"question": "who?", "answer": "man"}]',
    );
    await expect(openDataset('msvd-qa', folder, { split: 'validation' })).rejects.toThrow(
      "val_qa.json, row 1: none of 'video_name', 'video_id', 'video'",
    );
    writeFileSync(path.join(folder, 'val_qa.json'), '[{"video_id": 1301, "question": "who?"}]');
    await expect(openDataset('msvd-qa', folder, { split: 'val' })).rejects.toThrow(
      "val_qa.json, row 0: 'answer' is missing, wanted a text",
    );
    writeFileSync(path.join(folder, 'val_qa.json'), '[7]');
    await expect(openDataset('msvd-qa', folder, { split: 'val' })).rejects.toThrow('val_qa.json, row 0: 7 where an object was expected');
    writeFileSync(path.join(folder, 'youtube_mapping.txt'), 'one two three\n');
    await expect(openDataset('msvd-qa', folder)).rejects.toThrow("youtube_mapping.txt, line 1: 'one two three', wanted two names");
  });

  test('a folder without frames and a frame that is none are told', async () => {
    const folder = copyOf('msvd-qa');
    writeFileSync(path.join(folder, 'frames/vid1302/2.jpg'), 'text');
    rmSync(path.join(folder, 'frames/-8y1Q0rA3n8_108_115/1.jpg'));
    const [, bad, empty] = await all(await openDataset('msvd-qa', folder));
    await expect(bad?.images()).rejects.toThrow('frames/vid1302/2.jpg is no picture that can be read (4 bytes)');
    await expect(empty?.images()).rejects.toThrow('folder frames/-8y1Q0rA3n8_108_115 has no frames (.jpg, .png, .webp)');
  });
});

describe('MSRVTT-QA', () => {
  test('test_q.json and test_a.json are joined by question_id', async () => {
    const folder = copyOf('msrvtt-qa');
    rmSync(path.join(folder, 'videos'), { recursive: true });
    for (const clip of ['video7010', 'video7011']) mkdirSync(path.join(folder, 'frames', clip), { recursive: true });
    const contexts = await all(await openDataset('msrvtt-qa', folder));
    expect(contexts.map(({ id, questions }) => [id, questions.flatMap(({ answers }) => answers)])).toEqual([
      ['video7010', ['talk', 'man']],
      ['video7011', ['car']],
    ]);
    writeFileSync(path.join(folder, 'test_a.json'), '[{"answer": "talk", "question_id": "v_0"}]');
    await expect(openDataset('msrvtt-qa', folder)).rejects.toThrow('test_q.json, row 1: no answer to question_id v_1 in test_a.json');
    writeFileSync(path.join(folder, 'test_a.json'), '[{"answer": "talk"}]');
    await expect(openDataset('msrvtt-qa', folder)).rejects.toThrow('test_q.json has 3 questions, test_a.json 1 answers');
    rmSync(path.join(folder, 'test_a.json'));
    await expect(openDataset('msrvtt-qa', folder)).rejects.toThrow('test_q.json has no test_a.json beside it');
  });

  test('parquet questions with names of files are read, frames from linked folders too', async () => {
    const folder = copyOf('msrvtt-qa-parquet');
    mkdirSync(path.join(folder, 'videos'));
    for (const clip of readdirSync(path.join(folder, 'frames'))) {
      symlinkSync(path.join(folder, 'frames', clip), path.join(folder, 'videos', clip));
    }
    const contexts = await all(await openDataset('msrvtt-qa', folder, { frames: 2 }));
    expect(contexts.map(({ id }) => id)).toEqual(['video7010', 'video7011']);
    expect(frameNumbers((await contexts[1]?.images()) ?? [])).toEqual([0, 1]);
  });

  test('video files without ffmpeg are refused when opened, with what to do', async () => {
    vi.stubEnv('PATH', scratch);
    await expect(openDataset('msrvtt-qa', at('msrvtt-qa'))).rejects.toThrow(
      "clips are video files, and there is no 'ffmpeg' on PATH; install it, or put each clip's frames as pictures into a folder of its name",
    );
  });

  const hasFfmpeg = spawnSync('ffmpeg', ['-version']).status === 0;
  test.skipIf(!hasFfmpeg)('video files give the same frames as ffmpeg decodes them (needs ffmpeg)', async () => {
    const [ten, four] = await all(await openDataset('msrvtt-qa', at('msrvtt-qa'), { frames: 5 }));
    expect(frameNumbers((await ten?.images()) ?? [])).toEqual([0, 2, 4, 6, 9]);
    expect(frameNumbers((await four?.images()) ?? [])).toEqual([0, 0, 1, 2, 3]);
    const folder = copyOf('msrvtt-qa');
    writeFileSync(path.join(folder, 'videos/video7011.mkv'), 'no video');
    const [, bad] = await all(await openDataset('msrvtt-qa', folder));
    await expect(bad?.images()).rejects.toThrow('ffmpeg cannot read videos/video7011.mkv: ');
  });
});
