import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, it } from 'vitest';
import { FIRST_WORD, loadAssets, THINGS } from '../src/eval/drawing/assets.ts';
import { PATCH, render } from '../src/eval/drawing/render.ts';
import { COLOUR_NAMES, KINDS, type Scene } from '../src/eval/drawing/scene.ts';
import { rightAnswers } from './support/right-answers.ts';

const root = path.dirname(import.meta.dirname);
const start = (script: string, ...flags: string[]): ChildProcess =>
  spawn(process.execPath, ['--import', 'tsx', path.join(root, 'train', script), ...flags], { cwd: root, stdio: ['pipe', 'pipe', 'pipe'] });

async function output(child: ChildProcess): Promise<Buffer> {
  const chunks: Buffer[] = [];
  child.stdout?.on('data', (chunk: Buffer) => chunks.push(chunk));
  const [status] = await once(child, 'close');
  expect(status).toBe(0);
  return Buffer.concat(chunks);
}

const folder = mkdtempSync(path.join(tmpdir(), 'streams-'));
const pool = path.join(folder, 'pool.jsonl');

it('views: pixels, labels and globals come back as the scenes beside them are drawn', async () => {
  const flags = ['--seed', '3', '--batch', '5', '--limit', '4', '--sizes', '64x64,96x64', '--styles', 'held-out', '--scenes', pool];
  const bytes = await output(start('views.ts', ...flags));
  const scenes = readFileSync(pool, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Scene);
  expect(scenes).toHaveLength(20);
  const assets = await loadAssets('held-out');
  let at = 0;
  for (let batch = 0; batch < 4; batch++) {
    const length = bytes.readUInt32LE(at);
    const { count, height, width } = JSON.parse(bytes.subarray(at + 4, at + 4 + length).toString()) as Record<
      'count' | 'height' | 'width',
      number
    >;
    const pixels = at + 4 + length;
    const labels = pixels + count * height * width * 3;
    const perPicture = (height / PATCH) * (width / PATCH);
    const globals = labels + count * perPicture * 2;
    at = globals + count * 8;
    for (let i = 0; i < count; i++) {
      const scene = scenes[batch * 5 + i] as Scene;
      const drawn = render(scene, assets);
      expect([scene.width, scene.height]).toEqual([width, height]);
      const size = drawn.pixels.length;
      expect(bytes.subarray(pixels + i * size, pixels + (i + 1) * size).equals(drawn.pixels)).toBe(true);
      const read = Array.from(drawn.labels, (_, patch) => bytes.readInt16LE(labels + (i * perPicture + patch) * 2));
      expect(read).toEqual([...drawn.labels]);
      const [kind, colour, copies, concept] = [0, 1, 2, 3].map((j) => bytes.readInt16LE(globals + (i * 4 + j) * 2));
      expect([KINDS[kind as number], COLOUR_NAMES[colour as number]]).toEqual([scene.kind, scene.colour]);
      expect(copies).toBe(scene.kind === 'count' ? scene.items.length : 0);
      expect(concept).toBe(scene.kind === 'single' ? scene.items[0]?.thing : -1);
    }
  }
  expect(at).toBe(bytes.length);
});

it('views: a reader that closes the pipe ends it without a word', async () => {
  const child = start('views.ts', '--styles', 'held-out', '--batch', '64');
  let errors = '';
  child.stderr?.on('data', (chunk: Buffer) => (errors += chunk));
  await once(child.stdout as NonNullable<typeof child.stdout>, 'data');
  child.stdout?.destroy();
  const [status] = await once(child, 'close');
  expect([status, errors]).toEqual([0, '']);
});

it('views: the vocabulary names every thing, and a wrong mix is refused', async () => {
  const vocabulary = JSON.parse((await output(start('views.ts', '--vocabulary'))).toString()) as { things: string[]; words: number[] };
  expect(vocabulary).toMatchObject({ things: THINGS, words: [FIRST_WORD, THINGS.length], kinds: KINDS, colours: COLOUR_NAMES });
  const child = start('views.ts', '--mix', 'photo=1');
  const [status] = await once(child, 'close');
  expect(status).toBe(2);
});

it('conversations: as many as asked for, about views of the pool, with right answers', async () => {
  const scenes = readFileSync(pool, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Scene);
  const child = start('conversations.ts', '--scenes', pool, '--seed', '4');
  child.stdin?.end(
    '{"count":6,"images":[2,4],"questions":5,"later":0.5}\n{"count":2,"images":[3],"kinds":{"single":1},"questions":3,"types":{"order":1},"clip":true}\n',
  );
  const lines = (await output(child)).toString().trim().split('\n');
  const conversations = lines.map(
    (line) => JSON.parse(line) as { turns: { views: number[]; question: string; answer: string; choices?: string[] }[]; clip?: true },
  );
  expect(conversations.map(({ clip }) => clip === true)).toEqual([...Array(6).fill(false), true, true]);
  for (const { turns } of conversations) {
    const seen: Scene[] = [];
    for (const { views, question, answer, choices } of turns) {
      seen.push(...views.map((view) => scenes[view] as Scene));
      const right = rightAnswers(question.split('\n')[0] as string, seen);
      expect(right, question).toEqual([choices ? choices['ABCD'.indexOf(answer)] : answer]);
    }
  }
});
