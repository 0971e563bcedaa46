import { beforeAll, describe, expect, it } from 'vitest';
import { loadAssets } from '../../src/eval/drawing/assets.ts';
import { mixSeed, seeded } from '../../src/eval/drawing/random.ts';
import { SceneSampler } from '../../src/eval/drawing/sample.ts';
import { KINDS } from '../../src/eval/drawing/scene.ts';
import type { Context } from '../../src/eval/task.ts';
import { drawContext } from '../../src/eval/tasks/drawn-task.ts';
import { DRAWN_TASKS, RECIPES_OF_TASKS } from '../../src/eval/tasks/index.ts';
import { rightAnswers } from '../support/right-answers.ts';

const take = async (contexts: AsyncIterable<Context>, count: number): Promise<Context[]> => {
  const taken: Context[] = [];
  for await (const context of contexts) {
    taken.push(context);
    if (taken.length === count) break;
  }
  return taken;
};

const samplers = new Map<string, SceneSampler>();
beforeAll(async () => {
  for (const split of ['train', 'held-out'] as const) samplers.set(split, new SceneSampler(await loadAssets(split), split));
}, 60_000);
const samplerOf = (split: string | undefined) => samplers.get(split ?? 'train') as SceneSampler;

describe.each(Object.keys(DRAWN_TASKS))('task %s', (name) => {
  const open = DRAWN_TASKS[name]?.open as (typeof DRAWN_TASKS)[string]['open'];

  it('gives the same contexts in the same order, from any index on', async () => {
    const [all, from] = [await take(open().contexts(), 5), await take(open().contexts(3), 2)];
    const plain = ({ id, numImages, questions }: Context) => ({ id, numImages, questions });
    expect(from.map(plain)).toEqual(all.slice(3).map(plain));
    const [one, other] = [all[3] as Context, from[0] as Context];
    const [images, again] = [await one.images(), await other.images()];
    expect(images).toHaveLength(one.numImages);
    expect(Buffer.from(images[0]?.data ?? []).equals(Buffer.from(again[0]?.data ?? []))).toBe(true);
    expect([images[0]?.width, images[0]?.height, images[0]?.channels]).toEqual([64, 64, 3]);
  });

  it('draws in the size and from the seed asked for', async () => {
    const [context] = await take(open({ size: 96, seed: 5 }).contexts(), 1);
    const [image] = (await context?.images()) ?? [];
    expect([image?.width, image?.height]).toEqual([96, 96]);
    const [plain] = await take(open().contexts(), 1);
    expect(plain?.id).not.toBe(context?.id);
  });

  it('gives full score to its own answers', async () => {
    const task = open();
    for (const context of await take(task.contexts(), 5)) {
      for (const question of context.questions) expect(task.metric(question.answers[0] as string, question)).toBe(1);
    }
  });
});

it('every question of the tasks has one right answer', () => {
  for (const recipe of RECIPES_OF_TASKS) {
    for (let index = 0; index < 8; index++) {
      const { scenes, asked } = drawContext(recipe, samplerOf(recipe.split), index, 64, 1);
      for (const { question, answer, choices } of asked) {
        const right = rightAnswers(question.split('\n')[0] as string, scenes);
        expect(right, `${recipe.name}: ${question}`).toHaveLength(1);
        expect(choices ? choices['ABCD'.indexOf(answer)] : answer).toBe(right[0]);
      }
    }
  }
});

it('no picture of a task is one of the pictures trained on', () => {
  const trained = new Set<string>();
  const random = seeded(mixSeed('views', 'train', '1'));
  for (let i = 0; i < 4000; i++) trained.add(JSON.stringify(samplerOf('train').sample(random.pick(KINDS), 64, 64, random)));
  for (const recipe of RECIPES_OF_TASKS) {
    for (let index = 0; index < 20; index++) {
      for (const scene of drawContext(recipe, samplerOf(recipe.split), index, 64, 1).scenes)
        expect(trained.has(JSON.stringify(scene))).toBe(false);
    }
  }
});

it('a size that cannot be drawn is refused with those that can', () => {
  expect(() => DRAWN_TASKS.name?.open({ size: 70 })).toThrow('pictures of 70 pixels cannot be drawn; use a multiple of 16 from 64 to 320');
});
